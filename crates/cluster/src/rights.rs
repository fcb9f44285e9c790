//! What each command may have to do on a cluster: the one table of rights. From it come the question to the API server
//! before a command does anything (every missing right at once), and `bedplate rbac`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bedplate_apf::live::{METRICS, REQUESTS};
use bedplate_model::names;
use bedplate_model::workload::kinds::{Kind, TABLE as WORKLOADS};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use bedplate_guarantees::fairness::enforce;

use crate::bundle::ADMISSION;
use crate::resource::plural;
use crate::{Cluster, Error, Place, audit, dns, fairness, impact, journal, lanes, prove, rbac, reports, trail};

/// A command that talks to a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// `bedplate audit`.
    Audit,
    /// `bedplate plan`.
    Plan,
    /// `bedplate apply`.
    Apply,
    /// `bedplate rollback`.
    Rollback,
    /// `bedplate uninstall`.
    Uninstall,
    /// `bedplate prove`.
    Prove,
    /// `bedplate prove fairness`, which sends requests as others.
    ProveFairness,
    /// `bedplate prove dns`, which runs a pod.
    ProveDns,
    /// `bedplate prove training`, which runs a job and evicts its pod.
    ProveTraining,
    /// `bedplate impact`.
    Impact,
    /// `bedplate unlock` and `bedplate lock`.
    Unlock,
    /// `bedplate trail`.
    Trail,
    /// `bedplate apf`.
    Apf,
    /// `bedplate apf explain --all-controllers`.
    ApfControllers,
    /// `bedplate dns`.
    Dns,
    /// `bedplate dns stats`.
    DnsStats,
    /// `bedplate dns stats --clients`, which reads logs.
    DnsClients,
    /// `bedplate apf top`.
    ApfTop,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Audit,
        Self::Plan,
        Self::Apply,
        Self::Rollback,
        Self::Uninstall,
        Self::Prove,
        Self::ProveFairness,
        Self::ProveDns,
        Self::ProveTraining,
        Self::Impact,
        Self::Unlock,
        Self::Trail,
        Self::Apf,
        Self::ApfControllers,
        Self::Dns,
        Self::DnsStats,
        Self::DnsClients,
        Self::ApfTop,
    ];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Rollback => "rollback",
            Self::Uninstall => "uninstall",
            Self::Prove => "prove",
            Self::ProveFairness => "prove-fairness",
            Self::ProveDns => "prove-dns",
            Self::ProveTraining => "prove-training",
            Self::Impact => "impact",
            Self::Unlock => "unlock",
            Self::Trail => "trail",
            Self::Apf => "apf",
            Self::ApfControllers => "apf-controllers",
            Self::Dns => "dns",
            Self::DnsStats => "dns-stats",
            Self::DnsClients => "dns-clients",
            Self::ApfTop => "apf-top",
        }
    }
}

/// A verb on a resource.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Right {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// Its name in paths, such as `pods` or `stabilityprofiles/status`; with a slash before it, a path that is no resource.
    pub resource: Cow<'static, str>,
    /// `list`.
    pub verb: &'static str,
    /// The one object that it is about, where it is about one.
    pub name: Option<String>,
    /// The one namespace that it is about, where it is about one.
    pub namespace: Option<String>,
}

/// Resources of a row.
enum What {
    These(&'static str, &'static [&'static str]),
    /// Those of the core group in one namespace.
    Within(&'static str, &'static [&'static str]),
    /// Kinds of the workload table.
    Workloads(fn(&Kind) -> bool),
    /// Kinds by group and name.
    Kinds(&'static [(&'static str, &'static str)]),
    /// Objects by group, kind and name.
    Named(&'static [(&'static str, &'static str, &'static str)]),
    /// ConfigMaps of a namespace: the one of that name, or all.
    Texts(&'static str, Option<&'static str>),
    /// Paths that are no resources.
    Paths(&'static [&'static str]),
}

/// What some commands do to some resources, and why.
struct Row {
    tasks: &'static [Task],
    verbs: &'static [&'static str],
    what: What,
    why: &'static str,
    /// Whether the command does without it where it is missing: a role gives it, and nobody is asked for it.
    optional: bool,
}

const fn row(tasks: &'static [Task], verbs: &'static [&'static str], what: What, why: &'static str) -> Row {
    Row { tasks, verbs, what, why, optional: false }
}

const fn better(tasks: &'static [Task], verbs: &'static [&'static str], what: What, why: &'static str) -> Row {
    Row { tasks, verbs, what, why, optional: true }
}

use Task::{
    Apf, ApfControllers, ApfTop, Apply, Audit, Dns, DnsClients, DnsStats, Impact, Plan, Prove, ProveDns, ProveFairness,
    ProveTraining, Rollback, Trail, Uninstall, Unlock,
};
use What::{Kinds, Named, Paths, Texts, These, Within, Workloads};

const DEFINITIONS: What = These("apiextensions.k8s.io", &["customresourcedefinitions"]);
const GUARDS: What = These(ADMISSION, &["validatingadmissionpolicies", "validatingadmissionpolicybindings"]);
const PROFILES: What = These(names::GROUP, &["stabilityprofiles"]);
const EXEMPTIONS: What = These(names::GROUP, &["exemptions"]);
const REPORTS: What = These(names::GROUP, &["checkpointreports"]);
const OWN: What = These(names::GROUP, &["stabilityprofiles", "exemptions"]);

/// The name of nearly everything that runs the operator: its Deployment, its account, its roles, its Lease.
pub const OPERATOR_NAME: &str = "bedplate-operator";
/// The role of a service account whose trainings report their checkpoints; who may `edit` a namespace has it.
pub const CHECKPOINT_REPORTER: &str = "bedplate-checkpoint-reporter";
/// The role of who reads those reports; who may `view` a namespace has it.
pub const CHECKPOINT_VIEWER: &str = "bedplate-checkpoint-viewer";
/// The name of the Secret with the operator's certificates.
pub const OPERATOR_SECRET: &str = "bedplate-webhook";

/// What runs the operator, and what it makes for itself.
#[rustfmt::skip]
pub const OPERATOR: &[(&str, &str, &str)] = &[
    ("", "Namespace", names::NAMESPACE),
    ("", "ServiceAccount", OPERATOR_NAME),
    ("", "Service", OPERATOR_NAME),
    ("", "Secret", OPERATOR_SECRET),
    ("coordination.k8s.io", "Lease", OPERATOR_NAME),
    ("apps", "Deployment", OPERATOR_NAME),
    ("policy", "PodDisruptionBudget", OPERATOR_NAME),
    ("rbac.authorization.k8s.io", "ClusterRole", OPERATOR_NAME),
    ("rbac.authorization.k8s.io", "ClusterRole", CHECKPOINT_REPORTER),
    ("rbac.authorization.k8s.io", "ClusterRole", CHECKPOINT_VIEWER),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", OPERATOR_NAME),
    ("rbac.authorization.k8s.io", "Role", OPERATOR_NAME),
    ("rbac.authorization.k8s.io", "RoleBinding", OPERATOR_NAME),
    (ADMISSION, "MutatingWebhookConfiguration", names::GROUP),
    (ADMISSION, "ValidatingWebhookConfiguration", names::GROUP),
];

const OWN_DEFINITIONS: &[(&str, &str, &str)] = &[
    ("apiextensions.k8s.io", "CustomResourceDefinition", "stabilityprofiles.bedplate.dev"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "exemptions.bedplate.dev"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "checkpointreports.bedplate.dev"),
];

/// The lanes that may be made.
pub const LANES: &[(&str, &str, &str)] = &[
    (lanes::GROUP, "PriorityLevelConfiguration", enforce::CONTROLLERS),
    (lanes::GROUP, "PriorityLevelConfiguration", enforce::USERS),
    (lanes::GROUP, "FlowSchema", enforce::LEASES),
    (lanes::GROUP, "FlowSchema", enforce::CONTROLLERS),
    (lanes::GROUP, "FlowSchema", enforce::NAMESPACES),
    (lanes::GROUP, "FlowSchema", enforce::PARTS),
    (lanes::GROUP, "FlowSchema", enforce::PEOPLE),
];

/// Whom a request may be sent as: checked of whoever sends it (`Impersonate-User`, `Impersonate-Group`).
pub const IMPERSONATED: &[&str] = &["groups", "serviceaccounts", "users"];

/// What the last apply has changed, as it was.
const JOURNAL: What = Texts(journal::NAMESPACE, Some(journal::NAME));
/// The Corefile as it was before autopath was put into it.
const COREFILE_BEFORE: What = Texts(dns::NAMESPACE, Some(dns::BACKUP));
/// CoreDNS's own, by the name that nearly every cluster gives it.
const COREFILE: What = Texts(dns::NAMESPACE, Some("coredns"));
const TRAIL: What = Texts(trail::NAMESPACE, Some(trail::NAME));

const EVERY: fn(&Kind) -> bool = |_| true;
const SCALED: fn(&Kind) -> bool = |kind| kind.scale.is_some();

/// Server-side apply is a patch, and a creation where the object is not there yet; a plan does it as a dry run. A guard
/// is replaced as a whole: an update.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(&[Audit, Plan, Apply, Prove, ProveFairness, ApfControllers], &["get"], PROFILES, "the settings that hold"),
    row(&[Audit, Plan, Apply, Prove, ProveFairness, ApfControllers], &["list"], EXEMPTIONS, "what need not follow them"),
    row(&[Audit, Plan], &["list"], Workloads(EVERY), "what the rules judge"),
    row(&[Audit, Plan], &["get"], These("", &["pods"]), "pods that nobody owns are judged themselves, and those that report their checkpoints; of the others the metadata is enough"),
    row(&[Audit, Plan], &["list"], Kinds(audit::OTHERS), "what the rules judge, or have to know of the rest"),
    better(&[Audit, Plan], &["list"], REPORTS, "what trainings tell of their checkpoints; without this right none is judged"),
    row(&[Audit, Plan], &["list"], Texts(audit::COREFILES, None), "Corefiles: those of kube-system are enough"),
    row(&[Plan, Apply], &["get", "patch"], DEFINITIONS, "the definitions of Bedplate's kinds"),
    row(&[Apply], &["create"], DEFINITIONS, "the definitions, at the first time"),
    row(&[Plan, Apply, Rollback], &["get", "patch"], OWN, "the profile and the exemptions of --file"),
    row(&[Apply, Rollback], &["create"], OWN, "the same, at the first time"),
    row(&[Rollback], &["list", "delete"], EXEMPTIONS, "exemptions that the last apply has made"),
    row(&[Plan, Apply, Rollback], &["get", "list", "patch", "update"], GUARDS, "the guards"),
    row(&[Apply, Rollback], &["create", "delete"], GUARDS, "the guards that are new, and those of another version"),
    row(&[Plan, Apply, Rollback], &["list"], Kinds(lanes::KINDS), "the lanes, and what every level of the API server has"),
    row(&[Plan, Apply, Rollback], &["get", "patch", "update"], Named(LANES), "our lanes: controllers, users"),
    row(&[Apply, Rollback], &["create", "delete"], Named(LANES), "the same, at the first time, and when nobody needs them"),
    row(&[Plan, Apply, ApfControllers, ProveFairness], &["list"], Kinds(fairness::FOUND), "which controllers and which users are here: lanes are for who is there"),
    row(&[Apply, Rollback], &["patch"], These(names::GROUP, &["stabilityprofiles/status", "exemptions/status"]), "how the guarantees stand, and whether an exemption is honoured"),
    // `authorizeUpdate` in the API server's `registry/admissionregistration/validatingadmissionpolicy/authz.go`.
    row(&[Plan, Apply, Rollback], &["get", "list"], These("coordination.k8s.io", &["leases"]), "who makes a policy has to be able to read what it is held against: the clock"),
    row(&[Plan, Apply, Rollback], &["get", "list"], Workloads(SCALED), "the same: what is scaled"),
    row(&[Apply, Rollback], &["get", "patch"], JOURNAL, "what was there before, for the rollback"),
    row(&[Apply, Rollback], &["create"], JOURNAL, "the same, and the record of unlocks, at the first time"),
    row(&[Uninstall, Rollback], &["delete"], JOURNAL, "it is needed no more"),
    row(&[Uninstall], &["delete"], TRAIL, "what is on record goes last"),
    row(&[Uninstall], &["list", "delete"], GUARDS, "the guards"),
    row(&[Uninstall], &["list"], Kinds(lanes::KINDS), "the lanes"),
    row(&[Uninstall], &["delete"], Named(LANES), "the same"),
    row(&[Uninstall], &["get", "delete"], Named(OWN_DEFINITIONS), "the definitions; their objects go with them"),
    row(&[Uninstall], &["list"], OWN, "what goes with the definitions is named"),
    row(&[Uninstall], &["list"], REPORTS, "the same"),
    row(&[Uninstall], &["get", "delete"], Named(OPERATOR), "what runs the operator, and what that made"),
    row(&[Uninstall], &["list"], These("", &["pods"]), "the operator's pods have to have ended"),
    row(&[Uninstall], &["list", "delete"], Kinds(reports::KINDS), "what the operator reported"),
    row(&[Prove], &["create"], Workloads(EVERY), "dry runs: what must not be created"),
    row(&[Prove], &["list", "delete", "patch"], Kinds(prove::MARKED), "dry runs: what must not be deleted, nor its mark be taken off"),
    row(&[Prove], &["deletecollection"], DEFINITIONS, "dry runs: the definitions, all at once"),
    row(&[Prove], &["delete", "patch"], PROFILES, "dry runs: the profile must not be deleted, nor narrowed"),
    row(&[ProveFairness], &["impersonate"], These("", IMPERSONATED), "the flood is sent as users, the probe beside it as a controller"),
    row(&[Prove, ProveFairness], &["patch"], These(names::GROUP, &["stabilityprofiles/status"]), "what the drill showed: all that it writes"),
    row(&[Impact], &["get", "list"], Workloads(EVERY), "what hangs on an object, and its pods"),
    row(&[Impact], &["get", "list"], Kinds(impact::LOOKED_AT), "what hangs on an object besides"),
    row(&[Unlock], &["create"], These("events.k8s.io", &["events"]), "who unlocked what and why, beside the object"),
    row(&[Trail, Unlock], &["get"], TRAIL, "what is on record"),
    row(&[Unlock], &["patch"], TRAIL, "who unlocked what and why, on record"),
    row(&[Apply], &["get"], TRAIL, "the record of refusals, unlocks and exemptions"),
    row(&[Unlock], &["get", "patch"], Kinds(prove::MARKED), "what is unlocked"),
    row(&[Apf, ApfControllers, ProveFairness], &["list"], Kinds(lanes::KINDS), "the lanes, and who is sent into which"),
    row(&[ProveDns, DnsStats, DnsClients], &["list"], These("apps", &["deployments"]), "which Deployment of kube-system is CoreDNS"),
    row(&[Plan, Apply, ProveDns], &["list"], Kinds(dns::FACTS), "whom autopath would help, and what memory it would take"),
    better(&[Plan, Apply], &["create"], These("authorization.k8s.io", &["subjectaccessreviews"]), "whether CoreDNS may watch pods, which autopath needs; without this right it is not asked"),
    row(&[Plan, Apply, Rollback, Uninstall, ProveDns, DnsStats, DnsClients], &["get"], COREFILE, "the Corefile"),
    row(&[Apply, Rollback, Uninstall], &["patch"], COREFILE, "autopath in it, and back"),
    row(&[Plan, Apply, Rollback, Uninstall], &["get"], COREFILE_BEFORE, "the Corefile as it was"),
    row(&[Apply], &["patch"], COREFILE_BEFORE, "the same, before anything is changed"),
    row(&[Apply], &["create"], COREFILE_BEFORE, "the same, at the first time"),
    row(&[Apply, Rollback, Uninstall], &["delete"], COREFILE_BEFORE, "it is needed no more"),
    row(&[DnsStats], &["list"], These("", &["pods"]), "CoreDNS's pods"),
    row(&[DnsClients], &["list"], These("", &["pods"]), "CoreDNS's pods, and whose the addresses are that ask most"),
    row(&[DnsClients], &["get"], Within(dns::NAMESPACE, &["pods/log"]), "the queries that CoreDNS writes into its log"),
    row(&[Apply, ProveDns, DnsStats, DnsClients], &["get"], These("", &["pods/proxy"]), "what CoreDNS counts: queries, answers, reloads"),
    // Over WebSockets it is read, and created by 1.35 (`AuthorizePodWebsocketUpgradeCreatePermission`).
    row(&[Apply], &["get", "create"], These("", &["pods/portforward"]), "each CoreDNS is asked for a name, before and after"),
    row(&[ProveDns], &["create", "get", "delete"], These("", &["pods"]), "the pod that looks names up"),
    row(&[ProveTraining], &["create", "delete"], These("batch", &["jobs"]), "the job that trains"),
    row(&[ProveTraining], &["create"], These("", &["persistentvolumeclaims"]), "where its checkpoints go, unless --claim names a place"),
    row(&[ProveTraining], &["list"], These("", &["pods"]), "how far its pods are"),
    row(&[ProveTraining], &["create"], These("", &["pods/eviction"]), "its first pod is evicted, as a drain does it"),
    row(&[ProveDns, ProveTraining], &["get"], PROFILES, "the settings that hold"),
    row(&[ProveDns, ProveTraining], &["patch"], These(names::GROUP, &["stabilityprofiles/status"]), "what the drill showed"),
    row(&[Dns], &["get"], These("", &["pods"]), "what the pod's resolv.conf has"),
    row(&[Dns], &["get"], These("", &["services"]), "which names of the search list there are"),
    row(&[ApfTop], &["get"], Paths(&[METRICS]), "seats, queues, waits and refusals of each lane"),
    row(&[ApfTop], &["get"], Paths(&[REQUESTS]), "who sends what waits and runs now"),
];

impl Row {
    /// Its resources by group and name, in the table's order. A creation has no name that could be asked for.
    fn resources(&self) -> Vec<(&'static str, Option<&'static str>, Vec<String>)> {
        let mut groups: Vec<(&'static str, Option<&'static str>, Vec<String>)> = Vec::new();
        let mut add = |group: &'static str, name: Option<&'static str>, resource: String| {
            let name = name.filter(|_| self.verbs != ["create"]);
            match groups.iter_mut().find(|(known, named, _)| (*known, *named) == (group, name)) {
                Some((.., resources)) if resources.contains(&resource) => {}
                Some((.., resources)) => resources.push(resource),
                None => groups.push((group, name, vec![resource])),
            }
        };
        match &self.what {
            These(group, resources) => resources.iter().for_each(|resource| add(group, None, (*resource).to_owned())),
            Within(_, resources) => resources.iter().for_each(|resource| add("", None, (*resource).to_owned())),
            Workloads(which) => {
                WORKLOADS.iter().filter(|kind| which(kind)).for_each(|kind| add(kind.group, None, kind.plural()));
            }
            Kinds(kinds) => kinds.iter().for_each(|(group, kind)| add(group, None, plural(kind))),
            Named(objects) => objects.iter().for_each(|(group, kind, name)| add(group, Some(name), plural(kind))),
            Texts(_, name) => add("", *name, "configmaps".to_owned()),
            Paths(paths) => paths.iter().for_each(|path| add("", None, (*path).to_owned())),
        }
        groups
    }

    /// The one namespace that it is about, where it is about one.
    const fn namespace(&self) -> Option<&'static str> {
        match self.what {
            Texts(namespace, _) | Within(namespace, _) => Some(namespace),
            _ => None,
        }
    }
}

impl Right {
    /// Whether who has this one has the other too.
    fn gives(&self, other: &Self) -> bool {
        (&self.group, &self.resource, self.verb) == (&other.group, &other.resource, other.verb)
            && self.name.as_ref().is_none_or(|name| other.name.as_ref() == Some(name))
    }

    /// A right on what stands at a place.
    #[must_use]
    pub fn at(place: Place<'_>, verb: &'static str) -> Self {
        Self {
            group: place.resource.group.clone().into(),
            resource: place.resource.plural.clone().into(),
            verb,
            name: (!place.name.is_empty()).then(|| place.name.to_owned()),
            namespace: place.namespace.map(str::to_owned),
        }
    }
}

/// Whether what is written where a resource is named is a path that is none.
pub(crate) fn is_path(resource: &str) -> bool {
    resource.starts_with('/')
}

/// Every right that a command may need, on a cluster that has every kind.
#[must_use]
pub fn of(task: Task) -> Vec<Right> {
    let mut all = BTreeSet::new();
    for rule in rules_of(task, |row| !row.optional) {
        for (resource, verb) in
            rule.resources.iter().flat_map(|resource| rule.verbs.iter().map(move |verb| (resource, *verb)))
        {
            all.insert(Right {
                group: rule.group.into(),
                resource: resource.clone().into(),
                verb,
                name: rule.names.first().cloned(),
                namespace: rule.namespace.map(str::to_owned),
            });
        }
    }
    all.into_iter().collect()
}

/// Whether the ClusterRole of a command gives all of these.
#[must_use]
pub(crate) fn are_in_role(task: Task, rights: &[Right]) -> bool {
    let table = of(task);
    rights.iter().all(|right| table.iter().any(|known| known.gives(right)))
}

/// A rule of a role, and why it has it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Names in paths.
    pub resources: Vec<String>,
    /// The objects that it is about; empty for all.
    pub names: Vec<String>,
    /// The one namespace that it is about, where it is about one.
    pub namespace: Option<&'static str>,
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// What for.
    pub why: &'static str,
}

/// The rules that give a command everything, on a cluster that has every kind, and what it does without where it must.
#[must_use]
pub fn rules(task: Task) -> Vec<Rule> {
    rules_of(task, |_| true)
}

fn rules_of(task: Task, wanted: impl Fn(&Row) -> bool) -> Vec<Rule> {
    let rows = TABLE.iter().filter(|row| row.tasks.contains(&task) && wanted(row));
    rows.flat_map(|row| {
        row.resources().into_iter().map(|(group, name, resources)| Rule {
            group,
            resources,
            names: name.map(str::to_owned).into_iter().collect(),
            namespace: row.namespace(),
            verbs: row.verbs,
            why: row.why,
        })
    })
    .collect()
}

/// A Role or ClusterRole of some rules, and the reason of each.
#[must_use]
pub fn role(kind: &str, metadata: &Value, rules: &[Rule]) -> (Value, Vec<&'static str>) {
    let written: Vec<_> =
        rules.iter().map(|rule| rbac::rule(rule.group, &rule.resources, &rule.names, rule.verbs)).collect();
    (rbac::role(kind, metadata, &written), rules.iter().map(|rule| rule.why).collect())
}

/// The ClusterRole that gives a command everything, as YAML.
#[must_use]
pub fn cluster_role(task: Task) -> String {
    let metadata =
        json!({ "name": format!("bedplate-{}", task.name()), "labels": { "app.kubernetes.io/part-of": "bedplate" } });
    let (role, reasons) = role("ClusterRole", &metadata, &rules(task));
    rbac::text(&role, &reasons)
}

/// Rights as the fewest rules of a role that give them, each as one line of YAML.
#[must_use]
pub fn lines(rights: &[Right]) -> Vec<String> {
    type Key<'a> = (&'a str, Vec<&'static str>, Option<&'a str>);
    let mut by_resource: BTreeMap<(&str, &str, Option<&str>), Vec<&'static str>> = BTreeMap::new();
    for right in rights {
        by_resource.entry((&right.group, &right.resource, right.name.as_deref())).or_default().push(right.verb);
    }
    let mut rules: BTreeMap<Key<'_>, Vec<&str>> = BTreeMap::new();
    for ((group, resource, name), verbs) in by_resource {
        rules.entry((group, verbs, name)).or_default().push(resource);
    }
    let line = |((group, verbs, name), resources): (Key<'_>, Vec<&str>)| {
        rbac::line(&rbac::rule(group, &resources, &Vec::from_iter(name), &verbs))
    };
    rules.into_iter().map(line).collect()
}

impl Cluster {
    /// Asks the API server for every right that a command needs here, before it does anything: those of the table whose
    /// resources are served, in `namespace` where that is named, and `more`.
    ///
    /// # Errors
    /// All that are missing.
    pub async fn require(&self, task: Task, namespace: Option<&str>, more: Vec<Right>) -> Result<(), Error> {
        let mut rights = more;
        let table = of(task);
        rights.retain(|right| !table.iter().any(|known| known.gives(right)));
        for mut right in table {
            let plural = right.resource.split('/').next().unwrap_or_default();
            let served = self.resources().iter().find(|known| known.group == right.group && known.plural == plural);
            // What `apply` itself brings is not served before; users, groups and paths are no resources at all.
            let always =
                task == Apply && right.group == names::GROUP || right.verb == "impersonate" || is_path(&right.resource);
            if served.is_none() && !always {
                continue;
            }
            if let (Some(namespace), Some(served)) = (namespace, served)
                && right.group != names::GROUP
            {
                if !served.namespaced {
                    continue;
                }
                right.namespace = Some(namespace.to_owned());
            }
            rights.push(right);
        }
        self.require_all(task, rights).await
    }

    /// The same for rights that no table knows.
    ///
    /// # Errors
    /// All that are missing.
    pub async fn require_all(&self, task: Task, rights: Vec<Right>) -> Result<(), Error> {
        let missing = self.missing(rights).await?;
        if missing.is_empty() { Ok(()) } else { Err(Error::Rights { user: self.user.clone(), task, rights: missing }) }
    }

    /// Which of some rights this user does not have (`SelfSubjectAccessReview`).
    ///
    /// # Errors
    /// No answer.
    pub async fn missing(&self, rights: Vec<Right>) -> Result<Vec<Right>, Error> {
        // One question for those who may do everything.
        let all = Right { group: "*".into(), resource: "*".into(), verb: "*", name: None, namespace: None };
        if rights.is_empty() || self.allowed(&all).await? {
            return Ok(Vec::new());
        }
        let asked: Vec<(Right, bool)> = stream::iter(rights)
            .map(|right| async move { self.allowed(&right).await.map(|allowed| (right, allowed)) })
            .buffered(16)
            .try_collect()
            .await?;
        Ok(asked.into_iter().filter(|(_, allowed)| !allowed).map(|(right, _)| right).collect())
    }

    async fn allowed(&self, right: &Right) -> Result<bool, Error> {
        let (resource, subresource) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        let spec = if is_path(&right.resource) {
            json!({ "nonResourceAttributes": { "path": right.resource, "verb": right.verb } })
        } else {
            json!({ "resourceAttributes": {
                "group": right.group, "resource": resource, "subresource": subresource, "verb": right.verb,
                "name": right.name, "namespace": right.namespace,
            } })
        };
        let body = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec });
        match self.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &body).await {
            Ok(answer) => Ok(answer.pointer("/status/allowed") == Some(&Value::Bool(true))),
            // Some hosts switch these questions off; then the requests themselves are refused.
            Err(Error::Server { .. } | Error::NotKubernetes { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_role_that_gives_its_rights_and_says_what_for() {
        for task in Task::ALL {
            let text = cluster_role(task);
            let parsed = bedplate_model::document::parse(&text, &bedplate_model::document::Limits::DEFAULT);
            let role = parsed.documents[0].root.to_json();
            let rules = role["rules"].as_array().unwrap();
            assert_eq!(text.matches("\n  # ").count(), rules.len());
            assert!(!text.contains('*'), "{text}");
            for right in of(task) {
                let has = |rule: &Value, key: &str, word: &str| {
                    rule[key].as_array().into_iter().flatten().any(|value| value == word)
                };
                let given = rules.iter().any(|rule| {
                    let named = if is_path(&right.resource) {
                        has(rule, "nonResourceURLs", &right.resource)
                    } else {
                        has(rule, "apiGroups", &right.group) && has(rule, "resources", &right.resource)
                    };
                    named && has(rule, "verbs", right.verb)
                });
                assert!(given, "{}: {right:?}", task.name());
            }
        }
    }

    /// Whoever could take away the definition of any kind could end every training.
    #[test]
    fn who_uninstalls_may_delete_nothing_of_others() {
        let definitions = bedplate_guarantees::definitions();
        let names: Vec<_> = definitions.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
        assert_eq!(OWN_DEFINITIONS.iter().map(|(.., name)| *name).collect::<Vec<_>>(), names);
        let lanes: Vec<_> = LANES.iter().map(|(_, kind, name)| (*kind, *name)).collect();
        let levels = enforce::LEVELS.iter().map(|name| ("PriorityLevelConfiguration", *name));
        let schemas = enforce::SCHEMAS.iter().map(|name| ("FlowSchema", *name));
        assert_eq!(lanes, levels.chain(schemas).collect::<Vec<_>>());
        let guards_and_reports = [ADMISSION, "openreports.io", "wgpolicyk8s.io"];
        for right in of(Uninstall).into_iter().filter(|right| right.verb == "delete" && right.name.is_none()) {
            assert!(guards_and_reports.contains(&&*right.group), "{right:?}");
        }
    }

    #[test]
    fn what_only_reads_has_only_rights_to_read() {
        for task in [Audit, Impact, Trail, Apf, ApfTop, DnsStats, DnsClients] {
            assert!(of(task).iter().all(|right| ["get", "list"].contains(&right.verb)), "{}", task.name());
        }
        let configmaps = |task| of(task).into_iter().filter(|right| right.resource == "configmaps").collect::<Vec<_>>();
        assert!(Task::ALL.into_iter().flat_map(configmaps).all(|right| right.namespace.is_some()));
        assert!(configmaps(Apply).iter().all(|right| right.name.is_some() || right.verb == "create"));
    }

    #[test]
    fn rights_of_a_group_are_one_rule() {
        let right = |resource: &'static str, verb| Right {
            group: "apps".into(),
            resource: resource.into(),
            verb,
            name: None,
            namespace: None,
        };
        let rights = [
            right("deployments", "get"),
            right("deployments", "list"),
            right("daemonsets", "get"),
            right("daemonsets", "list"),
        ];
        assert_eq!(lines(&rights), ["{apiGroups: [apps], resources: [daemonsets, deployments], verbs: [get, list]}"]);
    }
}
