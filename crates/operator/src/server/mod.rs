//! The server: connections, bounded in number, time and memory, with TLS or without.
//!
//! ```text
//!   listener ─▶ a place free? ─▶ first byte ─▶ its turn ─▶ TLS handshake ─▶ HTTP/1.1 or h2 ─▶ routes
//!                  │ no             │ no TLS        │ too slow    │            │ idle, or told to stop
//!                  ▼                ▼               ▼             ▼            ▼
//!                close        400 in plain text   close         close   finish, then close
//! ```

pub mod health;
pub mod routes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::metrics::Metrics;

/// Bounds on what clients may ask of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. One more is closed at once.
    pub connections: usize,
    /// Requests that are answered at a time. One more waits for [`Limits::patience`].
    pub in_flight: usize,
    /// Bytes of a body. An AdmissionReview carries `object` and `oldObject`, each at most 3 MiB
    /// (`k8s.io/apiserver/pkg/server/config.go`, `MaxRequestBodyBytes`).
    pub body: usize,
    /// Bytes of all bodies that are held at a time: what bounds the memory.
    pub bodies: usize,
    /// How long a request waits for its turn: below the `timeoutSeconds` of the webhook.
    pub patience: Duration,
    /// From the connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// Handshakes at a time; one more waits. They take most of the memory of a burst of connections, and more at a
    /// time than there are cores end none of them sooner.
    pub handshakes: usize,
    /// After this a handshake goes on, but does not keep others waiting. Slow clients hold nobody up while
    /// `handshakes / turn` is more than `connections / handshake`.
    pub turn: Duration,
    /// From the end of a request to the end of the next one's head (HTTP/1.1).
    pub header: Duration,
    /// From the head of a request to the end of its body.
    pub body_read: Duration,
    /// A connection without a request is closed after this.
    pub idle: Duration,
    /// What an open connection may take to end when it is told to.
    pub farewell: Duration,
}

impl Limits {
    /// The webhook's.
    pub const WEBHOOK: Self = Self {
        connections: 1024,
        in_flight: 128,
        body: 8 << 20,
        bodies: 32 << 20,
        patience: Duration::from_secs(1),
        handshake: Duration::from_secs(5),
        handshakes: 64,
        turn: Duration::from_millis(250),
        header: Duration::from_secs(30),
        body_read: Duration::from_secs(5),
        idle: Duration::from_secs(120),
        farewell: Duration::from_secs(10),
    };

    /// Those of health and metrics.
    pub const HEALTH: Self =
        Self { connections: 64, body: 0, bodies: 0, idle: Duration::from_secs(60), ..Self::WEBHOOK };
}

/// Connections that wait to be accepted. What tokio has by itself, 128, a burst of an API server's connections fills,
/// and the kernel drops the rest without a word: each comes again after a second, of the three that a webhook has.
const BACKLOG: u32 = 1024;

/// Listens on an address.
///
/// # Errors
/// A port that is taken, most often.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As tokio's own: after a restart the port is free at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// Where.
    pub listener: TcpListener,
    /// With TLS, where it speaks that.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What it answers.
    pub router: Router,
    /// What it allows.
    pub limits: Limits,
    /// What it counts; nothing for the server that shows the counts.
    pub metrics: Option<Arc<Metrics>>,
}

/// Serves until `stop` says true, then waits for open requests: at most [`Limits::farewell`]. Gives how many
/// connections had to be cut.
pub async fn serve(server: Server, mut stop: watch::Receiver<bool>) -> usize {
    let Server { listener, tls, router, limits, metrics } = server;
    let places = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Semaphore::new(limits.handshakes);
    let acceptor = tls.map(|tls| Arc::new((TlsAcceptor::from(tls), handshakes)));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // No file descriptors left, most often: some will be free soon.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = crate::told(&mut stop) => break,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if let Some(metrics) = &metrics {
                metrics.connections_refused.inc();
            }
            continue;
        };
        let (acceptor, router, stop, metrics) = (acceptor.clone(), router.clone(), stop.clone(), metrics.clone());
        tokio::spawn(async move {
            if let Some(metrics) = &metrics {
                metrics.connections.inc();
            }
            let served = connection(stream, acceptor, router, limits, stop).await;
            if let Some(metrics) = &metrics {
                metrics.connections.dec();
                if !served {
                    metrics.connections_refused.inc();
                }
            }
            drop(place);
        });
    }
    drop(listener);
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = timeout(limits.farewell, places.acquire_many(all)).await;
    limits.connections - places.available_permits().min(limits.connections)
}

/// Whether anything came of it: no where it never spoke the protocol.
async fn connection(
    stream: TcpStream,
    acceptor: Option<Arc<(TlsAcceptor, Semaphore)>>,
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> bool {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor.as_deref() else {
        http(stream, router, limits, stop).await;
        return true;
    };
    let greeted = timeout(limits.handshake, async {
        let mut first = [0];
        stream.peek(&mut first).await.ok().filter(|read| *read == 1)?;
        // A TLS record of a handshake starts with 22 (RFC 8446, section 5.1); a word of HTTP with a letter.
        if first[0].is_ascii_alphabetic() {
            plain(stream).await;
            return None;
        }
        handshake(stream, acceptor, limits.turn)
            .await
            .inspect_err(|error| tracing::debug!(%error, "no TLS handshake"))
            .ok()
    })
    .await;
    match greeted {
        Ok(Some(stream)) => {
            http(stream, router, limits, stop).await;
            true
        }
        _ => false,
    }
}

/// When it is its turn, which it gives up after `turn`. On the heap, or each place that the stream passes through would
/// keep room for it as long as the connection is open.
async fn handshake(
    stream: TcpStream,
    (acceptor, handshakes): &(TlsAcceptor, Semaphore),
    turn: Duration,
) -> std::io::Result<Box<TlsStream<TcpStream>>> {
    let place = handshakes.acquire().await.map_err(std::io::Error::other)?;
    let mut accept = acceptor.accept(stream);
    let accepted = match timeout(turn, &mut accept).await {
        Ok(accepted) => accepted,
        Err(_) => {
            drop(place);
            accept.await
        }
    };
    accepted.map(Box::new)
}

/// Tells a client that forgot the `s` of `https`.
async fn plain(mut stream: TcpStream) {
    const TEXT: &str = "this port speaks HTTPS only: use https://\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{TEXT}",
        TEXT.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    // What the client has sent is read away, or closing would reset the connection before it has read the answer.
    let mut rest = [0; 1024];
    for _ in 0..64 {
        match tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await {
            Ok(read) if read > 0 => {}
            _ => break,
        }
    }
}

/// Requests of a connection that are being answered.
#[derive(Debug, Default)]
struct Activity {
    busy: AtomicUsize,
    begun: AtomicUsize,
}

struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.busy.fetch_add(1, Ordering::Relaxed);
        activity.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn http<S>(stream: S, router: Router, limits: Limits, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let service = {
        let activity = Arc::clone(&activity);
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let busy = Busy::new(&activity);
            let answer = router.clone().oneshot(request.map(Body::new));
            async move {
                let _busy = busy;
                answer.await
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        // The head of a request, and what is read of a body at a time. Each open connection has this much.
        .max_buf_size(8 << 10)
        .http2()
        .timer(TokioTimer::new())
        // A client that is gone without a word is noticed.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(u32::try_from(limits.in_flight).unwrap_or(u32::MAX))
        .max_header_list_size(32 << 10);
    // Made in its place: a copy of it would stay with every open connection.
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut seen, mut since) = (0, Instant::now());
    let mut deadline: Option<Instant> = None;
    loop {
        // Looked at now and then: a timer for every request would cost more than it is worth.
        let look =
            tokio::time::sleep(deadline.map_or(limits.idle / 4, |at| at.saturating_duration_since(Instant::now())));
        tokio::select! {
            // A client that breaks off is no event.
            _ = connection.as_mut() => return,
            () = crate::told(&mut stop), if deadline.is_none() => {
                connection.as_mut().graceful_shutdown();
                deadline = Some(Instant::now() + limits.farewell);
            }
            () = look => {
                if deadline.is_some() {
                    return;
                }
                let begun = activity.begun.load(Ordering::Relaxed);
                if begun != seen || activity.busy.load(Ordering::Relaxed) > 0 {
                    (seen, since) = (begun, Instant::now());
                } else if since.elapsed() >= limits.idle {
                    connection.as_mut().graceful_shutdown();
                    deadline = Some(Instant::now() + limits.farewell);
                }
            }
        }
    }
}
