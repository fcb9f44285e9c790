//! A store in a bucket as a training run meets it: killed uploads, stale pods, damage, a server that goes away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bedplate_checkpoint::{
    Access, DType, Data, Depth, Error, Global, Info, Publication, Region, Retention, Save, State, StepId, Store,
    Tensor, Writer,
};
use bedplate_s3::{BUCKET, Server};

/// Bytes of the large tensor: three parts of an upload, and a bit.
const LARGE: usize = (25 << 20) + 12;

/// Bytes that are other ones for each step, and in each part.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut block = vec![0; bytes.min(1 << 16)];
    fastrand::Rng::with_seed(seed).fill(&mut block);
    let mut data = block.repeat(bytes / block.len() + 1);
    data.truncate(bytes);
    for (number, place) in (0..bytes).step_by(1 << 20).enumerate() {
        data[place] ^= number as u8;
    }
    data
}

/// The state of a step: in parts, or small.
struct Model {
    weight: Vec<u8>,
    rng: Vec<u8>,
}

impl Model {
    fn at(step: u64, bytes: usize) -> Self {
        Self { weight: noise(step, bytes), rng: noise(step ^ 7, 100) }
    }

    fn state(&self) -> State<'_> {
        let shape = vec![self.weight.len() as u64 / 4];
        let weight = Tensor { name: "weight", dtype: DType::F32, shape, global: None, data: Data::There(&self.weight) };
        State { tensors: vec![weight], blobs: vec![("rng", &self.rng)], ..State::default() }
    }
}

fn access(server: &Server) -> Access {
    Access { patience: Duration::from_secs(2), environment: server.environment() }
}

fn store(server: &Server) -> Store {
    Store::open(Path::new(&format!("s3://{BUCKET}/run-7")), &access(server)).unwrap()
}

fn take_over(store: &Store) -> Writer {
    store.take_over("run", "the test", 1_790_000_000).unwrap()
}

fn save(writer: &mut Writer, step: u64, bytes: usize) -> bedplate_checkpoint::Result<()> {
    writer.save(step, &Model::at(step, bytes).state(), &Info::default()).map(|_| ())
}

fn one(step: u64, world_size: u32) -> Save {
    Save { step, attempt: 0, world_size }
}

fn id(step: u64, generation: u64) -> StepId {
    StepId { step, generation }
}

/// The step that is resumed, after every byte of it was read and compared; and why newer ones were not.
fn resumed(store: &Store, bytes: usize) -> (Option<u64>, Vec<String>) {
    let resume = store
        .resume_with(|checkpoint| {
            let wanted = Model::at(checkpoint.id().step, bytes);
            assert!(checkpoint.tensor("weight")? == wanted.weight, "another tensor than was saved, and no error");
            assert!(checkpoint.blob(0, "rng")? == wanted.rng);
            Ok(())
        })
        .unwrap();
    let why = resume.passed_over.into_iter().map(|one| one.reason).collect();
    (resume.found.map(|(checkpoint, ())| checkpoint.id().step), why)
}

/// A text without the port that is new each time.
fn told(text: &str, server: &Server) -> String {
    text.replace(&server.address().to_string(), "127.0.0.1:9000")
}

#[test]
fn a_run_saves_resumes_and_prunes_in_a_bucket_as_in_a_folder() {
    let server = Server::start();
    let written = Arc::new(AtomicU64::new(0));
    let store = store(&server).counted(Arc::clone(&written));
    assert_eq!(store.place(), "s3://checkpoints/run-7");
    assert_eq!(resumed(&store, LARGE).0, None);
    let mut writer = take_over(&store);
    for step in 1..=3 {
        save(&mut writer, step, LARGE).unwrap();
    }
    assert!(written.load(Ordering::Relaxed) >= 3 * LARGE as u64);
    assert_eq!(server.parts(), 0);
    assert_eq!(store.steps().unwrap(), [id(3, 1), id(2, 1), id(1, 1)]);
    assert_eq!(resumed(&store, LARGE), (Some(3), vec![]));
    store.checkpoint(id(2, 1)).unwrap().verify(Depth::Data).unwrap();

    // A slice costs the blocks that it touches.
    let mut slice = vec![0; 400];
    let region = Some(Region { offset: vec![3_000_000], shape: vec![100] });
    let request = bedplate_checkpoint::Request { name: "weight", rank: None, region, into: &mut slice };
    let read = store.checkpoint(id(3, 1)).unwrap().read(vec![request]).unwrap();
    assert!(read <= 1 << 20, "{read}");
    assert_eq!(slice, Model::at(3, LARGE).weight[12_000_000..12_000_400]);

    let rules = Retention { last: NonZeroUsize::MIN, every: None, best: None };
    store.prune(&rules, Depth::Structure).unwrap();
    assert_eq!(store.steps().unwrap(), [id(3, 1)]);
    let left = std::fs::read_dir(server.object("run-7")).unwrap().filter(|entry| {
        let folder = entry.as_ref().unwrap().path();
        folder.is_dir() && std::fs::read_dir(folder).unwrap().next().is_some()
    });
    assert_eq!(left.count(), 2, "the newest and the writers");
    assert!(store.measure(1 << 20, Duration::ZERO).unwrap() > 0.0);
    assert_eq!(store.unfinished().unwrap(), []);
}

#[test]
fn ranks_that_publish_at_once_publish_one_checkpoint() {
    let server = Server::start();
    let store = store(&server);
    let writer = take_over(&store);
    let generation = writer.generation();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4_u64)
            .map(|rank| {
                let mut writer = store.join("run", generation).unwrap();
                scope.spawn(move || {
                    let data = vec![rank as u8; 64];
                    let global = Some(Global { shape: vec![4, 64], offset: vec![rank, 0] });
                    let tensor =
                        Tensor { name: "w", dtype: DType::U8, shape: vec![1, 64], global, data: Data::There(&data) };
                    let state = State { tensors: vec![tensor], ..State::default() };
                    writer.save_part(one(1, 4), rank as u32, &state).unwrap();
                    loop {
                        match writer.publish(one(1, 4), rank as u32, &Info::default(), Depth::Structure).unwrap() {
                            Publication::Published(found) => return found,
                            Publication::Waiting(_) => std::thread::sleep(Duration::from_millis(5)),
                        }
                    }
                })
            })
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap(), id(1, 1));
        }
    });
    let whole: Vec<u8> = (0..4).flat_map(|rank| [rank; 64]).collect();
    assert_eq!(store.checkpoint(id(1, 1)).unwrap().tensor("w").unwrap(), whole);
}

#[test]
fn a_stale_pod_is_told_who_took_over() {
    let server = Server::start();
    let store = store(&server);
    let mut stale = store.take_over("run", "pod trainer-0 (uid 1a2b)", 1).unwrap();
    save(&mut stale, 1, 100).unwrap();
    stale.save_part(one(2, 1), 0, &Model::at(2, LARGE).state()).unwrap();
    let mut new = store.take_over("run", "pod trainer-0 (uid 9f8e)", 2).unwrap();
    let errors = [
        stale.publish(one(2, 1), 0, &Info::default(), Depth::Structure).map(|_| ()).unwrap_err(),
        save(&mut stale, 3, 100).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            error.to_string(),
            "writer 1 of s3://checkpoints/run-7 was replaced by writer 2 (pod trainer-0 (uid 9f8e)): this process is stale and publishes nothing; stop it"
        );
    }
    assert_eq!(store.steps().unwrap(), [id(1, 1)]);
    save(&mut new, 2, 100).unwrap();
    assert_eq!(resumed(&store, 100), (Some(2), vec![]));
}

/// The conditional put at work: all looks came before the new pod, and the write after it.
#[test]
fn a_stale_pod_that_slept_between_its_last_look_and_the_publication_publishes_nothing_either() {
    let server = Server::start();
    let store = store(&server);
    let other = store.clone();
    let mut stale = take_over(&store);
    server.before(
        |request| request.method() == "PUT" && request.uri().path().ends_with("manifest.json"),
        move || {
            let mut new = other.take_over("run", "the new pod", 0).unwrap();
            assert_eq!(other.steps().unwrap(), []);
            save(&mut new, 5, 100).unwrap();
        },
    );
    let error = save(&mut stale, 7, 100).unwrap_err();
    assert!(matches!(error, Error::Fenced { mine: 1, newest: 2, .. }), "{error}");
    assert_eq!(store.steps().unwrap(), [id(5, 2)]);
    assert_eq!(resumed(&store, 100), (Some(5), vec![]));
}

#[test]
fn of_pods_that_start_at_once_each_gets_a_generation_of_its_own_and_the_last_one_writes() {
    let server = Server::start();
    let store = store(&server);
    let writers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| take_over(&store))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut generations: Vec<u64> = writers.iter().map(Writer::generation).collect();
    generations.sort_unstable();
    assert_eq!(generations, [1, 2, 3, 4, 5, 6]);
    for mut writer in writers {
        let newest = writer.generation() == 6;
        assert_eq!(save(&mut writer, 1, 100).is_ok(), newest);
    }
}

#[test]
fn a_save_that_was_given_up_is_never_published_and_the_next_attempt_is() {
    let server = Server::start();
    let store = store(&server);
    let mut writer = take_over(&store);
    writer.save_part(one(1, 2), 0, &Model::at(1, 100).state()).unwrap();
    writer.give_up(one(1, 2)).unwrap();
    let error = writer.save_part(one(1, 2), 1, &Model::at(1, 100).state()).unwrap_err();
    assert!(matches!(error, Error::GivenUp { step: 1, .. }), "{error}");
    let again = Save { attempt: 1, ..one(1, 2) };
    for rank in 0..2 {
        writer.save_part(again, rank, &Model::at(1, 100).state()).unwrap();
    }
    writer.publish(again, 0, &Info::default(), Depth::Data).unwrap();
    assert_eq!(store.steps().unwrap(), [id(1, 1)]);
    // Whoever opens it anew finds the second attempt.
    let fresh = self::store(&server);
    assert_eq!(fresh.checkpoint(id(1, 1)).unwrap().blob(1, "rng").unwrap(), Model::at(1, 100).rng);
    // And one rank alone takes the next number by itself.
    writer.give_up(one(2, 1)).unwrap();
    save(&mut writer, 2, 100).unwrap();
    assert_eq!(resumed(&store, 100).0, Some(2));
}

#[test]
fn a_flipped_byte_in_an_object_costs_the_newest_step_and_says_why() {
    let server = Server::start();
    let store = store(&server);
    let mut writer = take_over(&store);
    save(&mut writer, 1, LARGE).unwrap();
    save(&mut writer, 2, LARGE).unwrap();
    let name = id(2, 1).to_string();
    let object = server.object(&format!("run-7/{name}/{name}.rank-00000.safetensors"));
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[9_000_000] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let (found, why) = resumed(&store, LARGE);
    assert_eq!(found, Some(1));
    assert!(
        why[0].starts_with(&format!("s3://checkpoints/run-7/{name}/{name}.rank-00000.safetensors is damaged: the bytes 8388608..9437184, of `weight`, have the checksum ")),
        "{why:?}"
    );
    // An object that is gone, and one that was cut.
    std::fs::remove_file(&object).unwrap();
    let (found, why) = resumed(&store, LARGE);
    assert_eq!((found, why[0].contains("there is no such object")), (Some(1), true), "{why:?}");
    std::fs::write(&object, [0; 5000]).unwrap();
    assert!(resumed(&store, LARGE).1[0].contains("it has 5000 bytes, not"));
}

#[test]
fn a_server_that_is_gone_in_the_middle_is_told_in_bounded_time_and_costs_no_checkpoint() {
    let mut server = Server::start();
    let store = |server: &Server| {
        let access = Access { patience: Duration::from_millis(200), environment: server.environment() };
        Store::open(Path::new(&format!("s3://{BUCKET}/run-7")), &access).unwrap()
    };
    let (mut published, mut parts_left) = (1, 0);
    save(&mut take_over(&store(&server)), 1, LARGE).unwrap();
    for requests in [1, 2, 4, 6, 8, 10, 11, 12, 13, 14, 16] {
        let mut writer = take_over(&store(&server));
        server.stop_after(requests);
        let begun = Instant::now();
        let error = save(&mut writer, published + 1, LARGE).unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        let text = told(&error, &server);
        assert!(text.contains("s3://checkpoints/run-7") && text.contains("http://127.0.0.1:9000"), "{text}");
        assert!(!text.contains(bedplate_s3::SECRET));
        server = server.again();
        let store = store(&server);
        let (found, why) = resumed(&store, LARGE);
        assert!(found >= Some(published) && why.is_empty(), "{requests}: {found:?} {why:?}");
        parts_left += server.parts();
        let mut writer = take_over(&store);
        assert_eq!(server.parts(), 0, "{requests}: parts are left of an upload");
        published = found.unwrap() + 1;
        save(&mut writer, published, LARGE).unwrap();
        assert_eq!(resumed(&store, LARGE), (Some(published), vec![]));
    }
    assert!(parts_left > 0, "no upload was broken off");
}

#[test]
fn what_no_retry_mends_is_one_clear_line() {
    let mut server = Server::start();
    let with = |changes: &[(&str, &str)], url: &str| {
        let mut access = access(&server);
        for (name, value) in changes {
            access.environment.retain(|(known, _)| known != name);
            if !value.is_empty() {
                access.environment.push(((*name).to_owned(), (*value).to_owned()));
            }
        }
        let failed = Store::open(Path::new(url), &access).and_then(|store| {
            let error = store.steps().unwrap_err();
            // A writer is told the same.
            assert!(store.take_over("run", "me", 0).is_err());
            Err::<(), _>(error)
        });
        told(&failed.unwrap_err().to_string(), &server)
    };
    let url = "s3://checkpoints/run-7";
    let texts = [
        with(&[("AWS_SECRET_ACCESS_KEY", "wrong")], url),
        with(&[("AWS_ACCESS_KEY_ID", "AKIANOBODY")], url),
        with(&[], "s3://elsewhere/run-7"),
        with(&[("AWS_ALLOW_HTTP", "")], url),
        with(&[], "s4://checkpoints/run-7"),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r"
    cannot list s3://checkpoints/run-7: http://127.0.0.1:9000 refuses the credentials (SignatureDoesNotMatch): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the pod, and their rights to `checkpoints`
    cannot list s3://checkpoints/run-7: http://127.0.0.1:9000 refuses the credentials (NotSignedUp): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the pod, and their rights to `checkpoints`
    cannot list s3://elsewhere/run-7: http://127.0.0.1:9000 has no bucket `elsewhere`: create it, or correct the URL
    cannot list s3://checkpoints/run-7: http://127.0.0.1:9000 has no TLS: give an https:// address, or allow that with AWS_ALLOW_HTTP=true
    `s4` is no scheme of an object store: give one of s3, s3a, gs, az, abfs, abfss
    ");
    let away = store(&server);
    server.stop();
    let begun = Instant::now();
    insta::assert_snapshot!(told(&away.steps().unwrap_err().to_string(), &server), @"cannot list s3://checkpoints/run-7: no answer from http://127.0.0.1:9000 in 2 s (Connection refused (os error 111)): see that it runs, and check AWS_ENDPOINT_URL and AWS_REGION");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_service_that_ignores_the_condition_of_a_put_is_no_place_for_checkpoints() {
    let server = Server::start();
    let store = store(&server);
    let object = server.object("run-7/writers/00000001.json");
    // As if it did: the object is not there when it is put again.
    let seen = object.clone();
    server.before(
        move |request| request.method() == "PUT" && request.uri().path().contains("writers") && seen.exists(),
        move || std::fs::remove_file(object).unwrap(),
    );
    let error = store.take_over("run", "me", 0).map(|_| ()).unwrap_err().to_string();
    insta::assert_snapshot!(told(&error, &server), @"cannot write s3://checkpoints/run-7/writers/00000001.json: http://127.0.0.1:9000 ignores the condition of a put (If-None-Match), so a stale writer could publish over a newer one: use a service that knows it, or a folder");
    take_over(&store);
}

const ENDPOINT: &str = "BEDPLATE_TEST_VICTIM";

/// Not a test: what is killed. Takes over, resumes, goes on, and saves and prunes until then; tells each step that is
/// published.
#[test]
#[ignore = "runs until it is killed: started by the test below"]
fn victim() {
    let Ok(url) = std::env::var(ENDPOINT) else { return };
    let store = Store::open(Path::new(&url), &Access::from_env(Duration::from_secs(2))).unwrap();
    let mut writer = take_over(&store);
    let mut step = resumed(&store, LARGE).0.unwrap_or(0);
    loop {
        step += 1;
        save(&mut writer, step, LARGE).unwrap();
        // Not through the test's own output, which is held back.
        std::io::stdout().write_all(format!("published {step}\n").as_bytes()).unwrap();
        std::io::stdout().flush().unwrap();
        store.prune(&Retention { last: NonZeroUsize::MIN, every: None, best: None }, Depth::Structure).unwrap();
    }
}

#[test]
fn kills_at_random_moments_of_an_upload_lose_no_published_step_and_leave_no_parts() {
    let server = Server::start();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut published, mut in_the_middle) = (0, 0);
    for kill in 0..24 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--ignored", "--nocapture", "--quiet"])
            .env(ENDPOINT, format!("s3://{BUCKET}/run-7"))
            .envs(server.environment())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut steps = BufReader::new(victim.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit_once("published ")?.1.parse::<u64>().ok());
        let told = steps.by_ref().take(random.usize(0..3)).last();
        // So many requests later, in whichever it is then.
        let until = server.served() + random.u64(0..60);
        let begun = Instant::now();
        while server.served() < until && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        published = steps.last().or(told).unwrap_or(0).max(published);
        let store = store(&server);
        in_the_middle += usize::from(!store.unfinished().unwrap().is_empty());
        let (found, why) = resumed(&store, LARGE);
        assert!(found.unwrap_or(0) >= published, "kill {kill}: {published} was published, {found:?} is resumed");
        assert_eq!(why, [""; 0], "kill {kill}: a save is complete or invisible");
    }
    assert!(published > 5 && in_the_middle > 3, "{published} published, {in_the_middle} killed in the middle");
    take_over(&store(&server));
    assert_eq!(server.parts(), 0);
    assert_eq!(store(&server).unfinished().unwrap(), []);
}
