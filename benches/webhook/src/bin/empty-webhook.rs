//! The least that an admission webhook can be: it reads the uid and says yes. The measure for ours, so it is built as
//! ours is: axum, hyper and rustls with the same features, two worker threads, the same allocator.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Path;
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An admission webhook that allows everything.
#[derive(Parser)]
struct Args {
    /// Where it listens
    #[arg(long)]
    listen: SocketAddr,
    /// Its certificate, as PEM
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its key
    #[arg(long)]
    tls_key: PathBuf,
}

#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Serialize)]
struct Response {
    uid: String,
    allowed: bool,
}

async fn allow(Json(review): Json<Review>) -> Json<Answer> {
    let response = Response { uid: review.request.uid, allowed: true };
    Json(Answer { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response })
}

/// The same after a while, for requests whose duration is to be known. At most a minute.
async fn sleep(Path(milliseconds): Path<u64>, review: Json<Review>) -> Json<Answer> {
    tokio::time::sleep(Duration::from_millis(milliseconds.min(60_000))).await;
    allow(review).await
}

fn tls(args: &Args) -> Result<TlsAcceptor, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(&args.tls_cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&args.tls_key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(args: Args) -> Result<(), Box<dyn Error>> {
    let acceptor = tls(&args)?;
    let router = Router::new().route("/validate", post(allow)).route("/sleep/{milliseconds}", post(sleep));
    let socket = if args.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(args.listen)?;
    // As many connections wait to be accepted as at ours.
    let listener = socket.listen(1024)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            // A client that breaks off is no event.
            if let Ok(stream) = acceptor.accept(stream).await {
                let service = TowerToHyperService::new(router);
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(serve(args))
}
