//! A load of AdmissionReviews over HTTPS, bounded in time, to an address of this machine. Writes one line of JSON.
//!
//! The clients speak HTTP/1.1, as an API server does to a webhook (`k8s.io/apiserver/pkg/util/webhook/client.go`), and
//! like it resume no TLS session.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One request and its answer may take this long, the handshake included.
const PATIENCE: Duration = Duration::from_secs(10);
const SLOW: &str = "no answer within 10 s";

/// A load of AdmissionReviews.
#[derive(Parser)]
struct Args {
    /// Where the webhook listens; an address of this machine
    #[arg(long)]
    to: SocketAddr,
    /// The path that is posted to
    #[arg(long, default_value = "/validate")]
    path: String,
    /// The authority of its certificate, as PEM
    #[arg(long)]
    authority: PathBuf,
    /// JSON lines: `{"allowed": …, "review": {…}}`, what is posted, by turns, and what has to be answered
    #[arg(long)]
    reviews: PathBuf,
    /// Take any answer that is an AdmissionReview: the webhook judges nothing
    #[arg(long)]
    any_answer: bool,
    /// Clients at the same time
    #[arg(long)]
    clients: usize,
    /// A new connection for each request
    #[arg(long)]
    new_connections: bool,
    /// Requests a second of all clients together; without it, each client asks again as soon as it is answered
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds that do not count, to begin with
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that count; at most a minute
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds)).ok_or_else(|| "expected 0.1 to 60".to_owned())
}

/// What is posted.
#[derive(Deserialize)]
struct Line {
    allowed: bool,
    review: Box<RawValue>,
}

struct Review {
    allowed: bool,
    body: Bytes,
}

#[derive(Deserialize)]
struct Answer {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    allowed: bool,
}

/// What came of it; times in milliseconds.
#[derive(Serialize)]
struct Outcome {
    /// All that came as they have to be, with those that do not count.
    answers: usize,
    per_second: f64,
    p50: f64,
    p99: f64,
    max: f64,
    /// Requests without an answer, or with one that is not as it has to be.
    failures: usize,
    /// The first of them.
    failure: Option<String>,
}

/// What all clients share.
struct Load {
    args: Args,
    connector: TlsConnector,
    server: ServerName<'static>,
    reviews: Vec<Review>,
    counts_from: Instant,
    until: Instant,
    answers: AtomicUsize,
    /// The answers that came in the time that counts.
    in_time: AtomicUsize,
}

type Sender = SendRequest<Full<Bytes>>;

impl Load {
    async fn connect(&self) -> Result<Sender, Box<dyn Error + Send + Sync>> {
        let stream = TcpStream::connect(self.args.to).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(self.server.clone(), stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn ask(&self, sender: &mut Option<Sender>, review: &Review) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut open = match sender.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let request = Request::post(&self.args.path)
            .header(header::HOST, self.args.to.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(review.body.clone()))?;
        let answer = open.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let said = || String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        if status != StatusCode::OK {
            return Err(format!("status {status}: {}", said()).into());
        }
        let Answer { response } = serde_json::from_slice(&body)?;
        if response.allowed != review.allowed && !self.args.any_answer {
            return Err(format!("expected allowed: {}, was told {}", review.allowed, said()).into());
        }
        if !self.args.new_connections {
            open.ready().await?;
            *sender = Some(open);
        }
        Ok(())
    }

    /// One client: the milliseconds of its answers that count, and the failures.
    async fn client(self: Arc<Self>, number: usize) -> (Vec<f64>, Vec<String>) {
        let (mut times, mut failures) = (Vec::new(), Vec::new());
        let mut sender = None;
        let gap = self.args.rate.map(|rate| Duration::from_secs_f64(self.args.clients as f64 / rate));
        let begin = self.counts_from - Duration::from_secs_f64(self.args.warm_up);
        if !self.args.new_connections {
            // Not all at once: at the start of an API server neither.
            sleep_until(begin + Duration::from_millis(number as u64)).await;
            match timeout(PATIENCE, self.connect()).await {
                Ok(Ok(open)) => sender = Some(open),
                Ok(Err(error)) => failures.push(error.to_string()),
                Err(_) => failures.push(SLOW.to_owned()),
            }
        }
        // Clients that ask at a rate do not ask all at once.
        let mut due = begin + gap.unwrap_or_default().mul_f64(number as f64 / self.args.clients as f64);
        for review in self.reviews.iter().cycle().skip(number % self.reviews.len()) {
            let now = Instant::now();
            let mut started = now;
            if let Some(gap) = gap {
                if due > now {
                    sleep_until(due).await;
                    // The timer is exact to a millisecond: that it was late is not the server's doing.
                    started = Instant::now();
                } else {
                    // The answer before came late, so this one is late from the start.
                    started = due;
                }
                due += gap;
            }
            if started >= self.until || Instant::now() >= self.until {
                break;
            }
            let asked = timeout(PATIENCE, self.ask(&mut sender, review)).await;
            let failure = match asked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(SLOW.to_owned()),
            };
            if let Some(failure) = failure {
                failures.push(failure);
                sender = None;
                // A server that is gone is not asked a million times.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            let ended = Instant::now();
            self.answers.fetch_add(1, Ordering::Relaxed);
            if started >= self.counts_from {
                times.push((ended - started).as_secs_f64() * 1e3);
            }
            if (self.counts_from..self.until).contains(&ended) {
                self.in_time.fetch_add(1, Ordering::Relaxed);
            }
        }
        (times, failures)
    }
}

async fn run(args: Args) -> Result<Outcome, Box<dyn Error>> {
    if !args.to.ip().is_loopback() {
        return Err(format!("{}: expected an address of this machine", args.to).into());
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&args.authority)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let lines = fs::read_to_string(&args.reviews)?;
    let reviews = lines.lines().map(|line| {
        let Line { allowed, review } = serde_json::from_str(line)?;
        Ok(Review { allowed, body: Bytes::from(String::from(Box::<str>::from(review))) })
    });
    let reviews = reviews.collect::<Result<Vec<_>, serde_json::Error>>()?;
    if reviews.is_empty() || args.clients == 0 {
        return Err("nothing to ask, or nobody to ask it".into());
    }
    let counts_from = Instant::now() + Duration::from_secs_f64(args.warm_up);
    let until = counts_from + Duration::from_secs_f64(args.seconds);
    let (clients, seconds) = (args.clients, args.seconds);
    let server = ServerName::from(args.to.ip());
    let connector = TlsConnector::from(Arc::new(config));
    let (answers, in_time) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let load = Arc::new(Load { args, connector, server, reviews, counts_from, until, answers, in_time });
    let mut running: JoinSet<_> = (0..clients).map(|number| Arc::clone(&load).client(number)).collect();
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let (more, failed) = done?;
        times.extend(more);
        failures.extend(failed);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get(((times.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    Ok(Outcome {
        answers: load.answers.load(Ordering::Relaxed),
        per_second: load.in_time.load(Ordering::Relaxed) as f64 / seconds,
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
        failures: failures.len(),
        failure: failures.into_iter().next(),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // One thread: the other core is the server's.
    let outcome = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(args))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
