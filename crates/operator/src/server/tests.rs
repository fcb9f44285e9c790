//! Clients as bad as they come, over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use bedplate_cluster::clock::now;
use bedplate_guarantees::check::Run;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::routes::Webhook;
use super::{Limits, Server, serve};
use crate::admission::{Answer, Request, judge};
use crate::certificate::Pair;
use crate::certificate::issue::Rcgen;
use crate::certificate::resolver::{Resolver, tls};
use crate::certificate::rotation::Mint;
use crate::metrics::Metrics;

const SOON: Duration = Duration::from_secs(10);

/// Limits that a test can reach.
const SMALL: Limits = Limits {
    connections: 4,
    in_flight: 2,
    body: 1 << 20,
    bodies: 2 << 20,
    patience: Duration::from_millis(200),
    handshake: Duration::from_millis(500),
    handshakes: 1,
    turn: Duration::from_millis(100),
    header: Duration::from_millis(500),
    body_read: Duration::from_millis(500),
    idle: Duration::from_millis(800),
    farewell: Duration::from_secs(2),
};

struct World {
    address: SocketAddr,
    resolver: Arc<Resolver>,
    authority: Pair,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<usize>,
    metrics: Arc<Metrics>,
}

fn serving(authority: &Pair) -> Pair {
    Rcgen.serving(authority, &["127.0.0.1".to_owned()], now(), now() + 600).unwrap()
}

async fn world(limits: Limits, decide: fn(&Request<'_>, Run<'_>) -> Answer) -> World {
    let authority = Rcgen.authority(now(), 600).unwrap();
    let resolver = Arc::new(Resolver::default());
    resolver.show(&serving(&authority)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    let server = Server {
        listener,
        tls: Some(tls(Arc::clone(&resolver)).unwrap()),
        router: Webhook::with(limits, decide).router(),
        limits,
        metrics: Some(Arc::clone(&metrics)),
    };
    let serving = tokio::spawn(serve(server, stopping));
    World { address, resolver, authority, stop, serving, metrics }
}

impl World {
    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection with TLS that trusts `authorities`.
    async fn try_tls(&self, authorities: &[&Pair], protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        for authority in authorities {
            roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.plain().await).await
    }

    async fn tls(&self) -> TlsStream<TcpStream> {
        self.try_tls(&[&self.authority], b"http/1.1").await.unwrap()
    }

    /// What is answered to a request on a connection of its own: everything until it is closed.
    async fn told(&self, request: &str) -> String {
        let mut stream = self.tls().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn alive(&self) {
        let answer = self.told(&post("application/json", &review())).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Everything until the other side closes.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut text)).await.expect("the server keeps the connection");
    String::from_utf8_lossy(&text).into_owned()
}

fn post(media_type: &str, body: &str) -> String {
    format!(
        "POST /validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn review() -> String {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": "team", "name": "j",
        "kind": { "group": "batch", "version": "v1", "kind": "Job" },
        "object": { "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j" }, "spec": { "parallelism": 64,
            "template": { "spec": { "containers": [{ "name": "a", "image": "docker.io/library/python:3.13",
                "resources": { "limits": { "nvidia.com/gpu": 1 } } }] } } } } } })
    .to_string()
}

#[tokio::test]
async fn a_review_is_answered_over_http_1_and_2() {
    let w = world(Limits::WEBHOOK, judge).await;
    let answer = w.told(&post("application/json; charset=utf-8", &review())).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("asks for 64 accelerators"), "{answer}");

    let stream = w.try_tls(&[&w.authority], b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::post("https://x/validate").header("content-type", "application/json");
        let answer = sender.send_request(request.body(Full::new(Bytes::from(review()))).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(body["response"]["allowed"], false);
    }
}

#[tokio::test]
async fn what_is_no_review_is_refused_clearly() {
    let w = world(Limits { body: 1 << 20, ..Limits::WEBHOOK }, judge).await;
    let get = |line: &str| format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for (request, status, words) in [
        (get("GET /validate"), "405", "only POST"),
        (get("DELETE /mutate"), "405", "allow: POST"),
        (get("POST /"), "404", "answers POST /validate and POST /mutate"),
        (get("POST /validate"), "415", "expected `application/json`"),
        (post("application/x-protobuf", "x"), "415", "application/x-protobuf"),
        (post("application/json", "{"), "400", "not an AdmissionReview"),
        (post("application/json", &review().replace("/v1\"", "/v2\"")), "400", "admissionReviewVersions: [v1]"),
        (post("application/json", &" ".repeat((1 << 20) + 1)), "413", "larger than the limit of 1048576 bytes"),
        ("NONSENSE\r\n\r\n".to_owned(), "400", ""),
    ] {
        let answer = w.told(&request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(words),
            "{status} {words}: {answer}"
        );
    }
    // Without a length, and longer than is allowed.
    let mut stream = w.tls().await;
    let head = "POST /validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(65536));
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    w.alive().await;
}

#[tokio::test]
async fn plain_http_to_the_tls_port_is_told_so() {
    let w = world(Limits::WEBHOOK, judge).await;
    let mut stream = w.plain().await;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks HTTPS only"), "{answer}");
    let mut stream = w.plain().await;
    stream.write_all(&[0, 1, 2, 3, 255, 254]).await.unwrap();
    rest(&mut stream).await;
    w.alive().await;
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let w = world(SMALL, judge).await;
    // Says nothing; says half a handshake.
    assert_eq!(rest(&mut w.plain().await).await, "");
    let mut stream = w.plain().await;
    stream.write_all(&[22, 3, 1, 2]).await.unwrap();
    rest(&mut stream).await;
    // A head that never ends, a body that never comes.
    let mut stream = w.tls().await;
    stream.write_all(b"POST /validate HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    rest(&mut stream).await;
    let mut stream = w.tls().await;
    let head = "POST /validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("did not come within 0.5 s"), "{answer}");
    // HTTP/2 without a request.
    let mut stream = w.try_tls(&[&w.authority], b"h2").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    rest(&mut stream).await;
    w.alive().await;
}

#[tokio::test]
async fn a_flood_of_connections_takes_no_more_than_its_places_and_passes() {
    let w = world(SMALL, judge).await;
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(w.plain().await);
    }
    // Those that found no place are closed at once, the others when they are too slow.
    for stream in &mut flood {
        assert_eq!(rest(stream).await, "");
    }
    w.alive().await;
    assert!(w.metrics.connections_refused.get() >= 50, "{}", w.metrics.connections_refused.get());
}

fn slow(request: &Request<'_>, run: Run<'_>) -> Answer {
    std::thread::sleep(Duration::from_millis(600));
    judge(request, run)
}

/// A scanner began handshakes and ended none. Only so many are in hand at a time, and it was in the way of all others.
#[tokio::test]
async fn handshakes_that_do_not_end_hold_up_no_others() {
    let world = world(Limits { handshake: Duration::from_secs(3600), ..SMALL }, judge).await;
    let mut open = Vec::new();
    for _ in 0..SMALL.connections - 1 {
        let mut stream = world.plain().await;
        // The head of a record that does not come.
        stream.write_all(&[22, 3, 1, 0, 200]).await.unwrap();
        open.push(stream);
    }
    tokio::time::timeout(SOON, world.alive()).await.unwrap();
}

/// 500 clients connected at once, and some waited for a second and longer: the kernel had dropped them.
#[tokio::test]
async fn connections_that_come_at_once_wait_for_their_turn() {
    let listener = super::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    // Nobody accepts: each is in the queue, or would never be told of.
    let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5));
    let open: Result<Vec<_>, _> = (0..300).map(connect).collect();
    assert_eq!(open.unwrap().len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_requests_than_there_are_turns_are_told_to_come_again() {
    let w = Arc::new(world(Limits { connections: 64, ..SMALL }, slow).await);
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let w = Arc::clone(&w);
            tokio::spawn(async move { w.told(&post("application/json", &review())).await })
        })
        .collect();
    let mut counts = (0, 0);
    for answer in asked {
        let answer = answer.await.unwrap();
        if answer.starts_with("HTTP/1.1 200") {
            counts.0 += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
            counts.1 += 1;
        }
    }
    assert!(counts.0 >= 2 && counts.1 >= 1, "{counts:?}");
    w.alive().await;
}

fn mistake(request: &Request<'_>, run: Run<'_>) -> Answer {
    assert_ne!(request.name, "j", "a mistake of ours");
    judge(request, run)
}

#[tokio::test]
async fn a_mistake_of_ours_costs_one_request() {
    let w = world(Limits::WEBHOOK, mistake).await;
    let large = |name: &str| {
        let mut json: Value =
            serde_json::from_str(&review().replace("\"name\":\"j\"", &format!("\"name\":\"{name}\""))).unwrap();
        json["request"]["object"]["metadata"]["annotations"] = json!({ "a": "x".repeat(100_000) });
        json.to_string()
    };
    for bad in [review(), large("j")] {
        let answer = w.told(&post("application/json", &bad)).await;
        assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("please report it"), "{answer}");
    }
    for good in [review().replace("\"j\"", "\"k\""), large("k")] {
        let answer = w.told(&post("application/json", &good)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// At rotation a new certificate is shown; connections that are open go on.
#[tokio::test]
async fn a_new_certificate_drops_no_connection() {
    let w = world(Limits::WEBHOOK, judge).await;
    let keep = post("application/json", &review()).replace("Connection: close\r\n", "");
    let mut open = w.tls().await;
    open.write_all(keep.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    assert!(open.read(&mut answer).await.unwrap() > 0);

    let next = Rcgen.authority(now(), 600).unwrap();
    w.resolver.show(&serving(&next)).unwrap();
    open.write_all(keep.as_bytes()).await.unwrap();
    let read = open.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).starts_with("HTTP/1.1 200"));
    assert!(w.try_tls(&[&w.authority], b"http/1.1").await.is_err(), "the old authority did not sign this");
    assert!(w.try_tls(&[&w.authority, &next], b"http/1.1").await.is_ok(), "who knows both trusts both");
    // A key that does not belong to it changes nothing.
    let broken = Pair { key: serving(&next).key, ..serving(&next) };
    assert!(w.resolver.show(&broken).is_err());
    assert!(w.try_tls(&[&next], b"http/1.1").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_told_to_stop_finishes_what_was_begun() {
    let w = world(Limits { connections: 16, farewell: Duration::from_secs(5), ..SMALL }, slow).await;
    let mut begun = w.tls().await;
    begun.write_all(post("application/json", &review()).as_bytes()).await.unwrap();
    let mut idle = w.tls().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    w.stop.send(true).unwrap();
    assert!(rest(&mut begun).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(timeout(SOON, w.serving).await.unwrap().unwrap(), 0, "none had to be cut");
    assert!(TcpStream::connect(w.address).await.is_err(), "nobody new is let in");
}
