//! What the drills that run pods share.

use std::future::Future;

use bedplate_model::names;
use serde_json::{Value, json};

use crate::{Cluster, Error, Place};

impl Cluster {
    /// Does something with an object that was made for it, and deletes that whatever came of it. The first error is told.
    pub(crate) async fn then_delete<T>(
        &self,
        place: Place<'_>,
        done: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let done = done.await;
        let gone = self.delete(place, false).await;
        let done = done?;
        match gone {
            Ok(()) | Err(Error::NotFound(_)) => Ok(done),
            Err(error) => Err(error),
        }
    }
}

/// By which they are told from what users run.
pub(crate) fn labels() -> Value {
    json!({ "app.kubernetes.io/managed-by": names::FIELD_MANAGER, "app.kubernetes.io/component": "drill" })
}

/// What a pod waits for, or why it failed, in Kubernetes' words; nothing where it says nothing.
pub(crate) fn waiting_for(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    let state = &status["containerStatuses"][0]["state"];
    let unscheduled = condition(pod, "PodScheduled").filter(|condition| condition["status"] == "False");
    let told = [Some(&state["waiting"]), Some(&state["terminated"]), unscheduled, Some(status)];
    let words = told.into_iter().flatten().flat_map(|of| [&of["reason"], &of["message"]]).filter_map(Value::as_str);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(": "))
}

/// What the container of a pod said at its end.
pub(crate) fn message_of(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"].as_str().unwrap_or_default()
}

/// A condition of a pod, where it has that.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
