//! What every API server brings (`pkg/apis/flowcontrol/bootstrap/default.go`).

/// A level that every server has.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Its name.
    pub name: &'static str,
    /// Its shares; 0 for `exempt`.
    pub shares: i64,
    /// How much of them others may borrow, in percent.
    pub lendable_percent: i64,
}

/// The levels of every server.
pub const LEVELS: &[Level] = &[
    Level { name: "exempt", shares: 0, lendable_percent: 50 },
    Level { name: "system", shares: 30, lendable_percent: 33 },
    Level { name: "node-high", shares: 40, lendable_percent: 25 },
    Level { name: "leader-election", shares: 10, lendable_percent: 0 },
    Level { name: "workload-high", shares: 40, lendable_percent: 50 },
    Level { name: "workload-low", shares: 100, lendable_percent: 90 },
    Level { name: "global-default", shares: 20, lendable_percent: 50 },
    Level { name: "catch-all", shares: 5, lendable_percent: 0 },
];

/// Those of them that a server has, whether they are objects or not (`pkg/util/flowcontrol/apf_controller.go`).
pub(crate) const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// The level of every controller that has none of its own.
pub const COMMON_LEVEL: &str = "workload-low";

/// Names and precedences of the FlowSchemas of every server.
pub const SCHEMAS: &[(&str, i64)] = &[
    ("exempt", 1),
    ("probes", 2),
    ("system-leader-election", 100),
    ("endpoint-controller", 150),
    ("workload-leader-election", 200),
    ("system-node-high", 400),
    ("system-nodes", 500),
    ("kube-controller-manager", 800),
    ("kube-scheduler", 800),
    ("kube-system-service-accounts", 900),
    ("service-accounts", 9000),
    ("global-default", 9900),
    ("catch-all", 10000),
];

/// The annotation by which a server keeps its own objects in step; a custom object that carries
/// `"true"` is deleted as one that is no longer wanted (`pkg/registry/flowcontrol/ensurer`).
pub const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Whether a name is of a level or a schema that every server has.
#[must_use]
pub fn is_bootstrap(name: &str) -> bool {
    LEVELS.iter().any(|level| level.name == name) || SCHEMAS.iter().any(|(schema, _)| *schema == name)
}
