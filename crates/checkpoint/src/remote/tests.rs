//! What the store does when any one request fails, is lost, or is the last of a process. In memory: the protocol counts here,
//! and not the service; `tests/s3` has a real one.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::told::Service;
use super::{Bucket, Remote, UPLOAD};
use crate::{DType, Data, Depth, Info, Retention, State, StepId, Store, Tensor, Writer};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It and all that come after it do not get through: the process was killed.
    Killed,
    /// It does not get through.
    Refused,
    /// It gets through, and its answer does not.
    Lost,
}

/// A service that fails once, or from then on.
#[derive(Clone, Debug)]
struct Faulty {
    memory: Arc<InMemory>,
    fault: Option<(usize, Fault)>,
    requests: Arc<AtomicUsize>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    fn new(memory: &Arc<InMemory>, fault: Option<(usize, Fault)>) -> Self {
        Self { memory: Arc::clone(memory), fault, requests: Arc::default() }
    }

    async fn request<T>(&self, what: impl Future<Output = Result<T>>) -> Result<T> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let gone = || Error::Generic { store: "test", source: "gone".into() };
        match self.fault {
            Some((at, Fault::Killed)) if number >= at => Err(gone()),
            Some((at, Fault::Refused)) if number == at => Err(gone()),
            Some((at, Fault::Lost)) if number == at => what.await.and(Err(gone())),
            _ => what.await,
        }
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request(self.memory.put_opts(key, payload, options)).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.request(self.memory.put_multipart_opts(key, options)).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.request(self.memory.get_opts(key, options)).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        keys.and_then(move |key| {
            let this = this.clone();
            async move {
                this.request(this.memory.delete(&key)).await?;
                Ok(key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, found) = (self.clone(), self.memory.list(prefix));
        futures::stream::once(async move { this.request(async { Ok(found) }).await }).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(self.memory.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(self.memory.copy_opts(from, to, options)).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, key: &Path) -> Result<MultipartId> {
        self.request(self.memory.create_multipart(key)).await
    }

    async fn put_part(&self, key: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.request(self.memory.put_part(key, id, part, data)).await
    }

    async fn complete_multipart(&self, key: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.request(self.memory.complete_multipart(key, id, parts)).await
    }

    async fn abort_multipart(&self, key: &Path, id: &MultipartId) -> Result<()> {
        self.request(self.memory.abort_multipart(key, id)).await
    }
}

fn store(objects: Faulty) -> Store {
    let service = Service {
        name: "the test".to_owned(),
        bucket: "b".to_owned(),
        credentials: "nothing",
        endpoint: "nothing",
        patience: Duration::ZERO,
    };
    let objects = Arc::new(objects);
    let bucket = Bucket { multipart: Arc::clone(&objects) as _, objects, service };
    Store::on(Arc::new(Remote::new(bucket, "run".to_owned(), "mem://b/run".to_owned())))
}

/// Two parts.
fn weight(step: u64) -> Vec<u8> {
    let mut data = vec![step as u8; (9 << 20) + 4];
    data[..8].copy_from_slice(&step.to_le_bytes());
    data
}

fn save(writer: &mut Writer, step: u64) -> crate::Result<()> {
    let data = weight(step);
    let tensor =
        Tensor { name: "w", dtype: DType::U8, shape: vec![data.len() as u64], global: None, data: Data::There(&data) };
    writer
        .save(step, &State { tensors: vec![tensor], blobs: vec![("b", b"x")], ..State::default() }, &Info::default())
        .map(|_| ())
}

fn last_one() -> Retention {
    Retention { last: NonZeroUsize::MIN, every: None, best: None }
}

fn take_over(store: &Store) -> Writer {
    store.take_over("run", "test", 0).unwrap()
}

/// The step that is resumed, after all of it was compared.
fn resumed(store: &Store, context: &str) -> u64 {
    let resume = store
        .resume_with(|checkpoint| {
            assert!(checkpoint.tensor("w")? == weight(checkpoint.id().step), "{context}");
            checkpoint.blob(0, "b")
        })
        .unwrap();
    assert_eq!(resume.passed_over, [], "{context}: a save is complete or invisible");
    resume.found.unwrap().0.id().step
}

fn keys(memory: &InMemory) -> Vec<String> {
    let all = memory.list(None).map_ok(|meta| meta.location.to_string()).try_collect();
    futures::executor::block_on(all).unwrap()
}

#[test]
fn whichever_request_fails_or_is_lost_or_is_the_last_no_published_step_is() {
    for fault in [Fault::Killed, Fault::Refused, Fault::Lost] {
        for at in 0.. {
            let context = format!("{fault:?} at request {at}");
            let memory = Arc::new(InMemory::new());
            let mut faulty = Faulty::new(&memory, None);
            let mut writer = take_over(&store(faulty.clone()));
            let generation = writer.generation();
            save(&mut writer, 1).unwrap();
            save(&mut writer, 2).unwrap();
            faulty.fault = Some((at, fault));
            faulty.requests = Arc::default();
            let broken = store(faulty.clone());
            let saved = broken.join("run", generation).and_then(|mut writer| save(&mut writer, 3));
            let pruned = broken.prune(&last_one(), Depth::Structure);
            let came_through = faulty.requests.load(Ordering::SeqCst) <= at;
            assert!(!came_through || (saved.is_ok() && pruned.is_ok()), "{context}: {saved:?} {pruned:?}");

            let store = store(Faulty::new(&memory, None));
            let found = resumed(&store, &context);
            assert!(found >= if saved.is_ok() { 3 } else { 2 }, "{context}: {found} after {saved:?}");
            // It goes on in the same process, at the same step or the next, and in a new one.
            if fault != Fault::Killed {
                save(&mut writer, found + 1).unwrap_or_else(|error| panic!("{context}: {error}"));
                assert_eq!(resumed(&store, &context), found + 1);
            }
            let mut next = take_over(&store);
            assert_eq!(store.unfinished().unwrap(), [], "{context}");
            // Of an upload that was completed the record may be left.
            let keys = keys(&memory);
            let mut records = keys.iter().filter_map(|key| key.strip_suffix(UPLOAD));
            assert!(records.all(|data| keys.iter().any(|key| key == data)), "{context}: {keys:?}");
            save(&mut next, 9).unwrap();
            store.prune(&last_one(), Depth::Structure).unwrap();
            assert_eq!(store.steps().unwrap(), [StepId { step: 9, generation: 2 }], "{context}");
            assert_eq!(resumed(&store, &context), 9);
            if came_through {
                break;
            }
        }
    }
}

#[test]
fn that_a_save_was_given_up_is_remembered_for_some_generations_and_then_forgotten() {
    let memory = Arc::new(InMemory::new());
    let store = store(Faulty::new(&memory, None));
    let writer = take_over(&store);
    writer.give_up(crate::Save { step: 1, attempt: 0, world_size: 2 }).unwrap();
    let given_up = "run/step-000000000001-g00000001/manifest.json";
    for _ in 0..super::REMEMBERED {
        take_over(&store);
        assert!(keys(&memory).iter().any(|key| key == given_up));
    }
    take_over(&store);
    assert!(!keys(&memory).iter().any(|key| key == given_up), "{:?}", keys(&memory));
}
