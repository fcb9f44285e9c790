//! The Helm chart, without a cluster: what Helm would make of it. With one: `deployed.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output};

use bedplate_cluster::bundle::{essence, first_profile, title};
use bedplate_devcluster::definitions::objects;
use bedplate_devcluster::{run, tools};
use common::stdout;
use serde_json::Value;

const IMAGE: &str = "image=registry.invalid/bedplate:v0.1.0";

fn chart() -> PathBuf {
    run::root().join("deploy/helm/bedplate")
}

fn helm(arguments: &[&str]) -> Output {
    Command::new(tools::get("helm").unwrap().program().unwrap()).args(arguments).arg(chart()).output().unwrap()
}

/// What an installation with these values would make.
fn rendered(values: &[&str]) -> Output {
    let values = values.iter().flat_map(|value| ["--set", value]).collect::<Vec<_>>();
    let release = ["template", "bedplate", "--namespace=bedplate-system", "--include-crds"];
    helm(&[&release[..], &values].concat())
}

/// A platform that had been tried with `bedplate apply` was installed with Helm, and the webhook had other rights.
#[test]
fn helm_makes_what_apply_makes() {
    let program = run::bedplate(false).unwrap();
    let bedplate =
        |arguments: &[&str]| objects(&run::output(Command::new(&program).args(arguments), &[0]).unwrap()).unwrap();
    let (_, image) = IMAGE.split_once('=').unwrap();
    let mut applied = bedplate(&["render", "--operator", "--image", image]);
    applied.extend(bedplate(&["render", "--crds"]));
    applied.push(first_profile(false));
    // The release stands in it: it is there before.
    applied.retain(|object| object["kind"] != "Namespace");
    let mut made = objects(&stdout(&rendered(&[IMAGE]))).unwrap();
    // Not there until the release goes.
    let hooks = made.extract_if(.., |object| object.pointer("/metadata/annotations/helm.sh~1hook").is_some()).count();
    assert_eq!(hooks, 4);
    for object in &mut made {
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, value| key != "annotations" || value["helm.sh/resource-policy"] != "keep");
    }
    let sorted = |objects: Vec<Value>| {
        let mut objects: Vec<_> = objects.into_iter().map(|object| (title(&object), essence(object))).collect();
        objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        objects
    };
    let (applied, made) = (sorted(applied), sorted(made));
    let titles = |objects: &[(String, Value)]| objects.iter().map(|(title, _)| title.clone()).collect::<Vec<_>>();
    assert_eq!(titles(&applied), titles(&made));
    for ((title, applied), (_, made)) in applied.iter().zip(&made) {
        assert_eq!(applied, made, "{title}");
    }
}

#[test]
fn the_chart_and_what_it_makes_pass_the_rules_of_helm_and_our_own() {
    let linted = helm(&["lint", "--strict"]);
    assert!(linted.status.success(), "{}", stdout(&linted));
    let mut check = Command::new(run::bedplate(false).unwrap());
    check.args(["check", "-", "--profile"]).arg(run::root().join("deploy/bedplate.yaml"));
    let told = run::fed(&mut check, &stdout(&rendered(&[IMAGE]))).unwrap();
    assert!(told.contains("no findings"), "{told}");
}

/// `modes: {admission: enforced}` had protected nothing for a quarter of a year.
#[test]
fn a_value_that_means_nothing_stops_the_installation_and_is_named() {
    for (value, told) in [
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("webhooks=maybe", "at '/webhooks': got string, want boolean"),
        ("auditEvery=10", "at '/auditEvery': got number, want string"),
        ("profile.modes.admission=enforced", "at '/profile/modes/admission': value must be 'enforce'"),
        ("profile.admission.acceleratorsPerJob=many", "at '/profile/admission/acceleratorsPerJob': got string, want"),
        ("profile.admision.acceleratorsPerJob=8", "at '/profile': additional properties 'admision' not allowed"),
        ("container.envFrom=collector", "at '/container/envFrom': got string, want array"),
        ("imge=registry.invalid/bedplate:v2", "additional properties 'imge' not allowed"),
        ("image=", "image: name one that was built with deploy/Dockerfile"),
    ] {
        let refused = rendered(&[IMAGE, value]);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && error.contains(told), "{value}: {error}");
    }
    let elsewhere = helm(&["template", "bedplate", "--namespace=monitoring", "--set", IMAGE]);
    let error = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(error.contains("lives in the namespace bedplate-system") && error.contains("for monitoring"), "{error}");
}

#[test]
fn every_value_comes_where_it_belongs() {
    let made = |values: &[&str]| objects(&stdout(&rendered(&[&[IMAGE], values].concat()))).unwrap();
    let of = |made: &[Value], kind: &str| made.iter().find(|object| object["kind"] == kind).cloned();
    let changed = made(&[
        "replicas=3",
        "resources.limits.memory=1Gi",
        "auditEvery=1h",
        "webhooks=false",
        "pod.nodeSelector.pool=system",
        "pod.imagePullSecrets[0].name=pull",
        "pod.volumes[0].name=authority,pod.volumes[0].secret.secretName=collector",
        "container.envFrom[0].configMapRef.name=collector",
        "container.volumeMounts[0].name=authority,container.volumeMounts[0].mountPath=/collector",
        "profile.modes.admission=enforce,profile.admission.acceleratorsPerJob=16",
        "global.team=platform",
    ]);
    let deployment = of(&changed, "Deployment").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 3);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "collector");
    assert_eq!(pod["containers"][0]["envFrom"][0]["configMapRef"]["name"], "collector");
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/collector");
    for owner in [deployment, of(&changed, "Job").unwrap()] {
        let pod = &owner["spec"]["template"]["spec"];
        assert_eq!(
            (&pod["nodeSelector"]["pool"], &pod["imagePullSecrets"][0]["name"]),
            (&"system".into(), &"pull".into())
        );
        assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "1Gi");
        assert!(
            pod["containers"][0]["args"][0] == "uninstall" || pod["containers"][0]["args"][3] == "--audit-every=1h"
        );
    }
    let spec = &of(&changed, "StabilityProfile").unwrap()["spec"];
    assert_eq!((&spec["modes"]["admission"], &spec["modes"]["deletion"]), (&"enforce".into(), &"audit".into()));
    assert_eq!(spec["admission"]["acceleratorsPerJob"], 16);
    assert!(of(&changed, "ValidatingWebhookConfiguration").is_none());
    assert!(of(&made(&["profile=null"]), "StabilityProfile").is_none());
    assert_eq!(of(&made(&["profile.modes=null"]), "StabilityProfile").unwrap()["spec"], serde_json::json!({}));
}
