//! Saving and resuming, in a folder of a real filesystem.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bedplate_checkpoint::{
    Best, DType, Data, Depth, Direction, Error, Info, ReadAt, Region, Request, Retention, Saved, State, Store, Tensor,
};

use crate::sim::Sim;
use crate::{Model, SMALL, folder, folder_in_memory, id, info, last, noise, resumed, save, take_over, told};

fn file_of(folder: &Path, step: u64) -> PathBuf {
    let folder = folder.join("run").join(id(step, 1).to_string());
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let name = path.to_string_lossy();
            name.ends_with(".safetensors") && !name.contains("blobs")
        })
        .unwrap()
}

#[test]
fn what_was_saved_is_resumed_whether_it_is_a_few_bytes_or_many_pieces() {
    // 34 MiB: several pieces for several threads, tensors that begin and end within blocks and pages.
    for scale in [SMALL, 12_000] {
        let (_folder, store) = folder();
        let mut writer = take_over(&store);
        for step in [7, 8] {
            writer.save(step, &Model::at(step, 0, scale).state(), &info(step)).unwrap();
        }
        let found = store.resume_with(|checkpoint| Model::expect(checkpoint, 0, scale)).unwrap().found;
        assert_eq!(found.unwrap().0.id().step, 8);
        assert!(store.resume(Depth::Data).unwrap().passed_over.is_empty());
    }
}

#[test]
fn a_run_that_never_saved_begins_anew() {
    let (_folder, store) = folder();
    assert_eq!(resumed(&store, 1).unwrap(), (None, vec![]));
    take_over(&store);
    assert_eq!(resumed(&store, 1).unwrap(), (None, vec![]));
}

#[test]
fn frozen_weights_are_written_once_and_live_as_long_as_a_checkpoint_has_them() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let first = save(&mut writer, 1).unwrap();
    let second = save(&mut writer, 2).unwrap();
    assert_eq!(first.linked, 0);
    // The adapter, the counter and the random state have changed; the other blob is the smaller part of their file.
    let changed = 8 + SMALL as u64 * 600 + 100 + 17;
    assert_eq!(second.written, changed);
    assert_eq!(second.written + second.linked, first.written);
    let shared = std::fs::metadata(file_of(folder.path(), 1)).unwrap();
    assert_eq!(shared.nlink(), 2);

    // Every further step writes only what changes, and the first can go.
    assert_eq!(save(&mut writer, 3).unwrap().written, changed);
    store.prune(&last(1), Depth::Data).unwrap();
    assert_eq!(store.steps().unwrap(), [id(3, 1)]);
    assert_eq!(resumed(&store, 1).unwrap(), (Some(3), vec![]));
}

#[test]
fn a_new_writer_shares_files_only_of_what_it_has_read_itself() {
    let (_folder, store) = folder();
    save(&mut take_over(&store), 1).unwrap();
    let written = |read: fn(&bedplate_checkpoint::Checkpoint) -> bedplate_checkpoint::Result<()>, step| {
        let mut writer = take_over(&store);
        let (checkpoint, ()) = store.resume_with(read).unwrap().found.unwrap();
        writer.go_on_from(&checkpoint);
        save(&mut writer, step).unwrap()
    };
    assert_eq!(written(|_| Ok(()), 2).linked, 0, "what nobody read may be damaged");
    assert!(written(|checkpoint| Model::expect(checkpoint, 0, SMALL), 3).linked > 0);
    assert!(written(|checkpoint| checkpoint.verify(Depth::Data), 4).linked > 0);
    let base = |checkpoint: &bedplate_checkpoint::Checkpoint| checkpoint.tensor("base.weight").map(|_| ());
    assert_eq!(written(base, 5).linked, SMALL as u64 * 2048);
}

#[test]
fn where_there_are_no_links_everything_is_written() {
    /// FAT, many FUSE and object stores behind one.
    struct NoLinks(Sim);
    files_but_for!(impl for NoLinks {
        fn link(&self, _: &str, _: &str) -> std::io::Result<()> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }; and shown list read open create_folder create rename remove_file remove_folder sync_folder free);
    let store = Store::on(Arc::new(NoLinks(Sim::new())));
    let mut writer = take_over(&store);
    let first = save(&mut writer, 1).unwrap();
    assert_eq!(save(&mut writer, 2).unwrap(), Saved { linked: 0, ..first });
    assert_eq!(resumed(&store, 1).unwrap(), (Some(2), vec![]));
}

/// A store where each read of a file is counted, as an object store bills it, and where one byte may be read wrong.
struct Watched(Sim, Arc<Reads>);

#[derive(Default)]
struct Reads {
    count: AtomicUsize,
    wrong: Mutex<Option<u64>>,
}

files_but_for!(impl for Watched {
    fn open(&self, path: &str) -> std::io::Result<Box<dyn ReadAt>> {
        Ok(Box::new(WatchedFile(self.0.open(path)?, Arc::clone(&self.1))))
    }
}; and shown list read create_folder create link rename remove_file remove_folder sync_folder free);

struct WatchedFile(Box<dyn ReadAt>, Arc<Reads>);

impl ReadAt for WatchedFile {
    fn bytes(&self) -> std::io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.1.count.fetch_add(1, Ordering::Relaxed);
        let read = self.0.read_at(buffer, offset)?;
        let wrong = self.1.wrong.lock().unwrap().and_then(|at| at.checked_sub(offset));
        if let Some(byte) = wrong.and_then(|at| buffer[..read].get_mut(at as usize)) {
            *byte ^= 1;
        }
        Ok(read)
    }
}

#[test]
fn a_model_of_many_small_tensors_is_not_read_by_a_request_for_each() {
    let reads = Arc::new(Reads::default());
    let store = Store::on(Arc::new(Watched(Sim::new(), Arc::clone(&reads))));
    // Whole pages and odd ends, and a large one among them.
    let sizes = (0..3000).map(|index| if index == 700 { 20 << 20 } else { [4096, 8192, 12, 333][index % 4] });
    let model: Vec<_> =
        sizes.enumerate().map(|(index, bytes)| (format!("w{index}"), noise(index as u64, bytes))).collect();
    let tensors = model.iter().map(|(name, bytes)| Tensor {
        name,
        dtype: DType::U8,
        shape: vec![bytes.len() as u64],
        global: None,
        data: Data::There(bytes),
    });
    take_over(&store).save(1, &State { tensors: tensors.collect(), ..State::default() }, &info(1)).unwrap();
    let read = |names: &[usize]| {
        let resume = store.resume_with(|checkpoint| {
            let before = reads.count.load(Ordering::Relaxed);
            let mut memory: Vec<Vec<u8>> = names.iter().map(|index| vec![1; model[*index].1.len()]).collect();
            let requests = names.iter().zip(&mut memory);
            let requests =
                requests.map(|(index, into)| Request { name: &model[*index].0, rank: None, region: None, into });
            let read = checkpoint.read(requests.collect())?;
            for (index, found) in names.iter().zip(&memory) {
                assert!(*found == model[*index].1, "{}", model[*index].0);
            }
            Ok((read, reads.count.load(Ordering::Relaxed) - before))
        });
        resume.map(|resume| resume.found.unwrap().1)
    };
    let all: Vec<usize> = (0..model.len()).rev().collect();
    let (bytes, requests) = read(&all).unwrap();
    assert_eq!(bytes, model.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    assert!(requests < 12, "{requests} requests");
    // Of some, what lies between them is not read.
    let (bytes, requests) = read(&[1, 2, 9, 2001]).unwrap();
    assert_eq!((bytes, requests), (8192 + 12 + 8192 + 8192, 4));
    // A flipped bit is that of one of them.
    let (checkpoint, ()) = store.resume_with(|_| Ok(())).unwrap().found.unwrap();
    let part = &checkpoint.parts()[0];
    let record = part.tensors.iter().find(|record| record.name == "w1234").unwrap();
    *reads.wrong.lock().unwrap() = Some(record.start + 5);
    let error = read(&all).unwrap_err().to_string();
    assert!(error.contains("of `w1234`, have the checksum"), "{error}");
}

#[test]
fn a_slice_reads_the_blocks_it_touches_and_no_others() {
    let (_folder, store) = folder();
    let (rows, columns) = (12_u64, 1 << 20);
    let data: Vec<u8> = (0..rows * columns).map(|byte| (byte % 251) as u8).collect();
    let tensor =
        Tensor { name: "w", dtype: DType::U8, shape: vec![rows, columns], global: None, data: Data::There(&data) };
    let state = State { tensors: vec![tensor], ..State::default() };
    take_over(&store).save(1, &state, &info(1)).unwrap();
    let checkpoint = store.checkpoint(id(1, 1)).unwrap();
    let read = |region: Region, step: usize| {
        let mut into = vec![0; region.shape.iter().product::<u64>() as usize];
        let shape = region.shape.clone();
        let offset = region.offset.clone();
        let request = bedplate_checkpoint::Request { name: "w", rank: None, region: Some(region), into: &mut into };
        let bytes = checkpoint.read(vec![request]).unwrap();
        for row in 0..shape[0] {
            for column in (0..shape[1]).step_by(step) {
                let at = (offset[0] + row) * columns + offset[1] + column;
                assert_eq!(into[(row * shape[1] + column) as usize], data[at as usize]);
            }
        }
        bytes
    };
    let mib = 1 << 20;
    // A row lies over two blocks, as a page of header is before it.
    assert_eq!(read(Region { offset: vec![5, 0], shape: vec![1, columns] }, 1), 2 * mib);
    assert_eq!(read(Region { offset: vec![5, 9000], shape: vec![1, 1] }, 1), mib);
    assert!(read(Region { offset: vec![2, 500_000], shape: vec![3, 7] }, 1) <= 3 * mib);
    assert_eq!(read(Region { offset: vec![0, 1], shape: vec![12, columns - 2] }, 997), rows * columns);
    assert_eq!(read(Region { offset: vec![12, 0], shape: vec![0, columns] }, 1), 0);
}

#[test]
fn what_a_checkpoint_does_not_have_is_told() {
    let (folder, store) = folder();
    save(&mut take_over(&store), 1).unwrap();
    let checkpoint = store.checkpoint(id(1, 1)).unwrap();
    let region = Region { offset: vec![0, 500], shape: vec![1, 13] };
    let errors = [
        checkpoint.tensor("bias").unwrap_err(),
        checkpoint.slice("base.weight", Some(3), None).unwrap_err(),
        checkpoint.slice("base.weight", None, Some(region)).unwrap_err(),
        checkpoint.blob(0, "cuda").unwrap_err(),
        checkpoint.blob(1, "rng").unwrap_err(),
    ];
    let text: Vec<String> = errors.iter().map(|error| told(error, &folder)).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    /run/step-000000000001-g00000001 cannot give the tensor `bias`: no rank saved one of that name
    /run/step-000000000001-g00000001 cannot give the tensor `base.weight`: rank 3 of 1 has none of that name
    /run/step-000000000001-g00000001 cannot give [1, 13] at [0, 500] of `base.weight`: its shape is [2, 512]
    /run/step-000000000001-g00000001 cannot give the blob `cuda` of rank 0: the rank saved 2 blobs: loader, rng
    /run/step-000000000001-g00000001 cannot give the blob `rng` of rank 1: it was saved by 1 ranks
    ");
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let tensor = |name, shape: &[u64], data| Tensor {
        name,
        dtype: DType::F32,
        shape: shape.to_vec(),
        global: None,
        data: Data::There(data),
    };
    let data = [0; 8];
    let long = "x".repeat(5000);
    let cases = [
        vec![tensor("w", &[3], &data)],
        vec![tensor("w", &[u64::MAX, 2], &data)],
        vec![tensor("w", &[2], &data), tensor("w", &[2], &data)],
        vec![tensor("__metadata__", &[2], &data)],
        vec![tensor("", &[2], &data)],
        vec![tensor(&long, &[2], &data)],
    ];
    let mut text = Vec::new();
    for tensors in cases {
        let error = writer.save(1, &State { tensors, ..State::default() }, &Info::default()).unwrap_err();
        text.push(told(&error, &folder));
    }
    insta::assert_snapshot!(text.join("\n"), @r"
    the tensor `w` of F32 [3] needs 12 bytes and has 8
    the tensor `w` of F32 [18446744073709551615, 2] needs an impossible number of bytes and has 8
    it has a name twice
    `__metadata__` is no name of a tensor
    `` is no name of a tensor
    `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` is no name of a tensor
    ");
    let user = [("notes".to_owned(), "x".repeat(2 << 20).into())].into_iter().collect();
    let error = writer.save(1, &State::default(), &Info { user, ..Info::default() }).unwrap_err();
    assert!(error.to_string().contains("save large things as blobs"), "{error}");
    assert_eq!(store.steps().unwrap(), []);
    let left: Vec<_> =
        std::fs::read_dir(folder.path().join("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_loss_of_nan_is_kept_as_one_and_is_never_the_best() {
    let (_folder, store) = folder();
    let mut writer = take_over(&store);
    for (step, loss) in [(1, 0.1 + 0.2), (2, 0.25), (3, f64::NAN), (4, f64::INFINITY), (5, 0.9)] {
        let info = Info { metrics: [("loss".to_owned(), loss)].into(), ..Info::default() };
        writer.save(step, &Model::at(step, 0, SMALL).state(), &info).unwrap();
    }
    let metric = |step| store.checkpoint(id(step, 1)).unwrap().manifest().metrics["loss"].0;
    assert_eq!(metric(1).to_bits(), (0.1_f64 + 0.2).to_bits());
    assert!(metric(3).is_nan());
    assert_eq!(metric(4), f64::INFINITY);
    let best = Best { metric: "loss".to_owned(), direction: Direction::Min, count: 1.try_into().unwrap() };
    let pruning = store.prune(&Retention { best: Some(best), ..last(1) }, Depth::Data).unwrap();
    assert_eq!(store.steps().unwrap(), [id(5, 1), id(2, 1)]);
    insta::assert_snapshot!(pruning.told.join("\n"), @"step-000000000003-g00000001: `loss` is NaN, which is never the best");
}

#[test]
fn prune_keeps_the_last_good_one_though_newer_ones_look_whole() {
    let (folder, store) = folder();
    for step in 1..=3 {
        save(&mut take_over(&store), step).unwrap();
    }
    // Of the newest two, bytes of data flipped: only reading all of it shows that.
    for step in [2, 3] {
        let path = std::fs::read_dir(folder.path().join("run").join(id(step, step).to_string())).unwrap();
        let path =
            path.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().ends_with("0.safetensors"));
        let path = path.unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 + 17] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    }
    let pruning = store.prune(&last(1), Depth::Data).unwrap();
    assert!(store.steps().unwrap().contains(&id(1, 1)));
    assert_eq!(resumed(&store, 1).unwrap().0, Some(1));
    assert_eq!(pruning.told.len(), 2, "{:?}", pruning.told);
}

#[test]
fn a_folder_of_another_run_is_refused_and_stays_as_it_was() {
    let (folder, store) = folder();
    save(&mut take_over(&store), 1).unwrap();
    let error = store.take_over("other", "me", 0).map(|_| ()).unwrap_err();
    insta::assert_snapshot!(told(&error, &folder), @"/run holds the checkpoints of run `run`, not of `other`: give each run a folder of its own, or set the run id to `run` to go on with it");
    assert_eq!(std::fs::read_dir(folder.path().join("run/writers")).unwrap().count(), 1, "the right owner is still it");

    // The file that says so is gone; the checkpoints say it.
    std::fs::remove_file(folder.path().join("run/store.json")).unwrap();
    assert!(matches!(store.take_over("other", "me", 0).map(|_| ()), Err(Error::OtherRun { .. })));
    take_over(&store);
    assert_eq!(resumed(&store, 1).unwrap().0, Some(1));

    // A checkpoint that was copied here from elsewhere.
    let other = Store::at(&folder.path().join("other"));
    save(&mut other.take_over("other", "me", 0).unwrap(), 9).unwrap();
    let name = id(9, 1).to_string();
    std::fs::rename(folder.path().join("other").join(&name), folder.path().join("run").join(&name)).unwrap();
    assert!(matches!(resumed(&store, 1), Err(Error::OtherRun { .. })));
}

#[test]
fn a_removal_by_hand_never_races_with_a_save_that_shares_files() {
    let (_folder, store) = folder_in_memory();
    let mut writer = take_over(&store);
    let done = std::sync::atomic::AtomicBool::new(false);
    let linked = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                store.prune(&last(1), Depth::Structure).unwrap();
            }
        });
        let steps = 1..=200;
        let linked = steps.map(|step| save(&mut writer, step).unwrap().linked).filter(|linked| *linked > 0).count();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        linked
    });
    assert!(linked > 0, "nothing was shared");
    for id in store.steps().unwrap() {
        store.checkpoint(id).and_then(|checkpoint| checkpoint.verify(Depth::Data)).unwrap();
    }
    assert_eq!(resumed(&store, 1).unwrap(), (Some(200), vec![]));
}
