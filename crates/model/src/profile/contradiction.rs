//! What a profile or an exemption can say and not mean. Each is told of a file by its place, and by the API server when the object is
//! written: one table for both.

use super::{Fairness, LANE_SHARES, Level, Mistake, NamespaceSettings, Spec};
use crate::exemption::Exemption;
use crate::names::SYSTEM_NAMESPACES;
use crate::path::FieldPath;

/// Something that contradicts itself, in a `T`.
pub(crate) struct Contradiction<T: 'static> {
    /// The part of it that this is about, `self` in [`Self::rule`]; empty for the whole.
    pub(crate) section: &'static str,
    /// The field in it that is wrong; empty for the part itself.
    pub(crate) field: &'static str,
    /// CEL: whether all is well.
    pub(crate) rule: fn() -> String,
    /// The same of what was read.
    pub(crate) holds: fn(&T) -> bool,
    /// What is wrong, and what to do.
    pub(crate) message: &'static str,
}

/// Those of settings, of some namespaces or of all; of those that hold everywhere the names are empty.
pub(crate) const SETTINGS: &[Contradiction<NamespaceSettings>] = &[
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
        field: "acceleratorsPerJob",
        rule: || no_more("acceleratorsPerJob", "acceleratorsPerNamespace"),
        holds: |of| le(of.settings.admission.accelerators_per_job, of.settings.admission.accelerators_per_namespace),
        message: "a job may have more accelerators than its whole namespace: lower acceleratorsPerJob or raise acceleratorsPerNamespace",
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
    Contradiction {
        section: "fairness",
        field: "controllers",
        rule: || "!has(self.controllers) || !self.controllers.exists(c, c.startsWith('kube-system:'))".to_owned(),
        holds: |of| of.settings.controllers().all(|(namespace, _)| namespace != "kube-system"),
        message: "accounts of kube-system have a lane of the API server's own: leave them out",
    },
    Contradiction {
        section: "fairness",
        field: "userShares",
        rule: || {
            let [controllers, users] = LANE_SHARES;
            format!(
                "(has(self.userShares) ? self.userShares : {users}) <= \
                 (has(self.controllerShares) ? self.controllerShares : {controllers})"
            )
        },
        holds: |of| of.settings.user_shares() <= of.settings.controller_shares(),
        message: "users would have more of the API server than what they depend on: lower userShares or raise controllerShares",
    },
    Contradiction {
        section: "",
        field: "modes",
        rule: || {
            "!has(self.rules) || !has(self.modes) || !self.rules.exists(k, self.rules[k] == 'off' && k in self.modes)"
                .to_owned()
        },
        holds: |of| {
            let mut off = of.settings.rules.iter().filter(|(_, level)| **level == Level::Off);
            !off.any(|(rule, _)| of.settings.modes.contains_key(rule))
        },
        message: "a rule that is off under `rules` has a mode, which does nothing: take one of the two away",
    },
];

/// Those between the parts of a profile.
pub(crate) const SPEC: &[Contradiction<Spec>] = &[
    Contradiction {
        section: "namespaces",
        field: "",
        rule: || {
            let fields = LANE_FIELDS.map(|field| format!("has(n.fairness.{field})")).join(" || ");
            format!("self.all(n, (!has(n.modes) || !('fairness' in n.modes)) && (!has(n.fairness) || !({fields})))")
        },
        holds: |of| {
            of.namespaces.iter().all(|entry| {
                let Fairness { server_concurrency: _, controllers, user_namespaces, controller_shares, user_shares } =
                    &entry.settings.fairness;
                let lists = controllers.as_ref().or(user_namespaces.as_ref()).is_some();
                let shares = controller_shares.or(*user_shares).is_some();
                !lists && !shares && !entry.settings.modes.contains_key("fairness")
            })
        },
        message: "lanes are of the whole cluster, and no namespace has its own: say it above, under `fairness` or `modes`",
    },
    Contradiction {
        section: "namespaces",
        field: "",
        rule: || "self.all(n, n.names.all(p, self.exists_one(m, p in m.names)))".to_owned(),
        holds: |of| {
            of.namespaces.iter().enumerate().all(|(i, entry)| {
                entry.names.iter().all(|name| of.namespaces.iter().skip(i + 1).all(|later| !later.names.contains(name)))
            })
        },
        message: "a name stands in two entries, of which only the later one holds there: make them one",
    },
];

/// Fields of `fairness` that say something of lanes.
const LANE_FIELDS: [&str; 4] = ["controllers", "userNamespaces", "controllerShares", "userShares"];

/// Those of exemptions.
pub(crate) const EXEMPTION: &[Contradiction<Exemption>] = &[
    Contradiction {
        section: "rule",
        field: "",
        rule: || format!("self != '{DELETE_PROTECTION}'"),
        holds: |of| of.rule != DELETE_PROTECTION,
        // A deletion bears no time of which CEL could tell that an exemption has lapsed.
        message: "no exemption lets a deletion through: `bedplate unlock` does, one object for some minutes",
    },
    Contradiction {
        section: "expires",
        field: "",
        rule: || {
            let days: Vec<_> = DAYS.iter().map(ToString::to_string).collect();
            format!(
                "self.matches('^[0-9]{{4}}-(0[1-9]|1[0-2])-[0-9]{{2}}$') && int(self.substring(8, 10)) > 0 && \
                 int(self.substring(8, 10)) <= [{}][int(self.substring(5, 7)) - 1]",
                days.join(", ")
            )
        },
        holds: |of| is_day(&of.expires),
        message: "not a day: write it as YYYY-MM-DD",
    },
    Contradiction {
        section: "reason",
        field: "",
        rule: || "self.matches('[^ \\\\t\\\\r\\\\n]')".to_owned(),
        holds: |of| !of.reason.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')),
        message: "an exemption needs a reason that a person can read next year",
    },
];

/// The guard that refuses deletions.
const DELETE_PROTECTION: &str = "delete-protection";

/// Most days of each month.
const DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

fn is_day(text: &str) -> bool {
    let digits = |part: &str, count: usize| {
        (part.len() == count && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<u32>().ok()).flatten()
    };
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let (Some(_), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2)) else { return false };
    let last = usize::try_from(month).ok().and_then(|month| DAYS.get(month.checked_sub(1)?));
    day > 0 && last.is_some_and(|last| day <= *last)
}

/// What of a table is so in `of`, which stands at a path.
pub(super) fn find<T>(table: &[Contradiction<T>], of: &T, at: &FieldPath) -> Vec<Mistake> {
    let wrong = table.iter().filter(|one| !(one.holds)(of));
    wrong
        .map(|wrong| {
            let parts = [wrong.section, wrong.field].into_iter().filter(|part| !part.is_empty());
            let path = parts.fold(at.clone(), FieldPath::key);
            let (message, help) = wrong.message.split_once(": ").unwrap_or((wrong.message, ""));
            Mistake { path, message: message.to_owned(), help: (!help.is_empty()).then(|| help.to_owned()) }
        })
        .collect()
}

fn no_more(low: &str, high: &str) -> String {
    format!("!has(self.{low}) || !has(self.{high}) || self.{low} <= self.{high}")
}

fn le(low: Option<u64>, high: Option<u64>) -> bool {
    low.zip(high).is_none_or(|(low, high)| low <= high)
}
