//! Processes that are killed while they save, prune, publish and restore: real ones, at random moments.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bedplate_checkpoint::{Depth, Store};

use crate::{Model, SMALL, folder_in_memory, info, last, one, resumed};

const FOLDER: &str = "BEDPLATE_TEST_CHECKPOINTS";
const KILLS: u64 = 400;

/// Not a test: what is killed. Takes over, resumes, goes on, and saves and prunes until then; tells each step that is
/// published.
#[test]
#[ignore = "runs until it is killed: started by the test below"]
fn victim() {
    let Ok(path) = std::env::var(FOLDER) else { return };
    let store = Store::at(Path::new(&path));
    let mut writer = store.take_over("run", "a victim", 0).unwrap();
    let resume = store.resume_with(|checkpoint| {
        Model::expect(checkpoint, 0, SMALL)?;
        Model::expect(checkpoint, 1, SMALL)
    });
    let mut step = 0;
    if let Some((checkpoint, ())) = resume.unwrap().found {
        writer.go_on_from(&checkpoint);
        step = checkpoint.id().step;
    }
    loop {
        step += 1;
        let save = one(step, 2);
        for rank in 0..2 {
            writer.save_part(save, rank, &Model::at(step, rank, SMALL).state()).unwrap();
        }
        writer.publish(save, 1, &info(step), Depth::Structure).unwrap();
        // Not through the test's own output, which is held back.
        std::io::stdout().write_all(format!("published {step}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        store.prune(&last(2), Depth::Structure).unwrap();
    }
}

#[test]
fn hundreds_of_kills_at_random_moments_lose_no_published_step() {
    // A process that is killed loses nothing that the system has, synced or not: in memory there is time for more kills.
    let (folder, store) = folder_in_memory();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut published, mut in_the_middle) = (0, 0);
    for kill in 0..KILLS {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::victim", "--ignored", "--nocapture", "--quiet"])
            .env(FOLDER, folder.path().join("run"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut steps = BufReader::new(victim.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("published ")?.1.parse::<u64>().ok());
        // While it starts and restores, or so many saves later: a slow machine gets there too.
        let told = steps.by_ref().take(random.usize(0..4)).last();
        std::thread::sleep(Duration::from_micros(random.u64(0..15_000)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        published = steps.last().or(told).unwrap_or(0).max(published);
        in_the_middle += usize::from(!store.unfinished().unwrap_or_default().is_empty());
        let (found, passed_over) = resumed(&store, 2).unwrap();
        assert!(found.unwrap_or(0) >= published, "kill {kill}: {published} was published, {found:?} is resumed");
        assert_eq!(passed_over, [0; 0], "kill {kill}: a save is complete or invisible");
    }
    assert!(published > KILLS / 2 && in_the_middle > 0, "{published} published, {in_the_middle} killed in the middle");
    assert!(store.steps().unwrap().len() <= 4);
}
