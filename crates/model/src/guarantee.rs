//! The eight guarantees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A sentence that a platform team can rely on. Everything in Bedplate belongs to one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// No job takes more than its share, and only trusted images run.
    Admission,
    /// What everything hangs on cannot be deleted by mistake.
    Deletion,
    /// A flood never starves the controllers.
    Fairness,
    /// An outside name costs two queries, not ten.
    Dns,
    /// PID 1 forwards signals and reaps children.
    Image,
    /// A termination costs no training progress.
    Training,
    /// A new version drops no request.
    Serving,
    /// An upgrade keeps its address; a new model proves itself on one pod first.
    Upgrade,
}

impl Guarantee {
    /// All of them, in the order in which a platform meets them.
    pub const ALL: [Self; 8] = [
        Self::Admission,
        Self::Deletion,
        Self::Fairness,
        Self::Dns,
        Self::Image,
        Self::Training,
        Self::Serving,
        Self::Upgrade,
    ];

    /// The name in commands, profiles and folders.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Deletion => "deletion",
            Self::Fairness => "fairness",
            Self::Dns => "dns",
            Self::Image => "image",
            Self::Training => "training",
            Self::Serving => "serving",
            Self::Upgrade => "upgrade",
        }
    }

    /// The promise, as a sentence without a full stop.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Admission => "No job takes more than its share, and only trusted images run",
            Self::Deletion => "What everything hangs on cannot be deleted by mistake",
            Self::Fairness => "A flood never starves the controllers",
            Self::Dns => "An outside name costs two queries, not ten",
            Self::Image => "PID 1 forwards signals and reaps children",
            Self::Training => "A termination costs no training progress",
            Self::Serving => "A new version drops no request",
            Self::Upgrade => "An upgrade keeps its address; a new model proves itself on one pod first",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Guarantee {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|guarantee| guarantee.name() == name).ok_or(())
    }
}
