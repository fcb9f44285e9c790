//! What a rule may know besides its subject.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use bedplate_apf::{FlowSchema, PriorityLevel, Shadow, bootstrap, shadowed};
use bedplate_model::{Field, Object, Settings, claim};
use memchr::memmem::Finder;

use crate::admission::demand::Demand;
use crate::training::saves::Saves;

/// A rule's surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The settings of the subject's namespace.
    pub settings: &'a Settings,
    /// The other objects of the run.
    pub neighbours: &'a Neighbours,
    /// Now, as RFC 3339, or a day.
    pub now: &'a str,
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
    /// Selectors of PodDisruptionBudgets, by namespace and by their first label.
    budgets: BTreeMap<String, BTreeMap<Option<Label>, BTreeSet<Selector>>>,
    /// FlowSchemas.
    pub flow_schemas: Vec<FlowSchema>,
    /// PriorityLevelConfigurations.
    pub priority_levels: Vec<PriorityLevel>,
    /// What they are together, worked out when it is first asked for.
    lanes: OnceLock<Lanes>,
    /// Devices that a ResourceClaimTemplate asks for, by namespace and name.
    pub claim_templates: BTreeMap<(String, String), u64>,
    /// Whether a NodeLocal DNSCache runs in front of CoreDNS.
    pub node_local_dns: bool,
    /// What other workloads ask for, where somebody counts. Shared: it changes with every job that comes and goes.
    pub demand: Arc<Demand>,
    /// How long saves of trainings take, where somebody listens to them. Shared: trainings tell of each.
    pub saves: Arc<Saves>,
}

/// FlowSchemas and PriorityLevelConfigurations of a run, by their place in the lists.
#[derive(Clone, Debug, Default)]
struct Lanes {
    /// Schemas that no request reaches, each with those that take its requests.
    shadows: HashMap<String, Vec<usize>>,
    /// The first level of each name.
    levels: HashMap<String, usize>,
    /// The level with the most shares of those that no server has by itself.
    largest: Option<usize>,
}

/// A label's name and value.
pub type Label = (String, String);

/// The labels that a selector asks for, `matchLabels`. One with expressions, which we do not read, may match all that
/// have them.
pub type Selector = BTreeSet<Label>;

impl Neighbours {
    /// Words of which one stands in every document that [`Neighbours::add`] would learn from.
    pub const MARKS: &'static [&'static str] =
        &["PodDisruptionBudget", "FlowSchema", "PriorityLevelConfiguration", "ResourceClaimTemplate", "node-local-dns"];

    /// Whether a text may hold something that [`Neighbours::add`] would learn from.
    #[must_use]
    pub fn may_learn_from(text: &str) -> bool {
        static FINDERS: LazyLock<Vec<Finder<'_>>> =
            LazyLock::new(|| Neighbours::MARKS.iter().map(Finder::new).collect());
        FINDERS.iter().any(|mark| mark.find(text.as_bytes()).is_some())
    }

    /// The FlowSchemas that take every request of the one of this name; nothing where some request reaches it.
    #[must_use]
    pub fn shadowing(&self, schema: &str) -> Option<impl Iterator<Item = &FlowSchema>> {
        let places = self.lanes().shadows.get(schema)?;
        Some(places.iter().filter_map(|place| self.flow_schemas.get(*place)))
    }

    /// The priority level of a name.
    #[must_use]
    pub fn priority_level(&self, name: &str) -> Option<&PriorityLevel> {
        self.priority_levels.get(*self.lanes().levels.get(name)?)
    }

    /// The priority level with the most shares of those that no server has by itself.
    #[must_use]
    pub fn largest_priority_level(&self) -> Option<&PriorityLevel> {
        self.priority_levels.get(self.lanes().largest?)
    }

    fn lanes(&self) -> &Lanes {
        self.lanes.get_or_init(|| {
            let mut lanes = Lanes::default();
            let mut schemas: HashMap<&str, Vec<usize>> = HashMap::new();
            for (place, schema) in self.flow_schemas.iter().enumerate() {
                schemas.entry(&schema.metadata.name).or_default().push(place);
            }
            for Shadow { schema, by } in shadowed(&self.flow_schemas) {
                let mut places: Vec<_> =
                    by.iter().filter_map(|name| schemas.get(name.as_str())).flatten().copied().collect();
                places.sort_unstable();
                lanes.shadows.entry(schema).or_insert(places);
            }
            for (place, level) in self.priority_levels.iter().enumerate() {
                lanes.levels.entry(level.metadata.name.clone()).or_insert(place);
            }
            let own =
                self.priority_levels.iter().enumerate().filter(|(_, level)| {
                    !bootstrap::LEVELS.iter().any(|bootstrap| bootstrap.name == level.metadata.name)
                });
            lanes.largest = own.max_by_key(|(_, level)| (level.shares(), &level.metadata.name)).map(|(place, _)| place);
            lanes
        })
    }

    /// Whether a PodDisruptionBudget of a namespace picks pods with these labels, as far as labels tell.
    #[must_use]
    pub fn has_budget(&self, namespace: &str, labels: &Selector) -> bool {
        let of_namespace = |selectors: &BTreeMap<Option<Label>, BTreeSet<Selector>>| {
            // The first label is one of the pods', or there is none.
            let mut firsts = labels.iter().cloned().map(Some).chain([None]);
            firsts.any(|first| selectors.get(&first).is_some_and(|all| all.iter().any(|one| one.is_subset(labels))))
        };
        // An object without a namespace lands where the others of its directory do, whichever that is.
        if namespace.is_empty() {
            return self.budgets.values().any(of_namespace);
        }
        [namespace, ""].into_iter().filter_map(|namespace| self.budgets.get(namespace)).any(of_namespace)
    }

    /// The facts of two runs over files, the first's before the second's.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        for (namespace, selectors) in other.budgets {
            let known = self.budgets.entry(namespace).or_default();
            for (first, mut selectors) in selectors {
                known.entry(first).or_default().append(&mut selectors);
            }
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
                let labels = labels(&object.at("spec.selector.matchLabels"));
                let selectors = self.budgets.entry(namespace()).or_default();
                selectors.entry(labels.first().cloned()).or_default().insert(labels);
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

/// The labels of a field.
pub(crate) fn labels(field: &Field<'_>) -> Selector {
    field.entries().filter_map(|(name, value)| Some((name.to_owned(), value.scalar()?))).collect()
}

/// An object as its type; nothing for one that is not valid.
pub(crate) fn typed<T: serde::de::DeserializeOwned>(object: &Object<'_>) -> Option<T> {
    serde_json::from_value(object.root.node()?.to_json()).ok()
}
