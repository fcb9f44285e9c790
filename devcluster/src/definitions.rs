//! The definitions of custom kinds, as their projects publish them.
//!
//! A project's Go module holds the folder that its definitions are released from. `devcluster/crds/go.mod` pins the
//! modules, its go.sum what is in them; nothing is compiled. Read once, they are kept beside the tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bedplate_model::document::{Limits, parse};
use serde_json::{Value, json};

use crate::cluster::kubectl;
use crate::image::digest;
use crate::run::{self, Result};
use crate::tools;

/// A folder of published definitions.
#[derive(Debug)]
struct Published {
    /// A Go module of `devcluster/crds/go.mod`.
    module: &'static str,
    folder: &'static str,
    /// The kinds that are taken; empty for all.
    kinds: &'static [&'static str],
}

const fn published(module: &'static str, folder: &'static str, kinds: &'static [&'static str]) -> Published {
    Published { module, folder, kinds }
}

/// The kinds of the workload table. Two operators define MPIJob, each in a version of its own: they are joined.
#[rustfmt::skip]
const ML_KINDS: &[Published] = &[
    // What its releases install; the full ones cost the API server as much as all others together.
    published("github.com/argoproj/argo-workflows/v3", "manifests/base/crds/minimal",
        &["ClusterWorkflowTemplate", "CronWorkflow", "Workflow", "WorkflowTemplate"]),
    published("github.com/kserve/kserve", "config/crd/full", &["ClusterServingRuntime", "InferenceService", "ServingRuntime"]),
    published("github.com/kserve/kserve", "config/crd/full/llmisvc", &["LLMInferenceService", "LLMInferenceServiceConfig"]),
    published("github.com/kubeflow/katib", "manifests/v1beta1/components/crd", &["Experiment"]),
    published("github.com/kubeflow/mpi-operator", "manifests/base", &["MPIJob"]),
    published("github.com/kubeflow/spark-operator/v2", "config/crd/bases", &["ScheduledSparkApplication", "SparkApplication"]),
    published("github.com/kubeflow/trainer/v2", "manifests/base/crds", &["ClusterTrainingRuntime", "TrainJob", "TrainingRuntime"]),
    published("github.com/kubeflow/training-operator", "manifests/base/crds",
        &["JAXJob", "MPIJob", "PaddleJob", "PyTorchJob", "TFJob", "XGBoostJob"]),
    published("github.com/openkruise/kruise", "config/crd/bases", &["BroadcastJob", "CloneSet", "DaemonSet", "StatefulSet"]),
    published("github.com/project-codeflare/appwrapper", "config/crd/bases", &["AppWrapper"]),
    published("github.com/ray-project/kuberay/ray-operator", "config/crd/bases", &["RayCluster", "RayJob", "RayService"]),
    published("knative.dev/serving", "config/core/300-resources", &["Service"]),
    published("sigs.k8s.io/jobset", "config/components/crd/bases", &["JobSet"]),
    published("sigs.k8s.io/lws", "config/crd/bases", &["LeaderWorkerSet"]),
];

/// Group, kind and versions of the workload table that no registry serves a definition of: any field is taken. Where
/// the kind is published in other versions, these join them.
const OPEN: &[(&str, &str, &[&str])] = &[
    ("batch.volcano.sh", "CronJob", &["v1alpha1"]),
    ("batch.volcano.sh", "Job", &["v1alpha1"]),
    ("kubeflow.org", "Experiment", &["v1alpha3"]),
    ("kubeflow.org", "Notebook", &["v1", "v1beta1"]),
    ("machinelearning.seldon.io", "SeldonDeployment", &["v1"]),
    ("mcad.ibm.com", "AppWrapper", &["v1beta1"]),
    ("workload.codeflare.dev", "AppWrapper", &["v1beta1"]),
];

/// The kinds of the Gateway API's standard channel.
const GATEWAY_API: &[Published] = &[published("sigs.k8s.io/gateway-api", "config/crd/standard", &[])];

/// The kinds of reports of policy tools; Kyverno publishes those of the policy working group, which has no module.
const REPORTS: &[Published] = &[
    published("github.com/kyverno/kyverno", "config/crds/policyreport", &["ClusterPolicyReport", "PolicyReport"]),
    published("github.com/openreports/reports-api", "config/crd", &["ClusterReport", "Report"]),
];

/// The definitions of every custom kind that the workload table has.
///
/// # Errors
/// Where a module cannot be had, or is not what go.sum says.
pub fn of_ml_kinds() -> Result<Vec<Value>> {
    kept("ml-kinds", &format!("{ML_KINDS:?}{OPEN:?}"), || {
        let mut all = read(ML_KINDS)?;
        for (group, kind, versions) in OPEN {
            join(&mut all, open(group, kind, versions));
        }
        Ok(all)
    })
}

/// The definitions of the Gateway API, standard channel.
///
/// # Errors
/// Where the module cannot be had, or is not what go.sum says.
pub fn of_gateway_api() -> Result<Vec<Value>> {
    kept("gateway-api", &format!("{GATEWAY_API:?}"), || read(GATEWAY_API))
}

/// The definitions of the reports of policy tools: openreports.io and wgpolicyk8s.io.
///
/// # Errors
/// Where a module cannot be had, or is not what go.sum says.
pub fn of_reports() -> Result<Vec<Value>> {
    kept("reports", &format!("{REPORTS:?}"), || read(REPORTS))
}

/// The folders of modules that `devcluster/crds/go.mod` pins, downloaded if need be and checked against go.sum.
///
/// # Errors
/// What Go says.
pub fn modules(names: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = pins();
    let path = folder.join("go.mod");
    let pinned = fs::read_to_string(&path).map_err(run::file("read", &path))?;
    let versioned: Vec<String> = names
        .iter()
        .map(|name| {
            let version = pinned.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
            version.map(|version| format!("{name}@{version}")).ok_or(format!("{} does not pin {name}", path.display()))
        })
        .collect::<Result<_>>()?;
    // With a version in the argument, Go does not look at what the module itself requires.
    let mut download = Command::new("go");
    download.args(["mod", "download", "-json"]).args(&versioned).current_dir(&folder);
    // What failed is told in the output.
    let answers = run::output(&mut download, &[0, 1])?;
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&answers)
        .into_iter::<Value>()
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| format!("{download:?}: {error}"))?;
    versioned
        .iter()
        .map(|wanted| {
            let answer = answers.iter().find(|answer| {
                let field = |name: &str| answer[name].as_str().unwrap_or_default();
                format!("{}@{}", field("Path"), field("Version")) == *wanted
            });
            let answer = answer.ok_or_else(|| format!("{download:?} says nothing of {wanted}"))?;
            answer["Dir"].as_str().map(PathBuf::from).ok_or_else(|| format!("Go module {wanted}: {}", answer["Error"]))
        })
        .collect()
}

/// Creates the definitions that a cluster has not yet, and waits until their kinds are served.
///
/// # Errors
/// What `kubectl` says.
pub(crate) fn create(kubeconfig: &Path, definitions: &[Value]) -> Result<()> {
    let there = run::output(kubectl(kubeconfig)?.args(["get", "crd", "--output=name"]), &[0])?;
    let name = |definition: &Value| {
        format!("customresourcedefinition.apiextensions.k8s.io/{}", text(&definition["metadata"]["name"]))
    };
    let mut new: Vec<_> = definitions.iter().filter(|one| !there.lines().any(|line| line == name(one))).collect();
    if new.is_empty() {
        return Ok(());
    }
    // Some are near a megabyte: a few at a time, the large ones apart.
    new.sort_by_key(|definition| std::cmp::Reverse(definition.to_string().len()));
    let lists: Vec<Value> = (0..PARALLEL)
        .map(|lane| {
            json!({ "apiVersion": "v1", "kind": "List",
            "items": new.iter().skip(lane).step_by(PARALLEL).collect::<Vec<_>>() })
        })
        .collect();
    std::thread::scope(|scope| {
        let create = |list: &Value| {
            // `apply` would keep a second copy of each in it.
            run::fed(kubectl(kubeconfig)?.args(["create", "--filename", "-"]), &list.to_string()).map(drop)
        };
        let lanes: Vec<_> = lists.iter().map(|list| scope.spawn(move || create(list))).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or_else(|_| Err("a thread ended".to_owned())))
    })?;
    let mut wait = kubectl(kubeconfig)?;
    wait.args(["wait", "--for=condition=Established", "--timeout=60s"]).args(new.into_iter().map(name));
    let started = Instant::now();
    loop {
        match run::output(&mut wait, &[0]) {
            // One whose conditions are not written yet is an error to `kubectl wait`.
            Err(error) if error.contains("conditions accessor") && started.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(200));
            }
            result => return result.map(drop),
        }
    }
}

/// How many are created at a time.
const PARALLEL: usize = 4;

fn pins() -> PathBuf {
    run::root().join("devcluster/crds")
}

/// What `make` gives, made anew where the pins or the table changed.
fn kept(name: &str, table: &str, make: impl FnOnce() -> Result<Vec<Value>>) -> Result<Vec<Value>> {
    let read = |file: &str| {
        let path = pins().join(file);
        fs::read_to_string(&path).map_err(run::file("read", &path))
    };
    let key = digest(format!("{}{}{table}", read("go.mod")?, read("go.sum")?).as_bytes());
    let folder = tools::cache()?;
    let path = folder.join(format!("{name}-{}.json", key.trim_start_matches("sha256:").get(..12).unwrap_or_default()));
    if let Some(there) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(there);
    }
    eprintln!("xtask: reading the definitions of {name} from their Go modules (about 1 min, once)");
    let made = make()?;
    fs::create_dir_all(&folder).map_err(run::file("create", &folder))?;
    // Renamed into place: another run may be making it, too.
    let draft = path.with_added_extension(std::process::id().to_string());
    fs::write(&draft, Value::from(made.clone()).to_string()).map_err(run::file("write", &draft))?;
    fs::rename(&draft, &path).map_err(run::file("write", &path))?;
    Ok(made)
}

fn read(sources: &[Published]) -> Result<Vec<Value>> {
    let folders = modules(&sources.iter().map(|source| source.module).collect::<Vec<_>>())?;
    let mut all = Vec::new();
    for (source, module) in sources.iter().zip(folders) {
        let mut found: Vec<Value> = Vec::new();
        for object in manifests(&module.join(source.folder))? {
            let kind = text(&object["spec"]["names"]["kind"]);
            if object["kind"] == "CustomResourceDefinition" && (source.kinds.is_empty() || source.kinds.contains(&kind))
            {
                found.push(object);
            }
        }
        if found.len() < source.kinds.len().max(1) {
            return Err(format!("{} has not all of {:?} in {}", source.module, source.kinds, source.folder));
        }
        found.into_iter().for_each(|definition| join(&mut all, definition));
    }
    Ok(all)
}

/// The objects of the YAML files of a folder.
pub(crate) fn manifests(folder: &Path) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for file in run::files_below(folder)? {
        let is_yaml = file.extension().is_some_and(|extension| extension == "yaml");
        // Folders below are other channels, or patches.
        if is_yaml && file.components().count() == 1 {
            let path = folder.join(file);
            let text = fs::read_to_string(&path).map_err(run::file("read", &path))?;
            all.extend(objects(&text).map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    Ok(all)
}

/// The objects of a YAML text.
///
/// # Errors
/// What is wrong with it, where it is none.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let parsed = parse(text, &Limits::DEFAULT);
    match parsed.errors.first() {
        Some(error) => Err(error.message.clone()),
        None => Ok(parsed.documents.iter().map(|document| document.root.to_json()).collect()),
    }
}

/// Adds a definition; of one that is there, the versions that it lacks.
fn join(all: &mut Vec<Value>, definition: Value) {
    let same = all.iter_mut().find(|other| other["metadata"]["name"] == definition["metadata"]["name"]);
    let Some(versions) = same.and_then(|same| same["spec"]["versions"].as_array_mut()) else {
        all.push(definition);
        return;
    };
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        if versions.iter().all(|other| other["name"] != version["name"]) {
            let mut version = version.clone();
            version["storage"] = Value::Bool(false);
            versions.push(version);
        }
    }
}

/// A definition that takes any field.
fn open(group: &str, kind: &str, versions: &[&str]) -> Value {
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, name)| json!({ "name": name, "served": true, "storage": index == 0, "schema": schema }))
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "kind": kind, "plural": plural }, "versions": versions,
        },
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_custom_kind_of_the_workload_table_has_a_definition() {
        for row in bedplate_model::workload::kinds::TABLE.iter().filter(|row| row.group.contains('.')) {
            let published = ML_KINDS.iter().any(|source| source.kinds.contains(&row.kind));
            let open = OPEN.iter().any(|(group, kind, _)| *group == row.group && *kind == row.kind);
            assert!(published || open, "{} {}", row.group, row.kind);
        }
    }

    #[test]
    fn every_module_is_pinned_and_has_a_checksum() {
        let read = |file: &str| fs::read_to_string(pins().join(file)).unwrap();
        let (pinned, sums) = (read("go.mod"), read("go.sum"));
        for source in ML_KINDS.iter().chain(GATEWAY_API) {
            let line = pinned.lines().find_map(|line| line.trim().strip_prefix(&format!("{} ", source.module)));
            let version = line.unwrap_or_else(|| panic!("{} is not in go.mod", source.module));
            assert!(sums.contains(&format!("{} {version} h1:", source.module)), "{} is not in go.sum", source.module);
        }
    }

    #[test]
    fn of_two_definitions_of_a_kind_one_has_the_versions_of_both_and_stores_one() {
        let mut all = vec![open("kubeflow.org", "MPIJob", &["v2beta1"])];
        join(&mut all, open("kubeflow.org", "MPIJob", &["v1", "v2beta1"]));
        let versions = all[0]["spec"]["versions"].as_array().unwrap();
        let told: Vec<_> = versions.iter().map(|v| (text(&v["name"]), v["storage"] == true)).collect();
        assert_eq!((all.len(), told), (1, vec![("v2beta1", true), ("v1", false)]));
    }
}
