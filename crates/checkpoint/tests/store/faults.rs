//! A full disk, a filesystem that turns read-only, an error of the device: at every operation of a save.

use std::io;
use std::process::Command;
use std::sync::Arc;

use bedplate_checkpoint::{Depth, Error, Store};

use crate::sim::Sim;
use crate::{Model, id, info, last, resumed, save, take_over};

fn full() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

fn read_only() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::ROFS.raw_os_error())
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

/// A save and a removal with a fault at each of their operations; gives the messages.
fn every_operation(with: fn() -> io::Error, for_ever: bool) -> Vec<String> {
    let mut messages = Vec::new();
    for operation in 0.. {
        let sim = Sim::new();
        let store = Store::on(Arc::new(sim.clone()));
        let mut writer = take_over(&store);
        save(&mut writer, 1).unwrap();
        save(&mut writer, 2).unwrap();
        let before = sim.operations();
        sim.fail(before + operation, with, for_ever);
        let saved = save(&mut writer, 3);
        let pruned = store.prune(&last(2), Depth::Structure);
        let came_through = sim.operations() < before + operation;
        sim.heal();

        // Nothing was lost; and what was said to be done is done.
        let (found, passed_over) = resumed(&store, 1).unwrap();
        assert!(found >= Some(if saved.is_ok() { 3 } else { 2 }), "{found:?} after {saved:?}");
        assert_eq!(passed_over, [0; 0]);
        // It goes on with the next step, in the same process and in a new one.
        save(&mut writer, 4).unwrap();
        assert_eq!(resumed(&store, 1).unwrap(), (Some(4), vec![]));
        let mut next = take_over(&store);
        save(&mut next, 5).unwrap();
        assert_eq!(resumed(&store, 1).unwrap(), (Some(5), vec![]));
        let errors = [saved.map(|_| ()).err(), pruned.map(|_| ()).err()];
        messages.extend(errors.into_iter().flatten().map(|error| error.to_string()));
        if came_through {
            break;
        }
    }
    messages.sort();
    messages.dedup();
    messages
}

#[test]
fn a_full_disk_at_any_operation_is_one_clear_error_and_loses_nothing() {
    let messages = every_operation(full, false);
    assert!(messages.len() > 5, "{messages:#?}");
    let message =
        messages.iter().find(|message| message.starts_with("no space") && message.contains("safetensors")).unwrap();
    insta::assert_snapshot!(message, @"no space for sim:/step-000000000003-g00000001.tmp-0/step-000000000003-g00000001.rank-00000.blobs.safetensors: it needs 4.11 KiB and 0 B are free; the checkpoints before it are whole: free space, or keep fewer (`bedplate checkpoint prune`)");
    assert!(messages.iter().all(|message| message.contains("space")), "{messages:#?}");
}

#[test]
fn a_filesystem_that_turns_read_only_is_one_clear_error_and_loses_nothing() {
    for message in every_operation(read_only, true) {
        assert!(message.contains("mounted read-only, or turned so after an error of its device"), "{message}");
    }
}

#[test]
fn an_error_of_the_device_at_any_operation_loses_nothing() {
    every_operation(broken, false);
    every_operation(broken, true);
}

/// A small filesystem of its own, where the test may mount one.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(kind: &str, options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", kind, "-o", options, "none"]).arg(folder.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: only root may mount a filesystem");
        None
    }

    fn remount(&self, options: &str) {
        let done =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_real_full_disk_keeps_what_it_has_and_has_room_again() {
    let Some(mounted) = Mounted::new("tmpfs", "size=24m") else { return };
    let store = Store::at(&mounted.0.path().join("run"));
    let mut writer = take_over(&store);
    // 9 MB each: the third does not fit.
    let mut at = |step| writer.save(step, &Model::at(step, step as u32, 3000).state(), &info(step));
    at(1).unwrap();
    at(2).unwrap();
    let error = at(3).unwrap_err();
    assert!(matches!(error, Error::NoSpace { needed, free: Some(free), .. } if needed > free), "{error}");
    assert!(store.resume(Depth::Data).unwrap().found.is_some_and(|(checkpoint, ())| checkpoint.id() == id(2, 1)));
    store.prune(&last(1), Depth::Data).unwrap();
    at(3).unwrap();
    assert!(store.resume(Depth::Data).unwrap().found.is_some_and(|(checkpoint, ())| checkpoint.id() == id(3, 1)));
}

#[test]
fn a_real_filesystem_that_turned_read_only_can_still_be_resumed_from() {
    let Some(mounted) = Mounted::new("tmpfs", "size=24m") else { return };
    let store = Store::at(&mounted.0.path().join("run"));
    let mut writer = take_over(&store);
    save(&mut writer, 1).unwrap();
    mounted.remount("ro");
    let error = save(&mut writer, 2).unwrap_err();
    assert!(error.to_string().contains("Read-only file system (os error 30): the filesystem is mounted"), "{error}");
    assert!(store.take_over("run", "a new pod", 0).is_err());
    assert_eq!(resumed(&store, 1).unwrap(), (Some(1), vec![]));
    mounted.remount("rw");
    save(&mut writer, 2).unwrap();
    assert_eq!(resumed(&store, 1).unwrap(), (Some(2), vec![]));
}

#[test]
fn a_filesystem_that_cannot_go_around_the_page_cache_takes_checkpoints_all_the_same() {
    // ramfs says EINVAL to O_DIRECT, as many network and FUSE filesystems do.
    let Some(mounted) = Mounted::new("ramfs", "rw") else { return };
    let store = Store::at(&mounted.0.path().join("run"));
    take_over(&store).save(1, &Model::at(1, 0, 6000).state(), &info(1)).unwrap();
    let found = store.resume_with(|checkpoint| Model::expect(checkpoint, 0, 6000)).unwrap().found;
    assert_eq!(found.unwrap().0.id(), id(1, 1));
}
