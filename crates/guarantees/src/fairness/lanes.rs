//! FlowSchemas and levels of a run, typed.

use bedplate_apf::bootstrap;
use bedplate_apf::{FlowSchema, PriorityLevel};
use bedplate_model::Object;

use crate::Context;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// An object as a FlowSchema; nothing where it is none, or not a valid one.
pub(super) fn flow_schema(object: &Object<'_>) -> Option<FlowSchema> {
    typed(object, "FlowSchema")
}

/// An object as a PriorityLevelConfiguration.
pub(super) fn priority_level(object: &Object<'_>) -> Option<PriorityLevel> {
    typed(object, "PriorityLevelConfiguration")
}

fn typed<T: serde::de::DeserializeOwned>(object: &Object<'_>, kind: &str) -> Option<T> {
    if !object.is(GROUP, kind) {
        return None;
    }
    serde_json::from_value(object.root.node()?.to_json()).ok()
}

/// The FlowSchemas of the run.
pub(super) fn all_schemas(cx: &Context<'_>) -> Vec<FlowSchema> {
    cx.neighbours.flow_schemas.iter().filter_map(|json| serde_json::from_value(json.clone()).ok()).collect()
}

/// The levels of the run.
pub(super) fn all_levels(cx: &Context<'_>) -> Vec<PriorityLevel> {
    cx.neighbours.priority_levels.iter().filter_map(|json| serde_json::from_value(json.clone()).ok()).collect()
}

/// Shares of a level, of the run or of every server; nothing for one that is unknown. Exempt
/// levels have more than anyone.
pub(super) fn shares(name: &str, cx: &Context<'_>) -> Option<i64> {
    if name == "exempt" {
        return Some(i64::MAX);
    }
    let own = all_levels(cx).into_iter().find(|level| level.metadata.name == name);
    own.map(|level| if level.is_exempt() { i64::MAX } else { level.shares() })
        .or_else(|| bootstrap::LEVELS.iter().find(|level| level.name == name).map(|level| level.shares))
}
