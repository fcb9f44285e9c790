//! What a cluster has of a machine-learning platform: found in what runs there, never assumed.
//!
//! Whoever may run a controller in a lane of its own may run a flood in it. So the name of an account alone gives nobody
//! the high lane: a user's namespace never has a controller, an account that others share is none, and where the table
//! does not know the namespace the image has to be the controller's too.

use std::collections::{BTreeMap, BTreeSet};

use bedplate_model::Settings;
use bedplate_model::exemption::glob;
use bedplate_model::names::SYSTEM_NAMESPACES;
use serde_json::Value;

use super::identities::{Identity, TABLE, of_image};

/// The label of namespaces that Kubeflow's profile controller makes (`kubeflow/dashboard`, profile-controller).
const PROFILE_LABEL: (&str, &str) = ("app.kubernetes.io/part-of", "kubeflow-profile");

/// What was read of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// Namespaces, and whether Kubeflow made them for a profile.
    namespaces: BTreeMap<String, bool>,
    /// What runs under a service account: namespace, account, who, images.
    runs: Vec<(String, String, String, Vec<String>)>,
}

impl Read {
    /// Learns from a Namespace, or from what has a pod template.
    pub fn add(&mut self, object: &Value) {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let name = text("/metadata/name");
        if object["kind"] == "Namespace" {
            let leaving = object.pointer("/metadata/deletionTimestamp").is_some();
            if !leaving {
                self.namespaces.insert(name.to_owned(), is_profile(object));
            }
            return;
        }
        let Some(spec) = object.pointer("/spec/template/spec") else { return };
        let account = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or("default");
        let containers = ["initContainers", "containers"].into_iter().filter_map(|part| spec.get(part)?.as_array());
        let images = containers.flatten().filter_map(|container| container.get("image")?.as_str().map(str::to_owned));
        let who = format!("{} {name}", text("/kind"));
        self.runs.push((text("/metadata/namespace").to_owned(), account.to_owned(), who, images.collect()));
    }
}

/// Whether Kubeflow made a namespace for a profile, by its metadata.
#[must_use]
pub fn is_profile(namespace: &Value) -> bool {
    let (label, value) = PROFILE_LABEL;
    let owners = namespace.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let labels = namespace.pointer("/metadata/labels").and_then(|labels| labels.get(label));
    labels.is_some_and(|label| label == value)
        || owners.into_iter().any(|owner| {
            owner["kind"] == "Profile" && owner["apiVersion"].as_str().is_some_and(|v| v.starts_with("kubeflow.org/"))
        })
}

/// A controller of the platform.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// What it is, as far as that is known.
    pub what: String,
    /// How it was found: `Deployment training-operator`, or the profile.
    pub found: String,
    /// Its row of the table.
    pub identity: Option<&'static Identity>,
}

/// What a cluster has, and what of it is for a lane.
#[derive(Clone, Debug, Default)]
pub struct Detected {
    /// Controllers, by namespace and account.
    pub controllers: Vec<Controller>,
    /// Namespaces of users.
    pub users: BTreeSet<String>,
    /// Service accounts that do what users asked for, outside their namespaces.
    pub runners: BTreeSet<(String, String)>,
    /// What looks like a controller and gets no lane, and why.
    pub passed_over: Vec<String>,
}

/// What a cluster has, under some settings.
#[must_use]
pub fn detect(read: &Read, settings: &Settings) -> Detected {
    let patterns = settings.user_namespaces();
    let named = |namespace: &str| patterns.iter().any(|pattern| glob(pattern, namespace));
    let is_user =
        |namespace: &str, profile: bool| !SYSTEM_NAMESPACES.contains(&namespace) && (profile || named(namespace));
    let users: BTreeSet<String> = read
        .namespaces
        .iter()
        .filter(|(name, profile)| is_user(name, **profile))
        .map(|(name, _)| name.clone())
        .collect();
    let mut found: BTreeMap<(String, String), Controller> = BTreeMap::new();
    let (mut passed_over, mut runners) = (Vec::new(), BTreeSet::new());
    for (namespace, account, who, images) in &read.runs {
        let by_image = images.iter().find_map(|image| of_image(image));
        let by_name = TABLE.iter().find(|row| row.is_called(namespace, account) && !row.is_anywhere());
        let Some(identity) = by_name.or(by_image) else { continue };
        let what = format!("{who} in {namespace} is {}", identity.what);
        let why_not = match () {
            // The API server has a lane of its own for these.
            () if namespace == "kube-system" => continue,
            () if users.contains(namespace) || named(namespace) => "but runs in a namespace of users",
            () if account == "default" => {
                "but runs under the account `default`, which others share: give it a service account of its own"
            }
            () => "",
        };
        if !why_not.is_empty() {
            passed_over.push(format!("{what}, {why_not}"));
            continue;
        }
        runners.extend(identity.runners.iter().map(|runner| (namespace.clone(), (*runner).to_owned())));
        found.entry((namespace.clone(), account.clone())).or_insert_with(|| Controller {
            namespace: namespace.clone(),
            account: account.clone(),
            what: identity.what.to_owned(),
            found: who.clone(),
            identity: Some(identity),
        });
    }
    // The profile's word is a person's: it holds wherever the account is, and before the account is there.
    for (namespace, account) in settings.controllers() {
        found.entry((namespace.to_owned(), account.to_owned())).or_insert_with(|| Controller {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            what: "named in the profile".to_owned(),
            found: "the profile".to_owned(),
            identity: None,
        });
    }
    let mut seen = BTreeSet::new();
    passed_over.retain(|why| seen.insert(why.clone()));
    runners.retain(|runner| !found.contains_key(runner));
    Detected { controllers: found.into_values().collect(), users, runners, passed_over }
}

#[cfg(test)]
mod tests {
    use bedplate_model::Profile;
    use serde_json::json;

    use super::*;

    fn runs(namespace: &str, account: &str, image: &str) -> Value {
        json!({ "kind": "Deployment", "metadata": { "name": "d", "namespace": namespace },
            "spec": { "template": { "spec": { "serviceAccountName": account, "containers": [{ "image": image }] } } } })
    }

    fn found(objects: &[Value], spec: &str) -> Detected {
        let text = format!("apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nspec: {spec}\n");
        let profile = Profile::parse(&text, &[]).unwrap();
        let mut read = Read::default();
        objects.iter().for_each(|object| read.add(object));
        detect(&read, profile.settings(None))
    }

    fn accounts(detected: &Detected) -> Vec<String> {
        detected.controllers.iter().map(|c| format!("{}:{}", c.namespace, c.account)).collect()
    }

    #[test]
    fn a_controller_is_found_by_its_account_or_by_its_image() {
        let detected = found(
            &[
                runs("kubeflow", "training-operator", "registry.example.com/mirrored:1"),
                runs("ml-platform", "ray", "quay.io/kuberay/operator:v1.5.0"),
                runs("kubeflow", "ml-pipeline", "ghcr.io/kubeflow/kfp-api-server:2.5"),
                runs("shop", "web", "docker.io/library/nginx:1"),
                runs("kube-system", "kube-dns", "registry.k8s.io/coredns:1"),
            ],
            "{}",
        );
        assert_eq!(accounts(&detected), ["kubeflow:ml-pipeline", "kubeflow:training-operator", "ml-platform:ray"]);
        assert_eq!(detected.runners, BTreeSet::from([("kubeflow".to_owned(), "pipeline-runner".to_owned())]));
        assert_eq!(detected.passed_over, [] as [&str; 0]);
    }

    /// A user called the account of a flood `hub`, and then ran the operator's image beside it.
    #[test]
    fn nobody_gets_the_high_lane_by_a_name() {
        let profile = json!({ "kind": "Namespace", "metadata": { "name": "alice", "labels": { "app.kubernetes.io/part-of": "kubeflow-profile" } } });
        let owned = json!({ "kind": "Namespace", "metadata": { "name": "bob",
            "ownerReferences": [{ "apiVersion": "kubeflow.org/v1", "kind": "Profile", "name": "bob" }] } });
        let detected = found(
            &[
                profile,
                owned,
                runs("shop", "hub", "docker.io/library/busybox:1"),
                runs("alice", "kuberay-operator", "quay.io/kuberay/operator:v1.5.0"),
                runs("team-b", "mine", "quay.io/kuberay/operator:v1.5.0"),
                runs("kubeflow", "default", "docker.io/kubeflowkatib/katib-controller:v0.18"),
            ],
            "{fairness: {userNamespaces: [team-*]}}",
        );
        assert_eq!(accounts(&detected), [] as [&str; 0]);
        assert_eq!(detected.users, BTreeSet::from(["alice".to_owned(), "bob".to_owned()]));
        assert_eq!(detected.passed_over.len(), 3, "{:?}", detected.passed_over);
        assert!(detected.passed_over[2].contains("service account of its own"), "{:?}", detected.passed_over);
    }

    #[test]
    fn the_profile_has_the_last_word() {
        let detected = found(
            &[json!({ "kind": "Namespace", "metadata": { "name": "team-a" } })],
            "{fairness: {controllers: [\"team-a:own-operator\"], userNamespaces: [team-*]}}",
        );
        assert_eq!(accounts(&detected), ["team-a:own-operator"]);
        assert_eq!(detected.users, BTreeSet::from(["team-a".to_owned()]));
    }
}
