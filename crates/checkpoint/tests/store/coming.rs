//! A state that is saved while it is still being copied.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bedplate_checkpoint::{Coming, DType, Data, Error, Request, Saved, State, StepId, Store, Tensor, Writer};

use crate::{folder, info, noise, take_over};

/// A tensor of which so many bytes are copied; `None` when the copy broke off.
struct Copied {
    bytes: Vec<u8>,
    there: Mutex<Option<usize>>,
    changed: Condvar,
}

impl Copied {
    fn new(bytes: Vec<u8>, there: usize) -> Self {
        Self { bytes, there: Mutex::new(Some(there)), changed: Condvar::new() }
    }

    fn whole(bytes: Vec<u8>) -> Self {
        let there = bytes.len();
        Self::new(bytes, there)
    }

    fn is_at(&self, there: Option<usize>) {
        *self.there.lock().unwrap() = there;
        self.changed.notify_all();
    }
}

impl Coming for Copied {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn wait(&self, range: Range<usize>) -> Option<&[u8]> {
        let there = self.there.lock().unwrap();
        let there = self.changed.wait_while(there, |there| there.is_some_and(|there| there < range.end)).unwrap();
        there.map(|_| &self.bytes[range])
    }
}

fn save(writer: &mut Writer, step: u64, tensors: &[(&str, &Copied)]) -> Result<(StepId, Saved), Error> {
    let tensors = tensors.iter().map(|(name, copied)| Tensor {
        name,
        dtype: DType::U8,
        shape: vec![copied.bytes.len() as u64],
        global: None,
        data: Data::Coming(*copied),
    });
    writer.save(step, &State { tensors: tensors.collect(), ..State::default() }, &info(step))
}

fn read(store: &Store, name: &str, bytes: usize) -> (u64, Vec<u8>) {
    let resume = store.resume_with(|checkpoint| {
        let mut into = vec![0; bytes];
        checkpoint.read(vec![Request { name, rank: None, region: None, into: &mut into }])?;
        Ok(into)
    });
    let (checkpoint, bytes) = resume.unwrap().found.unwrap();
    (checkpoint.id().step, bytes)
}

const LARGE: usize = 20 << 20;

#[test]
fn what_is_copied_is_written_while_the_rest_is_copied() {
    let (_folder, store) = folder();
    let written = Arc::new(AtomicU64::new(0));
    let mut writer = store.counted(Arc::clone(&written)).take_over("run-7", "test", 1).unwrap();
    // A snapshot copies the first block of each array before the rest of any: a save may wait for these.
    let model =
        |seed, there| (Copied::new(noise(seed, LARGE), there), Copied::new(noise(seed + 1, LARGE / 2), 1 << 20));
    // Also the second time, when most has changed: then nobody has to know whether the rest did.
    for step in [1, 2] {
        let (weight, zero) = model(step * 10, 18 << 20);
        let before = written.load(Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(60);
                while written.load(Ordering::Relaxed) < before + (16 << 20) && Instant::now() < end {
                    thread::sleep(Duration::from_millis(1));
                }
                let begun = written.load(Ordering::Relaxed) >= before + (16 << 20);
                // Otherwise the save fails, and with it the test.
                weight.is_at(begun.then_some(LARGE));
                zero.is_at(begun.then_some(LARGE / 2));
            });
            save(&mut writer, step, &[("weight", &weight), ("zero", &zero)]).unwrap();
        });
        assert_eq!(read(&store, "weight", LARGE), (step, weight.bytes));
        assert_eq!(read(&store, "zero", LARGE / 2), (step, zero.bytes));
    }
}

#[test]
fn a_copy_that_breaks_off_in_the_middle_publishes_nothing_and_the_checkpoint_before_stands() {
    let (folder, store) = folder();
    let mut writer = take_over(&store);
    let weight = Copied::whole(noise(1, LARGE));
    save(&mut writer, 1, &[("weight", &weight)]).unwrap();
    for there in [0, 1 << 20, 19 << 20] {
        let broken = Copied::new(noise(2, LARGE), there);
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                broken.is_at(None);
            });
            save(&mut writer, 2, &[("weight", &broken)]).unwrap_err()
        });
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"`weight` did not come into memory whole: nothing of this save is there, and the checkpoint before it stands");
        }
        let left: Vec<_> =
            std::fs::read_dir(folder.path().join("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let steps: Vec<_> = left.iter().filter(|name| name.to_string_lossy().starts_with("step-")).collect();
        assert_eq!(steps, ["step-000000000001-g00000001"], "something of it was left");
        assert_eq!(read(&store, "weight", LARGE), (1, weight.bytes.clone()));
    }
    // The same step can be saved again, and what did not change is not written twice: nothing is remembered of the failure.
    let again = Copied::whole(weight.bytes.clone());
    let (_, saved) = save(&mut writer, 2, &[("weight", &again)]).unwrap();
    assert_eq!((saved.written, saved.linked), (0, LARGE as u64));
    assert_eq!(read(&store, "weight", LARGE).0, 2);
}

#[test]
fn what_is_as_it_was_is_waited_for_and_named_again() {
    let (_folder, store) = folder();
    let mut writer = take_over(&store);
    let (frozen, adapter) = (Copied::whole(noise(1, LARGE)), Copied::whole(noise(2, 4096)));
    save(&mut writer, 1, &[("frozen", &frozen), ("adapter", &adapter)]).unwrap();
    let (frozen, adapter) = (Copied::new(frozen.bytes, 0), Copied::new(noise(3, 4096), 0));
    let saved = thread::scope(|scope| {
        scope.spawn(|| {
            for there in (0..=LARGE).step_by(1 << 20) {
                frozen.is_at(Some(there));
                thread::yield_now();
            }
            adapter.is_at(Some(4096));
        });
        save(&mut writer, 2, &[("frozen", &frozen), ("adapter", &adapter)]).unwrap().1
    });
    assert_eq!((saved.written, saved.linked), (4096, LARGE as u64));
    assert_eq!(read(&store, "frozen", LARGE), (2, frozen.bytes));
    assert_eq!(read(&store, "adapter", 4096), (2, adapter.bytes));
}
