//! A real S3 server on loopback, for tests: [s3s](https://docs.rs/s3s) over a folder. It verifies signatures (SigV4), and
//! knows uploads in parts and conditional puts.
//!
//! Its look whether there is an object and its write are two steps; here they are one, as on S3: requests with a condition
//! are served one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The bucket that is there.
pub const BUCKET: &str = "checkpoints";

/// The one user.
pub const KEY: &str = "AKIALOOPBACK";
/// Its secret.
pub const SECRET: &str = "not-a-secret-of-anybody";

/// Which request, and what is done before it is served.
type Before = (Box<dyn Fn(&Request<Incoming>) -> bool + Send>, Box<dyn FnOnce() + Send>);

#[derive(Default)]
struct Shared {
    stop: Notify,
    /// Requests that are served before it stops.
    left: AtomicU64,
    served: AtomicU64,
    before: Mutex<Option<Before>>,
    conditional: tokio::sync::Mutex<()>,
}

/// A server.
pub struct Server {
    folder: Arc<tempfile::TempDir>,
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts one with an empty bucket, on a port that is free.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        Self::on(Arc::new(folder), "127.0.0.1:0".parse().unwrap())
    }

    fn on(folder: Arc<tempfile::TempDir>, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { left: AtomicU64::new(u64::MAX), ..Shared::default() });
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let (service, mine) = (service.build(), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(serve(listener, service, mine));
            runtime.shutdown_background();
        });
        Self { folder, address, shared, thread: Some(thread) }
    }

    /// Starts it again, at the same address, with what it had.
    #[must_use]
    pub fn again(mut self) -> Self {
        self.stop();
        Self::on(Arc::clone(&self.folder), self.address)
    }

    /// What a client has in its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let address = format!("http://{}", self.address);
        [
            ("AWS_ENDPOINT_URL", &*address),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of an object.
    #[must_use]
    pub fn object(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// Parts of uploads that were neither completed nor aborted.
    #[must_use]
    pub fn parts(&self) -> usize {
        let is_part = |name: &str| name.starts_with(".upload_id-") && name.contains(".part-");
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_str().is_some_and(is_part)).count()
    }

    /// Requests so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// Does something before the first request of this kind is served; other requests are served meanwhile.
    pub fn before(
        &self,
        which: impl Fn(&Request<Incoming>) -> bool + Send + 'static,
        act: impl FnOnce() + Send + 'static,
    ) {
        *self.shared.before.lock().unwrap() = Some((Box::new(which), Box::new(act)));
    }

    /// Is gone after so many more requests, as if it was killed: connections break, and no new one is taken.
    pub fn stop_after(&self, requests: u64) {
        self.shared.left.store(requests, Ordering::SeqCst);
    }

    /// Is gone.
    pub fn stop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// The folder with all it has.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, service: S3Service, shared: Arc<Shared>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    // Dropped with all connections at the end.
    let mut connections = JoinSet::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = shared.stop.notified() => return,
        };
        let (service, shared) = (service.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(request, service.clone(), Arc::clone(&shared)));
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    service: S3Service,
    shared: Arc<Shared>,
) -> Result<http::Response<s3s::Body>, Box<dyn std::error::Error + Send + Sync>> {
    shared.served.fetch_add(1, Ordering::SeqCst);
    if shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
        shared.stop.notify_one();
        return Err("gone".into());
    }
    let act = {
        let mut before = shared.before.lock().unwrap();
        if before.as_ref().is_some_and(|(which, _)| which(&request)) { before.take() } else { None }
    };
    if let Some((_, act)) = act {
        tokio::task::spawn_blocking(act).await?;
    }
    let conditional = request.headers().contains_key(http::header::IF_NONE_MATCH);
    let _one = if conditional { Some(shared.conditional.lock().await) } else { None };
    Service::call(&service, request).await.map_err(|error| format!("{error:?}").into())
}
