//! API Priority and Fairness, as the API server computes it. Pure; knows no Kubernetes client.
//!
//! Sources, by file, are those of Kubernetes 1.37 (`k8s.io/apiserver`).

pub mod bootstrap;
pub mod borrowing;
pub mod distribution;
pub mod live;
pub mod matching;
pub mod queues;
pub mod refusals;
pub mod sharding;
pub mod shares;
pub mod simulate;
pub mod types;
pub mod width;

pub use matching::{Request, Shadow, first_match, shadowed};
pub use shares::{Concurrency, concurrency};
pub use types::{FlowSchema, PriorityLevel};
