//! The labels and annotations that Bedplate reads. Each name exists here only.

/// API group of Bedplate's own kinds, and the prefix of its labels and annotations.
pub const GROUP: &str = "bedplate.dev";
/// Version of Bedplate's own kinds.
pub const API_VERSION: &str = "bedplate.dev/v1alpha1";
/// Annotation (or label) that protects an object from deletion: `"true"`.
pub const DELETE_PROTECTION: &str = "bedplate.dev/delete-protection";
/// OpenKruise's label of the same purpose: `Always` or `Cascading`.
pub const KRUISE_DELETE_PROTECTION: &str = "policy.kruise.io/delete-protection";
/// Label of a namespace that production depends on, whatever its name: `"true"`.
pub const PRODUCTION: &str = "bedplate.dev/production";
/// Label that says what a workload is for, where the guess is wrong: `training`, `serving`,
/// `notebook`, `platform` or `other`.
pub const PURPOSE: &str = "bedplate.dev/purpose";
/// Annotation that lets one deletion through, written by `bedplate unlock`:
/// `NAME until 2026-01-01T00:00:00Z by USER: REASON`.
pub const UNLOCK: &str = "bedplate.dev/unlock";
/// Bedplate's own namespace.
pub const NAMESPACE: &str = "bedplate-system";
/// Namespaces in which nothing is refused: what a cluster needs to come back.
pub const SYSTEM_NAMESPACES: &[&str] = &["kube-system", "kube-public", "kube-node-lease", NAMESPACE];
/// The profile that holds on a cluster.
pub const PROFILE: &str = "default";
/// Who owns the fields that `bedplate apply` writes (server-side apply).
pub const FIELD_MANAGER: &str = "bedplate";
