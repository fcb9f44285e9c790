//! The power goes at every point of a run: what was not synced is lost, in every way that it can be.

use std::sync::Arc;

use bedplate_checkpoint::{Depth, Files, Publication, Store};

use crate::sim::Sim;
use crate::{Model, SMALL, info, last, one, resumed, save};

/// After a crash: the newest step that was promised is there or a newer one, right to the last byte; nothing that is
/// visible is broken; and the store can be written to again and is swept clean.
fn check(sim: &Sim, ranks: u32, promised: Option<u64>) {
    let store = Store::on(Arc::new(sim.clone()));
    let (found, passed_over) = resumed(&store, ranks).unwrap();
    assert!(found >= promised, "step {promised:?} was published and durable; {found:?} is resumed");
    assert_eq!(passed_over, [0; 0], "a save is complete or invisible");
    for id in store.steps().unwrap() {
        // The older ones too: a removal takes all of one or nothing.
        store.checkpoint(id).and_then(|checkpoint| checkpoint.verify(Depth::Data)).unwrap();
    }
    a_part_that_is_seen_is_whole(sim);
    let mut writer = store.take_over("run", "after", 0).unwrap();
    if ranks == 1 {
        save(&mut writer, 1000).unwrap();
        assert_eq!(resumed(&store, 1).unwrap().0, Some(1000));
    }
    let left = sim.list("").unwrap();
    assert!(!left.iter().any(|name| name.contains(".tmp") || name.contains(".gone")), "left behind: {left:?}");
}

/// The publisher may be on another machine, which knows of a part only what its file says.
fn a_part_that_is_seen_is_whole(sim: &Sim) {
    for staging in sim.list("").unwrap().into_iter().filter(|name| name.contains(".tmp-") && name.starts_with("step-"))
    {
        if staging.contains(".gone") {
            continue;
        }
        let names = sim.list(&staging).unwrap();
        for part in names.iter().filter(|name| name.ends_with(".json") && name.starts_with("rank-")) {
            let text = String::from_utf8(sim.read(&format!("{staging}/{part}"), 1 << 20).unwrap()).unwrap();
            for file in text.split('"').filter(|text| text.ends_with(".safetensors")) {
                assert!(names.iter().any(|name| name == file), "{staging} has {part}, and not its {file}");
            }
        }
    }
}

/// Crashes after every operation, in `ways` ways each.
fn crash_everywhere(sim: &Sim, ranks: u32, ways: u64) -> usize {
    let operations = sim.operations();
    for cut in 0..=operations {
        for way in 0..ways {
            let (crashed, promised) = sim.crashed(cut, &mut fastrand::Rng::with_seed(way << 32 | cut as u64));
            check(&crashed, ranks, promised);
        }
    }
    (operations + 1) * ways as usize
}

#[test]
fn a_run_of_one_rank_loses_nothing_that_was_published() {
    let sim = Sim::new();
    let store = Store::on(Arc::new(sim.clone()));
    for start in [0, 3] {
        let mut writer = store.take_over("run", "a pod", 0).unwrap();
        // Restored, and gone on from: the next save names files again that the last writer wrote.
        if let Some((checkpoint, ())) =
            store.resume_with(|checkpoint| Model::expect(checkpoint, 0, SMALL)).unwrap().found
        {
            writer.go_on_from(&checkpoint);
        }
        for step in (start + 1..=start + 3).map(|step| step * 10) {
            save(&mut writer, step).unwrap();
            sim.mark(step);
            store.prune(&last(2), Depth::Structure).unwrap();
        }
        // Left behind, so that the next writer has something to sweep away, and may crash at that.
        writer.save_part(one(start * 10 + 35, 1), 0, &Model::at(35, 0, SMALL).state()).unwrap();
    }
    let crashes = crash_everywhere(&sim, 1, 8);
    assert!(crashes > 1000, "only {crashes} crashes");
}

#[test]
fn ranks_that_save_together_lose_nothing_that_was_published() {
    let sim = Sim::new();
    let store = Store::on(Arc::new(sim.clone()));
    let mut first = store.take_over("run", "a pod", 0).unwrap();
    let mut second = store.join("run", first.generation()).unwrap();
    for step in [10, 20, 30] {
        let save = one(step, 2);
        second.save_part(save, 1, &Model::at(step, 1, SMALL).state()).unwrap();
        assert_eq!(second.publish(save, 1, &info(step), Depth::Data).unwrap(), Publication::Waiting(vec![0]));
        first.save_part(save, 0, &Model::at(step, 0, SMALL).state()).unwrap();
        assert!(matches!(first.publish(save, 0, &info(step), Depth::Data).unwrap(), Publication::Published(_)));
        sim.mark(step);
        store.prune(&last(1), Depth::Structure).unwrap();
    }
    let crashes = crash_everywhere(&sim, 2, 6);
    assert!(crashes > 500, "only {crashes} crashes");
}

#[test]
fn a_save_whose_last_sync_was_left_out_would_be_caught_by_these_tests() {
    // The mark is set before the publication: as a store that says "durable" too early would do it.
    let sim = Sim::new();
    let mut writer = Store::on(Arc::new(sim.clone())).take_over("run", "a pod", 0).unwrap();
    sim.mark(10);
    save(&mut writer, 10).unwrap();
    let lost = (0..=sim.operations()).any(|cut| {
        let (crashed, promised) = sim.crashed(cut, &mut fastrand::Rng::with_seed(cut as u64));
        resumed(&Store::on(Arc::new(crashed)), 1).unwrap().0 < promised
    });
    assert!(lost);
}
