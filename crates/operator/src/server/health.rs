//! `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};

use super::routes::told;
use crate::metrics::{MEDIA_TYPE, Metrics};

/// What a replica needs to answer well, or is glad to have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// A serving certificate that is valid now.
    Certificate,
    /// The profile and the neighbours have been read.
    Knowledge,
    /// The API servers know our authority.
    Configuration,
    /// The API server answers.
    ApiServer,
    /// The guards in the API server are as they should be: looked after by who leads.
    Guards,
    /// The last audit went well: who leads makes it.
    Audit,
    /// What workloads ask for together is counted: where the profile limits it.
    Demand,
    /// What saves of trainings take is known: where the profile sets their grace by it.
    Saves,
}

impl Part {
    const ALL: [Self; 8] = [
        Self::Certificate,
        Self::Knowledge,
        Self::Configuration,
        Self::ApiServer,
        Self::Guards,
        Self::Audit,
        Self::Demand,
        Self::Saves,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Knowledge => "profile",
            Self::Configuration => "webhook-configuration",
            Self::ApiServer => "api-server",
            Self::Guards => "guards",
            Self::Audit => "audit",
            Self::Demand => "demand",
            Self::Saves => "saves",
        }
    }

    /// Whether requests should go elsewhere without it. With an API server that is gone nobody asks, and what was
    /// learnt holds on; what the API servers know of us is the same at every replica.
    const fn needed(self) -> bool {
        matches!(self, Self::Certificate | Self::Knowledge)
    }
}

/// How a replica is.
#[derive(Debug, Default)]
pub struct Health {
    state: RwLock<State_>,
}

#[derive(Debug, Default)]
struct State_ {
    /// Nothing where it is well; otherwise why not.
    parts: BTreeMap<Part, Result<(), String>>,
    stopping: bool,
}

/// Keeps a part among those of this replica.
#[derive(Debug)]
pub struct Led {
    health: Arc<Health>,
    part: Part,
}

impl Drop for Led {
    fn drop(&mut self) {
        self.health.state.write().unwrap_or_else(PoisonError::into_inner).parts.remove(&self.part);
    }
}

impl Health {
    /// A replica of which only these parts are looked after.
    #[must_use]
    pub fn of(parts: &[Part]) -> Arc<Self> {
        let parts = parts.iter().map(|part| (*part, Err("not yet".to_owned()))).collect();
        Arc::new(Self { state: RwLock::new(State_ { parts, stopping: false }) })
    }

    /// Says how a part is.
    pub fn set(&self, part: Part, state: Result<(), String>) {
        let mut all = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.parts.insert(part, state.clone());
        drop(all);
        if before.as_ref() != Some(&state) {
            match state {
                Ok(()) => tracing::info!(part = part.name(), "is well"),
                Err(why) => tracing::warn!(part = part.name(), why, "is down"),
            }
        }
    }

    /// A part is this replica's for as long as what this gives lives; then it is another's.
    #[must_use]
    pub fn led(self: &Arc<Self>, part: Part) -> Led {
        Led { health: Arc::clone(self), part }
    }

    /// From now on requests should go elsewhere.
    pub fn stop(&self) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).stopping = true;
    }

    /// Whether requests should come, and why not, part by part.
    #[must_use]
    pub fn ready(&self) -> (bool, String) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut ready = !state.stopping;
        let mut text =
            if state.stopping { "[-] stopping: requests go to other replicas\n".to_owned() } else { String::new() };
        for part in Part::ALL {
            match state.parts.get(&part) {
                Some(Ok(())) => text.push_str(&format!("[+] {}\n", part.name())),
                Some(Err(why)) => {
                    ready &= !part.needed();
                    text.push_str(&format!("[-] {}: {why}\n", part.name()));
                }
                None => {}
            }
        }
        text.push_str(if ready { "ready\n" } else { "not ready\n" });
        (ready, text)
    }
}

/// The routes.
pub fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        // Whoever can answer this can answer everything: nothing that a restart would not heal belongs here.
        .route("/healthz", get(|| async { told(StatusCode::OK, "ok") }))
        .route(
            "/readyz",
            get(|State(health): State<Arc<Health>>| async move {
                let (ready, text) = health.ready();
                told(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text.trim_end())
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                let mut answer = Response::new(Body::from(metrics.text()));
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
                answer
            }),
        )
        .with_state(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "503" alone sent somebody through five dashboards.
    #[test]
    fn whoever_is_not_ready_says_which_part_is_down_and_why() {
        let health = Health::of(&[Part::Certificate, Part::Knowledge, Part::Configuration]);
        health.set(Part::Certificate, Ok(()));
        health.set(Part::Knowledge, Err("bedplate may not list exemptions.bedplate.dev".to_owned()));
        let (ready, text) = health.ready();
        assert!(!ready);
        assert_eq!(
            text,
            "[+] certificate\n[-] profile: bedplate may not list exemptions.bedplate.dev\n[-] webhook-configuration: not yet\nnot ready\n"
        );
        health.set(Part::Knowledge, Ok(()));
        assert!(health.ready().0, "what only the others need is no reason");
        health.stop();
        assert!(!health.ready().0);
    }
}
