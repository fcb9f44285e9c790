//! A real Kubernetes on this machine: the programs that it is made of, pinned and built once, and clusters of them.
//!
//! ```text
//!   tools (pinned, built once) ─▶ Cluster::up(name, tier) ─▶ supervisor process ─▶ etcd, kube-apiserver, …
//!                                        │                     (its death is theirs)
//!                                        └─▶ a folder: kubeconfig, certificates, logs, data
//! ```
//!
//! `cargo xtask cluster` and the tests that need a cluster both come here.
#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod add_on;
pub mod certificates;
pub mod cluster;
pub mod debian;
pub mod definitions;
pub mod image;
pub mod node;
pub mod process;
pub mod python;
pub mod registry;
pub mod run;
pub mod tools;

pub use add_on::AddOn;
pub use cluster::{Cluster, Tier};
pub use image::Image;
pub use run::Result;
