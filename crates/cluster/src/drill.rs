//! What the drills that run pods share.

use bedplate_model::names;
use serde_json::{Value, json};

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

/// A condition of a pod, where it has that.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
