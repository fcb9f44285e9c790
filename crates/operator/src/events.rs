//! Refusals as Events. Where a controller asked, nobody reads its refusal: it stands at what the controller works for.
//!
//! A controller that is refused tries again, for ever: an Event is written once in a while for each object and rule, and
//! never more than a few a second altogether.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bedplate_cluster::trail::{Entry, What};
use bedplate_model::{Node, Value, names};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use crate::admission::{Answer, Request};

/// An object and rule have one Event in this time.
const PAUSE: Duration = Duration::from_secs(300);
/// Events that may come at once, and after that a second.
const BURST: f64 = 25.0;
const RATE: f64 = 1.0;
/// Objects and rules that are remembered.
const REMEMBERED: usize = 10_000;
/// Bytes of a note (`k8s.io/kubernetes/pkg/apis/core/validation/events.go`, `NoteLengthLimit`).
const NOTE: usize = 1024;
/// Refusals that wait to be told; more are counted by the metrics, as all are.
pub const WAITING: usize = 256;

/// A refusal, as far as an Event tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// What the Event stands at.
    regarding: ObjectReference,
    rule: &'static str,
    note: String,
    /// For the audit trail: the user, the object that was refused, and the reason.
    who: String,
    object: String,
    why: String,
}

impl Refused {
    /// What is told of a request and its answer; nothing of what was let through, or was only tried.
    #[must_use]
    pub fn of(request: &Request<'_>, answer: &Answer) -> Option<Self> {
        let refusal = answer.refusal.as_ref().filter(|_| !request.dry_run)?;
        let rule = refusal.causes.first()?.rule;
        let object = request.object.as_ref()?;
        let name = if request.name.is_empty() { "(to be named)" } else { &request.name };
        let note = format!("{} {name} of {} was refused: {}", request.kind, request.user, refusal.message);
        Some(Self {
            regarding: regarding(object, request),
            rule,
            note: crate::admission::cut(&note, NOTE),
            who: request.user.clone(),
            object: format!("{} {}/{name}", request.kind, request.namespace),
            why: refusal.causes.iter().map(|cause| cause.message.as_str()).collect::<Vec<_>>().join("; "),
        })
    }

    fn entry(&self) -> Entry {
        let once = bedplate_cluster::clock::now().to_string();
        let (who, object, why) = (self.who.clone(), self.object.clone(), self.why.clone());
        Entry { what: What::Refused, who, object, why, once }
    }

    fn key(&self) -> (String, &'static str) {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let object = &self.regarding;
        (format!("{}/{}/{}", part(&object.namespace), part(&object.kind), part(&object.name)), self.rule)
    }
}

/// The object's controller, where it has one; otherwise its namespace, which is there whatever becomes of the object.
fn regarding(object: &Node<'_>, request: &Request<'_>) -> ObjectReference {
    let owners =
        object.get("metadata").and_then(|metadata| metadata.get("ownerReferences")).map(|owners| &owners.value);
    let controller = match owners {
        Some(Value::Seq(owners)) => owners
            .iter()
            .find(|owner| owner.get("controller").is_some_and(|controller| controller.value == Value::Bool(true))),
        _ => None,
    };
    let namespace = Some(request.namespace.clone());
    let Some(owner) = controller else {
        return ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Namespace".to_owned()),
            name: Some(request.namespace.clone()),
            namespace,
            ..ObjectReference::default()
        };
    };
    let word = |key: &str| owner.get(key).and_then(Node::as_str).map(str::to_owned);
    ObjectReference {
        api_version: word("apiVersion"),
        kind: word("kind"),
        name: word("name"),
        uid: word("uid"),
        namespace,
        ..ObjectReference::default()
    }
}

/// Says which refusals are told.
#[derive(Debug)]
struct Limiter {
    /// When each was told last.
    told: HashMap<(String, &'static str), Duration>,
    /// How many may be told now.
    tokens: f64,
    /// When that was so.
    at: Duration,
}

impl Limiter {
    fn new() -> Self {
        Self { told: HashMap::new(), tokens: BURST, at: Duration::ZERO }
    }

    /// Whether to tell of this at the time `now`, of a clock that only goes forward.
    fn may(&mut self, key: (String, &'static str), now: Duration) -> bool {
        self.tokens = (self.tokens + now.saturating_sub(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        if self.told.get(&key).is_some_and(|last| now.saturating_sub(*last) < PAUSE) || self.tokens < 1.0 {
            return false;
        }
        if self.told.len() >= REMEMBERED {
            self.told.retain(|_, last| now.saturating_sub(*last) < PAUSE);
        }
        if self.told.len() >= REMEMBERED {
            return false;
        }
        self.tokens -= 1.0;
        self.told.insert(key, now);
        true
    }
}

/// Writes Events until nobody sends refusals any more.
pub async fn write(
    client: Client,
    identity: String,
    mut refusals: mpsc::Receiver<Refused>,
    trail: mpsc::Sender<Entry>,
) {
    let reporter = Reporter { controller: names::GROUP.to_owned(), instance: Some(identity) };
    let recorder = Recorder::new(client, reporter);
    let (mut limiter, start) = (Limiter::new(), Instant::now());
    while let Some(refused) = refusals.recv().await {
        if !limiter.may(refused.key(), start.elapsed()) {
            continue;
        }
        if trail.try_send(refused.entry()).is_err() {
            tracing::warn!(note = refused.note, "too much to put on record");
        }
        let event = Event {
            type_: EventType::Warning,
            reason: "Refused".to_owned(),
            note: Some(refused.note),
            action: refused.rule.to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &refused.regarding).await {
            tracing::warn!(%error, "the event could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A search with four thousand trials over the ceiling filled etcd with events of them.
    #[test]
    fn a_controller_that_tries_for_ever_writes_an_event_now_and_then() {
        let mut limiter = Limiter::new();
        let key = || ("team/Experiment/sweep".to_owned(), "gpu-ceiling");
        let told = (0..3600).filter(|second| limiter.may(key(), s(*second))).count();
        assert_eq!(told, 12, "in an hour");
        let mut limiter = Limiter::new();
        let told = (0..4000).filter(|trial| limiter.may((format!("team/Job/{trial}"), "gpu-ceiling"), s(trial / 1000)));
        assert_eq!(told.count(), 28, "at once, and one a second");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut limiter = Limiter::new();
        for second in 0..200_000 {
            limiter.may((second.to_string(), "gpu-ceiling"), s(second));
        }
        assert!(limiter.told.len() <= REMEMBERED);
    }
}
