//! autopath in the cluster's own CoreDNS: whose its Corefile is, and what may be made of it. One edit, and only where
//! nobody else would take it back or be overruled by it; else the text for whoever it belongs to.

use bedplate_dns::Corefile;
use bedplate_dns::autopath::{self, Facts, Obstacle};
use bedplate_model::profile::Mode;
use bedplate_model::{Guarantee, LineIndex, Profile};
use serde_json::{Value, json};

/// How strictly the guarantee holds: CoreDNS is changed in the mode `enforce` only.
#[must_use]
pub fn mode(profile: &Profile) -> Mode {
    // No rule has that name: it is the mode of the whole guarantee.
    profile.settings(None).mode("", Guarantee::Dns)
}

/// What tells that a Corefile belongs to a program that writes it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// An annotation.
    Annotation(&'static str),
    /// A label, with any value or with this one.
    Label(&'static str, Option<&'static str>),
    /// A field manager (`metadata.managedFields`) whose name begins so.
    Manager(&'static str),
}

/// A program that writes a Corefile back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: &'static str,
    marks: &'static [Mark],
    /// Where the change belongs.
    pub where_to: &'static str,
    /// The form that it takes.
    pub form: Form,
}

/// The form of a change that somebody else makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The difference of the Corefile, for a repository.
    Difference,
    /// The whole Corefile in JSON, as configuration values of the EKS add-on.
    Eks,
    /// Nothing: it cannot be set there.
    None,
}

/// Programs that write a ConfigMap back: the first that is found holds. Sources: Argo CD's and Flux's documentation of
/// tracking labels; `kubernetes/cluster/addons/addon-manager`; EKS "CoreDNS add-on"; AKS "customize CoreDNS"; k3s
/// `pkg/deploy`.
const OWNERS: &[Owner] = &[
    Owner {
        name: "Argo CD",
        marks: &[
            Mark::Annotation("argocd.argoproj.io/tracking-id"),
            Mark::Label("argocd.argoproj.io/instance", None),
            Mark::Manager("argocd-"),
        ],
        where_to: "the repository of its Application",
        form: Form::Difference,
    },
    Owner {
        name: "Flux",
        marks: &[
            Mark::Label("kustomize.toolkit.fluxcd.io/name", None),
            Mark::Label("helm.toolkit.fluxcd.io/name", None),
            Mark::Manager("kustomize-controller"),
            Mark::Manager("helm-controller"),
        ],
        where_to: "the repository of its Kustomization or HelmRelease",
        form: Form::Difference,
    },
    Owner {
        name: "the EKS add-on",
        marks: &[Mark::Manager("eks")],
        where_to: "its configuration values: aws eks update-addon --cluster-name CLUSTER --addon-name coredns --configuration-values FILE",
        form: Form::Eks,
    },
    Owner {
        name: "k3s",
        marks: &[Mark::Annotation("objectset.rio.cattle.io/owner-name")],
        where_to: "no place: what k3s imports from `coredns-custom` cannot set `pods verified`; lower `ndots` in the pods instead",
        form: Form::None,
    },
    Owner {
        name: "the add-on manager of the cluster's host (AKS has it)",
        marks: &[Mark::Label("addonmanager.kubernetes.io/mode", Some("Reconcile"))],
        where_to: "no place: what AKS imports from `coredns-custom` cannot set `pods verified`; lower `ndots` in the pods instead",
        form: Form::None,
    },
    Owner {
        name: "Helm",
        marks: &[
            Mark::Annotation("meta.helm.sh/release-name"),
            Mark::Label("app.kubernetes.io/managed-by", Some("Helm")),
        ],
        where_to: "the values of its release",
        form: Form::Difference,
    },
];

/// Who writes an object back, where somebody does.
#[must_use]
pub fn owner(object: &Value) -> Option<&'static Owner> {
    let metadata = &object["metadata"];
    let managers = metadata["managedFields"].as_array();
    let has = |mark: &Mark| match mark {
        Mark::Annotation(name) => metadata["annotations"].get(*name).is_some(),
        Mark::Label(name, value) => {
            metadata["labels"].get(*name).is_some_and(|found| value.is_none_or(|value| found == value))
        }
        Mark::Manager(name) => managers
            .into_iter()
            .flatten()
            .any(|entry| entry["manager"].as_str().is_some_and(|manager| manager.starts_with(name))),
    };
    OWNERS.iter().find(|owner| owner.marks.iter().any(has))
}

/// A CoreDNS as it is in a cluster.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Deployments that serve the cluster's names.
    pub deployments: Vec<Value>,
    /// The ConfigMap that the only one of them reads.
    pub config: Option<Value>,
    /// What is known of the cluster.
    pub facts: Facts,
}

/// What may be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// autopath is there and works.
    InPlace,
    /// One edit: the Corefile as it is and as it would be, and whom it does not help.
    Edit {
        /// As it is.
        before: String,
        /// As it would be.
        after: String,
        /// Each a sentence.
        notes: Vec<String>,
    },
    /// It belongs to somebody: the change for them.
    Theirs {
        /// Whose it is.
        owner: &'static Owner,
        /// As it is.
        before: String,
        /// As it would be.
        after: String,
    },
    /// Nothing is done: why, and what to do, each.
    Not(Vec<(String, String)>),
}

/// The label of what serves a cluster's names (`kubernetes/cluster/addons/dns`).
pub const LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// Whether a Deployment serves the cluster's names.
#[must_use]
pub fn serves_names(deployment: &Value) -> bool {
    let labelled = |labels: &Value| labels.get(LABEL.0).is_some_and(|value| value == LABEL.1);
    labelled(&deployment["metadata"]["labels"])
        || labelled(&deployment["spec"]["template"]["metadata"]["labels"])
        || image(deployment)
            .is_some_and(|image| image.rsplit('/').next().is_some_and(|name| name.starts_with("coredns")))
}

fn image(deployment: &Value) -> Option<&str> {
    deployment.pointer("/spec/template/spec/containers/0/image")?.as_str()
}

/// The name of the ConfigMap that a Deployment of CoreDNS reads, and the key of its Corefile there.
#[must_use]
pub fn config_of(deployment: &Value) -> Option<(&str, &str)> {
    let volumes = deployment.pointer("/spec/template/spec/volumes")?.as_array()?;
    volumes.iter().find_map(|volume| {
        let map = volume.get("configMap")?;
        let items = map["items"].as_array().into_iter().flatten();
        let key = items.filter_map(|item| Some((item["key"].as_str()?, item["path"].as_str()?)));
        let key = key.filter(|(_, path)| path.ends_with("Corefile")).map(|(key, _)| key).next();
        let name = map["name"].as_str()?;
        (key.is_some() || map.get("items").is_none()).then_some((name, key.unwrap_or("Corefile")))
    })
}

/// The port of CoreDNS's metrics, where pods of another node reach it.
#[must_use]
pub fn metrics_port(corefile: &str) -> Option<u16> {
    let file = Corefile::parse(corefile).ok()?;
    let address = file.servers().find_map(|block| Some(block.plugin("prometheus")?.args.first()?.text.clone()))?;
    let (host, port) = address.rsplit_once(':')?;
    (!matches!(host, "localhost" | "127.0.0.1" | "[::1]")).then(|| port.parse().ok())?
}

/// What may be done with the CoreDNS of a cluster.
#[must_use]
pub fn way(seen: &Seen) -> Way {
    let not = |why: String, help: &str| Way::Not(vec![(why, help.to_owned())]);
    let names: Vec<&str> = seen.deployments.iter().filter_map(|one| one["metadata"]["name"].as_str()).collect();
    let deployment = match seen.deployments.as_slice() {
        [] => {
            return not(
                "no Deployment in kube-system serves the cluster's names".to_owned(),
                "where the host of the cluster runs its DNS, lower `ndots` in the pods instead",
            );
        }
        [one] => one,
        _ => {
            return not(
                format!("{} Deployments serve the cluster's names: {}", names.len(), names.join(", ")),
                "take away the one that is left over; which of them holds cannot be told from outside",
            );
        }
    };
    let of_kube_dns = image(deployment).is_some_and(|image| !image.contains("coredns"))
        && deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array).is_some_and(|containers| {
            containers.iter().any(|container| container["name"] == "kubedns" || container["name"] == "dnsmasq")
        });
    if of_kube_dns {
        return not(
            format!("{} is kube-dns, not CoreDNS: it has no autopath (GKE has it so)", names.concat()),
            "lower `ndots` in the pods instead",
        );
    }
    let Some((name, key)) = config_of(deployment) else {
        return not(
            format!("the Deployment {} reads its Corefile from no ConfigMap", names.concat()),
            "put `autopath @kubernetes` and `pods verified` where the Corefile is made",
        );
    };
    let Some(before) = seen.config.as_ref().and_then(|config| config["data"].get(key)?.as_str()) else {
        return not(format!("the ConfigMap {name} has no `{key}`"), "CoreDNS does not start without it");
    };
    if autopath::has_it(before) {
        return Way::InPlace;
    }
    let mut why = seen.facts.obstacles();
    let after = match autopath::add(before) {
        Ok(edited) => edited.text,
        Err(obstacles) => {
            let lines = LineIndex::new(before);
            let at = |span: &std::ops::Range<usize>| lines.position(u32::try_from(span.start).unwrap_or_default());
            why.extend(obstacles.into_iter().map(|Obstacle { why, help, span }| {
                let at = at(&span);
                (format!("{name}/{key}:{}:{}: {why}", at.line, at.column), help)
            }));
            return Way::Not(why);
        }
    };
    if !why.is_empty() {
        return Way::Not(why);
    }
    let owner = seen.config.as_ref().and_then(owner);
    if let Some(owner) = owner {
        if owner.form == Form::None {
            return not(format!("the Corefile belongs to {}, which writes it back", owner.name), owner.where_to);
        }
        return Way::Theirs { owner, before: before.to_owned(), after };
    }
    let reloads =
        Corefile::parse(before).is_ok_and(|file| file.servers().any(|block| block.plugin("reload").is_some()));
    if !reloads {
        return not(
            "CoreDNS has no `reload`: it would read the Corefile at its next restart, when nobody looks".to_owned(),
            "add `reload` to the Corefile, and restart it",
        );
    }
    if metrics_port(before).is_none() {
        return not(
            "CoreDNS tells no metrics to other pods: whether the change holds could not be seen".to_owned(),
            "add `prometheus :9153` to the Corefile",
        );
    }
    Way::Edit { before: before.to_owned(), after, notes: seen.facts.notes() }
}

/// The change in the form that its owner takes.
#[must_use]
pub fn for_owner(owner: &Owner, after: &str) -> Option<String> {
    (owner.form == Form::Eks).then(|| json!({ "corefile": after }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COREFILE: &str = ".:53 {\n    errors\n    kubernetes cluster.local {\n        pods insecure\n    }\n    prometheus :9153\n    forward . /etc/resolv.conf\n    cache 30\n    reload\n}\n";

    fn deployment(name: &str, image: &str) -> Value {
        json!({ "metadata": { "name": name, "labels": { "k8s-app": "kube-dns" } }, "spec": { "template": { "spec": {
            "containers": [{ "name": "coredns", "image": image }],
            "volumes": [{ "name": "config", "configMap": { "name": "coredns", "items": [{ "key": "Corefile", "path": "Corefile" }] } }],
        } } } })
    }

    fn seen(corefile: &str, metadata: Value) -> Seen {
        Seen {
            deployments: vec![deployment("coredns", "registry.k8s.io/coredns/coredns:v1.12.0")],
            config: Some(json!({ "metadata": metadata, "data": { "Corefile": corefile } })),
            facts: Facts::default(),
        }
    }

    /// An edit that the owner takes back is an outage twice; an edit in a repository is one that holds.
    #[test]
    fn what_belongs_to_others_is_written_for_them() {
        for (metadata, name, form) in [
            (
                json!({ "annotations": { "argocd.argoproj.io/tracking-id": "dns:/ConfigMap:kube-system/coredns" } }),
                "Argo CD",
                Form::Difference,
            ),
            (json!({ "managedFields": [{ "manager": "argocd-controller" }] }), "Argo CD", Form::Difference),
            (json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "platform" } }), "Flux", Form::Difference),
            (json!({ "managedFields": [{ "manager": "eks" }] }), "the EKS add-on", Form::Eks),
            (json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" } }), "Helm", Form::Difference),
        ] {
            let Way::Theirs { owner, after, .. } = way(&seen(COREFILE, metadata)) else { panic!("{name}") };
            assert_eq!((owner.name, owner.form), (name, form));
            assert!(autopath::has_it(&after));
        }
        let text =
            for_owner(owner(&json!({ "metadata": { "managedFields": [{ "manager": "eks" }] } })).unwrap(), "a\n\"b\"");
        assert_eq!(text.as_deref(), Some(r#"{"corefile":"a\n\"b\""}"#));
        let aks = json!({ "labels": { "addonmanager.kubernetes.io/mode": "Reconcile" } });
        assert!(matches!(way(&seen(COREFILE, aks)), Way::Not(why) if why[0].1.contains("coredns-custom")));
    }

    #[test]
    fn where_it_cannot_be_done_it_is_said_why() {
        let plain = |corefile: &str| seen(corefile, json!({}));
        assert!(matches!(way(&plain(COREFILE)), Way::Edit { .. }));
        let mut two = plain(COREFILE);
        two.deployments.push(deployment("coredns-old", "coredns:1.6"));
        let mut kube_dns = plain(COREFILE);
        kube_dns.deployments = vec![deployment("kube-dns", "gke.gcr.io/k8s-dns-kube-dns:1.23")];
        kube_dns.deployments[0]["spec"]["template"]["spec"]["containers"][0]["name"] = "kubedns".into();
        let mut node_local = plain(COREFILE);
        node_local.facts.node_local = true;
        for (seen, word) in [
            (Seen::default(), "no Deployment"),
            (two, "2 Deployments"),
            (kube_dns, "is kube-dns"),
            (node_local, "NodeLocal"),
            (plain(&COREFILE.replace("    reload\n", "")), "no `reload`"),
            (plain(&COREFILE.replace(" :9153", "")), "no metrics"),
            (
                plain(&COREFILE.replace("cache 30", "import custom/*.override")),
                "coredns/Corefile:8:12: what `custom/*.override` holds",
            ),
        ] {
            assert!(matches!(way(&seen), Way::Not(why) if why[0].0.contains(word)), "{word}: {:?}", way(&seen));
        }
        let Way::Edit { after, .. } = way(&plain(COREFILE)) else { panic!() };
        assert_eq!(way(&plain(&after)), Way::InPlace);
    }
}
