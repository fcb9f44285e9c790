//! One writer a run: a pod that was replaced and still runs publishes nothing.

use std::io;
use std::sync::{Arc, Mutex};

use bedplate_checkpoint::{Depth, Error, Store};

use crate::sim::Sim;
use crate::{Model, SMALL, folder, id, info, one, resumed, save, take_over, told};

#[test]
fn a_stale_pod_is_told_who_took_over() {
    let (folder, store) = folder();
    let mut stale = store.take_over("run", "pod trainer-0 (uid 1a2b)", 1).unwrap();
    save(&mut stale, 1).unwrap();
    stale.save_part(one(2, 1), 0, &Model::at(2, 0, SMALL).state()).unwrap();

    let mut new = store.take_over("run", "pod trainer-0 (uid 9f8e)", 2).unwrap();
    let errors = [
        stale.publish(one(2, 1), 0, &info(2), Depth::Structure).map(|_| ()).unwrap_err(),
        // Before it writes gigabytes for nothing.
        stale.save_part(one(3, 1), 0, &Model::at(3, 0, SMALL).state()).map(|_| ()).unwrap_err(),
        save(&mut stale, 3).map(|_| ()).unwrap_err(),
        store.join("run", stale.generation()).map(|_| ()).unwrap_err(),
    ];
    for error in &errors {
        insta::allow_duplicates! {
            insta::assert_snapshot!(told(error, &folder), @"writer 1 of /run was replaced by writer 2 (pod trainer-0 (uid 9f8e)): this process is stale and publishes nothing; stop it");
        }
    }
    assert_eq!(store.steps().unwrap(), [id(1, 1)]);
    save(&mut new, 2).unwrap();
    assert_eq!(resumed(&store, 1).unwrap(), (Some(2), vec![]));
}

#[test]
fn a_new_pod_that_died_before_it_could_sweep_has_taken_over_all_the_same() {
    let (folder, store) = folder();
    let mut stale = take_over(&store);
    stale.save_part(one(1, 1), 0, &Model::at(1, 0, SMALL).state()).unwrap();
    // Only its file is there, and not one byte in it.
    std::fs::write(folder.path().join("run/writers/00000002.json"), "").unwrap();
    let error = stale.publish(one(1, 1), 0, &info(1), Depth::Structure).map(|_| ()).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"writer 1 of /run was replaced by writer 2 (which has not yet said who it is): this process is stale and publishes nothing; stop it");
    assert_eq!(store.steps().unwrap(), []);
}

/// Does something right before the rename that publishes.
struct Before<F: Fn() + Send + Sync>(Sim, Mutex<Option<F>>);

files_but_for!(impl [F: Fn() + Send + Sync] for Before<F> {
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if from.starts_with("step-")
            && to.starts_with("step-")
            && !from.contains('/')
            && !to.contains(".gone")
            && let Some(act) = self.1.lock().unwrap().take()
        {
            act();
        }
        self.0.rename(from, to)
    }
}; and shown list read open create_folder create link remove_file remove_folder sync_folder free);

#[test]
fn a_stale_pod_that_slept_between_its_last_look_and_the_rename_publishes_nothing_either() {
    let sim = Sim::new();
    let store = Store::on(Arc::new(sim.clone()));
    let other = store.clone();
    // The new pod takes over while the stale one sleeps.
    let act = move || {
        let mut new = other.take_over("run", "the new pod", 0).unwrap();
        save(&mut new, 5).unwrap();
    };
    let stale = Store::on(Arc::new(Before(sim, Mutex::new(Some(act)))));
    let mut writer = take_over(&stale);
    let error = save(&mut writer, 7).unwrap_err();
    assert!(matches!(error, Error::Fenced { mine: 1, newest: 2, .. }), "{error}");
    assert_eq!(store.steps().unwrap(), [id(5, 2)]);
    assert_eq!(resumed(&store, 1).unwrap(), (Some(5), vec![]));
}

#[test]
fn of_pods_that_start_at_once_each_gets_a_generation_of_its_own_and_the_last_one_writes() {
    let (_folder, store) = folder();
    let writers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| take_over(&store))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut generations: Vec<u64> = writers.iter().map(|writer| writer.generation()).collect();
    generations.sort_unstable();
    assert_eq!(generations, [1, 2, 3, 4, 5, 6, 7, 8]);
    for mut writer in writers {
        let newest = writer.generation() == 8;
        assert_eq!(save(&mut writer, 1).is_ok(), newest);
    }
}

#[test]
fn a_step_is_published_once_by_a_writer_and_again_by_the_next() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    save(&mut writer, 1).unwrap();
    let error = save(&mut writer, 1).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"/run has step-000000000001-g00000001 already: a step is published once by a writer, and it is whole");
    save(&mut take_over(&store), 1).unwrap();
    assert_eq!(store.steps().unwrap(), [id(1, 2), id(1, 1)]);
    assert_eq!(resumed(&store, 1).unwrap(), (Some(1), vec![]));
}

#[test]
fn generations_go_on_though_somebody_deleted_the_folder_of_the_writers() {
    let (folder, store) = folder();
    for step in 1..=3 {
        save(&mut take_over(&store), step).unwrap();
    }
    std::fs::remove_dir_all(folder.path().join("run/writers")).unwrap();
    assert_eq!(take_over(&store).generation(), 4);
    for _ in 0..20 {
        take_over(&store);
    }
    assert_eq!(std::fs::read_dir(folder.path().join("run/writers")).unwrap().count(), 17);
}
