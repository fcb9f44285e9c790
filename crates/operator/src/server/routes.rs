//! What the webhook answers: `POST /mutate`, `POST /validate`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bedplate_cluster::clock::now;
use bedplate_guarantees::Neighbours;
use bedplate_guarantees::admission::demand::Demand;
use bedplate_guarantees::check::Run;
use bedplate_guarantees::training::saves::Saves;
use bedplate_model::Profile;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::field::Empty;

use super::Limits;
use crate::admission::{self, Answer, Malformed, Request};
use crate::events::Refused;
use crate::metrics::{Metrics, RuleLabel};

/// What decisions rest on besides the request.
#[derive(Debug, Default)]
pub struct Knowledge {
    /// The cluster's profile with its exemptions.
    pub profile: Profile,
    /// What is known of the other objects.
    pub neighbours: Neighbours,
}

/// What all requests share.
#[derive(Debug)]
pub struct Webhook {
    knowledge: RwLock<Arc<Knowledge>>,
    metrics: Arc<Metrics>,
    limits: Limits,
    turns: Arc<Semaphore>,
    /// In KiB.
    bodies: Arc<Semaphore>,
    clock: fn() -> String,
    decide: [Stage; 2],
    /// What workloads ask for together, as far as somebody counts.
    pub(crate) demand: Arc<Demand>,
    /// How long saves of trainings take, as far as somebody listens.
    pub(crate) saves: Arc<Saves>,
    refusals: OnceLock<mpsc::Sender<Refused>>,
}

/// One of the two times that an API server asks.
#[derive(Clone, Copy, Debug)]
struct Stage {
    name: &'static str,
    path: &'static str,
    decide: fn(&Request<'_>, Run<'_>) -> Answer,
}

const STAGES: [Stage; 2] = [
    Stage { name: "mutate", path: "/mutate", decide: admission::explain },
    Stage { name: "validate", path: "/validate", decide: admission::judge },
];

/// A body up to this is judged where it was read: to hand it over would take longer.
const SMALL: usize = 64 << 10;

impl Webhook {
    /// A webhook that knows nothing yet: defaults hold. `clock` gives the moment, as RFC 3339.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, limits: Limits, clock: fn() -> String) -> Arc<Self> {
        Arc::new(Self {
            knowledge: RwLock::default(),
            metrics,
            limits,
            turns: Arc::new(Semaphore::new(limits.in_flight)),
            bodies: Arc::new(Semaphore::new(limits.bodies.div_ceil(1024))),
            clock,
            decide: STAGES,
            demand: Arc::default(),
            saves: Arc::default(),
            refusals: OnceLock::new(),
        })
    }

    /// From now on refusals are sent there, as far as there is room.
    pub fn report_to(&self, refusals: mpsc::Sender<Refused>) {
        let _ = self.refusals.set(refusals);
    }

    /// From now on decisions rest on this.
    pub fn learn(&self, mut knowledge: Knowledge) {
        knowledge.neighbours.demand = Arc::clone(&self.demand);
        knowledge.neighbours.saves = Arc::clone(&self.saves);
        *self.knowledge.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(knowledge);
    }

    /// Whether the profile limits anything that takes counting.
    pub(crate) fn counts(&self) -> bool {
        self.knowledge().profile.counts()
    }

    /// Whether the profile has the grace of trainings set by what their saves take.
    pub(crate) fn fixes_grace(&self) -> bool {
        self.knowledge().profile.fixes("grace-too-short")
    }

    fn knowledge(&self) -> Arc<Knowledge> {
        Arc::clone(&self.knowledge.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The routes.
    pub fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new();
        for stage in self.decide {
            let own = move |State(webhook): State<Arc<Self>>, headers: HeaderMap, body: Body| async move {
                webhook.admit(stage, &headers, body).await
            };
            router = router.route(stage.path, post(own));
        }
        router
            .fallback(|| async {
                told(StatusCode::NOT_FOUND, "no such path: this webhook answers POST /validate and POST /mutate")
            })
            .method_not_allowed_fallback(|| async {
                let mut answer = told(StatusCode::METHOD_NOT_ALLOWED, "only POST, with an AdmissionReview");
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
                answer
            })
            .with_state(Arc::clone(self))
    }

    async fn admit(self: Arc<Self>, stage: Stage, headers: &HeaderMap, body: Body) -> Response {
        match self.answer(stage, headers, body).await {
            Ok(answer) => answer,
            Err(failure) => {
                self.metrics.count(stage.name, failure.outcome());
                tracing::warn!(stage = stage.name, outcome = failure.outcome(), error = %failure, "no decision");
                let mut answer = told(failure.status(), &failure.to_string());
                if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
                    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                }
                answer
            }
        }
    }

    async fn answer(self: &Arc<Self>, stage: Stage, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
        let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !is_json(media_type) {
            return Err(Failure::MediaType(
                String::from_utf8_lossy(&media_type[..media_type.len().min(80)]).into_owned(),
            ));
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let limit = self.limits.body;
        if length.is_some_and(|length| length > limit) {
            return Err(Failure::TooLarge { limit });
        }
        // Who does not say how much comes is taken at the most.
        let room = u32::try_from(length.unwrap_or(limit).div_ceil(1024)).unwrap_or(u32::MAX);
        let turn = timeout(self.limits.patience, async {
            let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            Some((turn, Arc::clone(&self.bodies).acquire_many_owned(room).await.ok()?))
        });
        let Ok(Some(turn)) = turn.await else { return Err(Failure::Overloaded) };
        let _guard = InFlight::new(&self.metrics);
        let body = timeout(self.limits.body_read, Limited::new(body, limit).collect()).await;
        let body = match body {
            Err(_) => return Err(Failure::TooSlow(self.limits.body_read)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Failure::TooLarge { limit }),
            Ok(Err(error)) => return Err(Failure::BrokenOff(error.to_string())),
            Ok(Ok(body)) => body.to_bytes(),
        };
        let decided = if body.len() <= SMALL {
            self.decide(stage, &body)
        } else {
            let webhook = Arc::clone(self);
            // Goes on to its end even when the client leaves, and keeps its turn until then.
            let work = tokio::task::spawn_blocking(move || {
                let decided = webhook.decide(stage, &body);
                drop(turn);
                decided
            });
            work.await.unwrap_or(Err(Failure::Panicked))
        };
        let mut answer = Response::new(Body::from(decided?));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(answer)
    }

    /// From bytes to bytes. A panic is ours alone: the next request finds everything as it was.
    fn decide(&self, stage: Stage, body: &Bytes) -> Result<Vec<u8>, Failure> {
        let started = Instant::now();
        let span = tracing::info_span!(
            "admission",
            stage = stage.name,
            kind = Empty,
            namespace = Empty,
            decision = Empty,
            rules = Empty
        );
        let _in_it = span.enter();
        let knowledge = self.knowledge();
        let moment = (self.clock)();
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let request = admission::read(body)?;
            let run = Run { profile: &knowledge.profile, neighbours: &knowledge.neighbours, now: &moment };
            let answer = (stage.decide)(&request, run);
            let body = answer.body(&request.uid);
            // What comes in the same second counts this one too.
            if stage.name == "validate"
                && answer.allowed()
                && let Some(ask) = admission::ask(&request, run)
            {
                self.demand.expect(ask, now());
            }
            Ok((request, answer, body))
        }));
        let (request, answer, body) = match decided {
            Ok(Ok(decided)) => decided,
            Ok(Err(malformed)) => return Err(Failure::Malformed(malformed)),
            Err(_) => return Err(Failure::Panicked),
        };
        let took = started.elapsed();
        let outcome = answer.outcome().name();
        self.metrics.count(stage.name, outcome);
        self.metrics.duration.observe(took.as_secs_f64());
        if let Some((refused, refusals)) = Refused::of(&request, &answer).zip(self.refusals.get()) {
            // Where there is no room, the metrics and the log have it.
            let _ = refusals.try_send(refused);
        }
        let rules: Vec<_> = answer.refusal.iter().flat_map(|refusal| &refusal.causes).map(|cause| cause.rule).collect();
        for rule in &rules {
            self.metrics.refusals.get_or_create(&RuleLabel { rule }).inc();
        }
        let rules = rules.join(",");
        span.record("kind", &*request.kind).record("namespace", &*request.namespace);
        span.record("decision", outcome).record("rules", &*rules);
        tracing::info!(
            stage = stage.name,
            outcome,
            operation = request.operation.name(),
            kind = request.kind,
            namespace = request.namespace,
            name = request.name,
            user = request.user,
            dry_run = request.dry_run,
            rules,
            warnings = answer.warnings.len(),
            uid = request.uid,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "decision"
        );
        Ok(body)
    }
}

struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Why there is no decision. The API server goes by the webhook's `failurePolicy` then.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("content type `{0}`; expected `application/json`")]
    MediaType(String),
    #[error("the body is larger than the limit of {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not come within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    #[error("the body broke off: {0}")]
    BrokenOff(String),
    #[error("too many requests at a time; try again")]
    Overloaded,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("this request met a mistake in Bedplate, which is in the log; please report it")]
    Panicked,
}

impl Failure {
    const fn status(&self) -> StatusCode {
        match self {
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn outcome(&self) -> &'static str {
        match self {
            Self::MediaType(_) | Self::Malformed(_) | Self::BrokenOff(_) => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::TooSlow(_) => "timeout",
            Self::Overloaded => "overloaded",
            Self::Panicked => "panicked",
        }
    }
}

/// `application/json`, with or without parameters.
fn is_json(media_type: &[u8]) -> bool {
    let name = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// A sentence for whoever set this up.
pub(super) fn told(status: StatusCode, text: &str) -> Response {
    let mut answer = Response::new(Body::from(format!("{text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
impl Webhook {
    /// The same with a stage that does as `decide` does.
    pub(crate) fn with(limits: Limits, decide: fn(&Request<'_>, Run<'_>) -> Answer) -> Arc<Self> {
        let mut webhook = Self::new(Arc::new(Metrics::default()), limits, || "2026-11-24".to_owned());
        if let Some(own) = Arc::get_mut(&mut webhook) {
            own.decide[1].decide = decide;
        }
        webhook
    }
}
