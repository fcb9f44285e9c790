//! What a profile can say and not mean. Each is told of a file by its place, and by the API server when the object is
//! written: one table for both.

use super::NamespaceSettings;
use crate::names::SYSTEM_NAMESPACES;

/// Something that contradicts itself.
pub(crate) struct Contradiction {
    /// The part of the settings that it is about, `self` in [`Self::rule`].
    pub(crate) section: &'static str,
    /// The field in it that is wrong; empty for the part itself.
    pub(crate) field: &'static str,
    /// CEL: whether all is well.
    pub(crate) rule: fn() -> String,
    /// The same of settings that were read; of those that hold everywhere the names are empty.
    pub(crate) holds: fn(&NamespaceSettings) -> bool,
    /// What is wrong, and what to do.
    pub(crate) message: &'static str,
}

/// Every one.
pub(crate) const TABLE: &[Contradiction] = &[
    Contradiction {
        section: "admission",
        field: "acceleratorsPerPod",
        rule: || no_more("acceleratorsPerPod", "acceleratorsPerJob"),
        holds: |of| le(of.settings.admission.accelerators_per_pod, of.settings.admission.accelerators_per_job),
        message: "a pod may have more accelerators than its whole job: lower acceleratorsPerPod or raise acceleratorsPerJob",
    },
    Contradiction {
        section: "admission",
        field: "acceleratorsPerJob",
        rule: || no_more("acceleratorsPerJob", "acceleratorsPerSearch"),
        holds: |of| le(of.settings.admission.accelerators_per_job, of.settings.admission.accelerators_per_search),
        message: "a job may have more accelerators than the whole search that starts it: lower acceleratorsPerJob or raise acceleratorsPerSearch",
    },
    Contradiction {
        section: "admission",
        field: "registries",
        rule: || "!has(self.registries) || self.registries.size() > 0".to_owned(),
        holds: |of| of.settings.admission.registries.as_ref().is_none_or(|registries| !registries.is_empty()),
        message: "no registry is trusted, so every image would be refused: name at least one, or leave registries out for the default",
    },
    Contradiction {
        section: "names",
        field: "",
        rule: || {
            let system: Vec<_> = SYSTEM_NAMESPACES.iter().map(|name| format!("'{name}'")).collect();
            format!("!self.exists(n, n in [{}])", system.join(", "))
        },
        holds: |of| !of.names.iter().any(|name| SYSTEM_NAMESPACES.contains(&name.as_str())),
        message: "no guard ever looks into the namespaces of the system, which a cluster needs to come back: leave them out",
    },
];

fn no_more(low: &str, high: &str) -> String {
    format!("!has(self.{low}) || !has(self.{high}) || self.{low} <= self.{high}")
}

fn le(low: Option<u64>, high: Option<u64>) -> bool {
    low.zip(high).is_none_or(|(low, high)| low <= high)
}
