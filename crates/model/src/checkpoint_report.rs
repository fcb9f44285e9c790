//! What a training says of its checkpoints, in an object named as its pod. Written by the Python package, read by audits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind.
pub const KIND: &str = "CheckpointReport";
/// The section that an audit adds to what it reads, from the pod: `accelerators`, `graceSeconds`. It is on no cluster.
pub const POD: &str = "pod";

/// The last checkpoint of a training, and what the next one takes.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointReport {
    /// The run that it belongs to.
    #[schemars(length(max = 1024))]
    pub run: String,
    /// The folder or the URL that it saves to.
    #[schemars(length(max = 2048))]
    pub place: String,
    /// Since when this process trains.
    #[schemars(extend("format" = "date-time"))]
    pub started_at: String,
    /// The step of the newest checkpoint that is durable; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// When that was saved.
    #[schemars(extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_at: Option<String>,
    /// Bytes that the rank which tells this saves.
    pub state_bytes: u64,
    /// Seconds from the beginning of a save until it is durable: of the last one, or what a measurement at the start says.
    #[schemars(range(min = 0, max = 86_400))]
    pub save_seconds: f64,
    /// How many pods train together.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pods: u32,
}
