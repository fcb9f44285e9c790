//! What runs in the cluster: the admission webhook, its certificates, its leader, its health.
//!
//! ```text
//!   admission: review (bytes) ─▶ decide (pure) ─▶ answer (bytes)         replayed from a recorded body
//!   certificate: next (pure) ─▶ issue, store (Secret), resolver          rotates without a lost request
//!   leader: step (pure) ─▶ lease (coordination.k8s.io)
//!   server: TLS, limits, routes        health, metrics: plain HTTP beside it
//!   deploy: every object that it takes to run this, from one table
//! ```
//!
//! What must not fail open never depends on this: it is compiled into policies of the API server
//! (`bedplate_guarantees::enforce`). The webhook says more, and says it earlier.

pub mod admission;
pub mod certificate;
pub mod deploy;
pub mod knowledge;
pub mod leader;
pub mod log;
pub mod metrics;
pub mod run;
pub mod server;

/// Waits until `stop` says true, or nobody can say it any more.
async fn told(stop: &mut tokio::sync::watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
