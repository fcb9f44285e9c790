//! What a rule may know besides its subject.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use bedplate_apf::{FlowSchema, PriorityLevel, Shadow, shadowed};
use bedplate_model::{Object, Settings, claim};

/// A rule's surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The settings of the subject's namespace.
    pub settings: &'a Settings,
    /// The other objects of the run.
    pub neighbours: &'a Neighbours,
}

/// The files beside a Dockerfile, read by whoever does I/O.
pub trait BuildContext {
    /// The text of a file of the build context; nothing where it is not there or not text.
    fn read(&self, path: &str) -> Option<String>;
}

/// A build context of which nothing is known.
#[derive(Clone, Copy, Debug)]
pub struct NoContext;

impl BuildContext for NoContext {
    fn read(&self, _: &str) -> Option<String> {
        None
    }
}

/// What rules ask of objects other than their subject. Small facts, never the objects: it has
/// to stay small over a hundred thousand files.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// Selectors of PodDisruptionBudgets, by namespace.
    pub budgets: BTreeMap<String, Vec<Selector>>,
    /// FlowSchemas.
    pub flow_schemas: Vec<FlowSchema>,
    /// PriorityLevelConfigurations.
    pub priority_levels: Vec<PriorityLevel>,
    /// FlowSchemas that no request reaches, worked out when the first is asked for.
    shadows: OnceLock<Vec<Shadow>>,
    /// Devices that a ResourceClaimTemplate asks for, by namespace and name.
    pub claim_templates: BTreeMap<(String, String), u64>,
    /// Whether a NodeLocal DNSCache runs in front of CoreDNS.
    pub node_local_dns: bool,
}

/// The labels that a selector asks for; one with expressions that we do not read matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `matchLabels`.
    pub labels: BTreeSet<(String, String)>,
    /// Whether there are `matchExpressions` as well.
    pub expressions: bool,
}

impl Neighbours {
    /// Words of which one stands in every file that [`Neighbours::add`] would learn from.
    pub const MARKS: &'static [&'static str] =
        &["PodDisruptionBudget", "FlowSchema", "PriorityLevelConfiguration", "ResourceClaimTemplate", "169.254.20.10"];

    /// Whether a text may hold something that [`Neighbours::add`] would learn from.
    #[must_use]
    pub fn may_learn_from(text: &str) -> bool {
        Self::MARKS.iter().any(|mark| memchr::memmem::find(text.as_bytes(), mark.as_bytes()).is_some())
    }

    /// FlowSchemas of the run that no request reaches.
    #[must_use]
    pub fn shadows(&self) -> &[Shadow] {
        self.shadows.get_or_init(|| shadowed(&self.flow_schemas))
    }

    /// The facts of two runs over files, the first's before the second's.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        for (namespace, selectors) in other.budgets {
            self.budgets.entry(namespace).or_default().extend(selectors);
        }
        self.flow_schemas.extend(other.flow_schemas);
        self.priority_levels.extend(other.priority_levels);
        self.claim_templates.extend(other.claim_templates);
        self.node_local_dns |= other.node_local_dns;
        self
    }

    /// Learns from an object.
    pub fn add(&mut self, object: &Object<'_>) {
        let namespace = || object.namespace().unwrap_or_default().to_owned();
        match (object.group(), object.kind) {
            ("policy", "PodDisruptionBudget") => {
                let selector = object.at("spec.selector");
                let labels = selector.key("matchLabels").entries();
                let selector = Selector {
                    labels: labels.filter_map(|(key, value)| Some((key.to_owned(), value.scalar()?))).collect(),
                    expressions: selector.key("matchExpressions").exists(),
                };
                self.budgets.entry(namespace()).or_default().push(selector);
            }
            ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
                self.flow_schemas.extend(typed::<FlowSchema>(object));
            }
            ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => {
                self.priority_levels.extend(typed::<PriorityLevel>(object));
            }
            ("resource.k8s.io", "ResourceClaimTemplate") => {
                // All devices that fit are no number; the claim itself is a finding then.
                let count = match claim::devices(object) {
                    Some(claim::Devices::Count(count)) => count,
                    _ => 0,
                };
                self.claim_templates.insert((namespace(), object.name()), count);
            }
            ("apps", "DaemonSet") if object.name().contains("node-local-dns") => self.node_local_dns = true,
            _ => {}
        }
    }
}

/// An object as its type; nothing for one that is not valid.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(object: &Object<'_>) -> Option<T> {
    serde_json::from_value(object.root.node()?.to_json()).ok()
}
