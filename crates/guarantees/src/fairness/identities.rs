//! Who a machine-learning platform consists of, to the API server: one table of service accounts.
//!
//! Sources are the projects' own manifests and charts; those of limits and flags are named in each row.

use bedplate_model::ImageRef;
use bedplate_model::exemption::glob;

/// How fast a client may ask, by its own limit (`k8s.io/client-go/util/flowcontrol`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Requests a second.
    pub qps: u32,
    /// Requests at once, before that.
    pub burst: u32,
}

/// Where a client's limit is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags {
    /// The flag of its requests a second, without dashes.
    pub qps: &'static str,
    /// The flag of its burst.
    pub burst: &'static str,
    /// Where the project's source says so.
    pub source: &'static str,
}

/// One that asks the API server.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// What it is.
    pub what: &'static str,
    /// Namespaces that its manifests use; `*` for any text. One that may be anywhere is only believed with its image.
    pub namespaces: &'static [&'static str],
    /// Its service account.
    pub account: &'static str,
    /// Ends of its images' repositories, whole segments: `kuberay/operator`.
    pub images: &'static [&'static str],
    /// Service accounts beside it that do what users asked for.
    pub runners: &'static [&'static str],
    /// Its own limit where nobody sets one, as far as it is known.
    pub limit: Option<Limit>,
    /// Where that is set, where it is set by flags.
    pub flags: Option<Flags>,
}

const fn limit(qps: u32, burst: u32) -> Option<Limit> {
    Some(Limit { qps, burst })
}

const fn flags(qps: &'static str, burst: &'static str, source: &'static str) -> Option<Flags> {
    Some(Flags { qps, burst, source })
}

/// A controller whose limit is not known, or set elsewhere than by flags.
const fn controller(
    what: &'static str,
    namespaces: &'static [&'static str],
    account: &'static str,
    images: &'static [&'static str],
) -> Identity {
    Identity { what, namespaces, account, images, runners: &[], limit: None, flags: None }
}

const KUBEFLOW: &[&str] = &["kubeflow"];
const VOLCANO: &[&str] = &["volcano-system"];
const KSERVE: &[&str] = &["kserve", "kubeflow"];
const SPARK: &[&str] = &["kubeflow", "spark-operator"];
const ARGO: &[&str] = &["kubeflow", "argo"];
const ANYWHERE: &[&str] = &["*"];

/// All of them.
#[rustfmt::skip]
pub const TABLE: &[Identity] = &[
    Identity {
        limit: limit(20, 30),
        flags: flags("kube-api-qps", "kube-api-burst", "kubeflow/trainer, cmd/training-operator.v1/main.go"),
        ..controller("Kubeflow Training Operator", KUBEFLOW, "training-operator", &["training-operator"])
    },
    controller("Kubeflow Trainer v2", &["kubeflow-system", "kubeflow"], "kubeflow-trainer-controller-manager", &["trainer-controller-manager"]),
    controller("tf-operator", KUBEFLOW, "tf-job-operator", &["tf_operator", "tf-operator"]),
    controller("pytorch-operator", KUBEFLOW, "pytorch-operator", &["pytorch-operator"]),
    Identity {
        limit: limit(5, 10),
        flags: flags("kube-api-qps", "kube-api-burst", "kubeflow/mpi-operator, cmd/mpi-operator/app/options/options.go"),
        ..controller("Kubeflow MPI Operator", &["mpi-operator", "kubeflow"], "mpi-operator", &["mpi-operator"])
    },
    controller("Katib", KUBEFLOW, "katib-controller", &["katib-controller"]),
    Identity {
        limit: limit(2000, 2000),
        flags: flags("kube-api-qps", "kube-api-burst", "volcano-sh/volcano, cmd/scheduler/app/options/options.go"),
        ..controller("Volcano's scheduler", VOLCANO, "volcano-scheduler", &["vc-scheduler"])
    },
    Identity {
        limit: limit(50, 100),
        flags: flags("kube-api-qps", "kube-api-burst", "volcano-sh/volcano, cmd/controller-manager/app/options/options.go"),
        ..controller("Volcano's controllers", VOLCANO, "volcano-controllers", &["vc-controller-manager"])
    },
    controller("Volcano's webhooks", VOLCANO, "volcano-admission", &["vc-webhook-manager"]),
    // By `clientConnection` of its Configuration, in a ConfigMap.
    Identity { limit: limit(300, 500), ..controller("Kueue", &["kueue-system"], "kueue-controller-manager", &["kueue/kueue"]) },
    Identity {
        limit: limit(100, 200),
        flags: flags("qps", "burst", "ray-project/kuberay, ray-operator/main.go"),
        ..controller("KubeRay", ANYWHERE, "kuberay-operator", &["kuberay/operator"])
    },
    Identity {
        runners: &["pipeline-runner"],
        ..controller("Kubeflow Pipelines", KUBEFLOW, "ml-pipeline", &["ml-pipeline/api-server", "kfp-api-server"])
    },
    Identity {
        limit: limit(5, 10),
        flags: flags("clientQPS", "clientBurst", "kubeflow/pipelines, backend/src/agent/persistence/main.go"),
        ..controller("Kubeflow Pipelines' persistence agent", KUBEFLOW, "ml-pipeline-persistenceagent",
            &["ml-pipeline/persistenceagent", "kfp-persistence-agent"])
    },
    controller("Kubeflow Pipelines' scheduled workflows", KUBEFLOW, "ml-pipeline-scheduledworkflow",
        &["ml-pipeline/scheduledworkflow", "kfp-scheduled-workflow-controller"]),
    controller("Kubeflow Pipelines' cache", KUBEFLOW, "kubeflow-pipelines-cache", &["ml-pipeline/cache-server", "kfp-cache-server"]),
    Identity {
        limit: limit(5, 10),
        flags: flags("client-go-qps", "client-go-burst", "metacontroller/metacontroller, docs on configuration"),
        ..controller("Metacontroller", &["kubeflow", "metacontroller"], "meta-controller-service", &["metacontroller/metacontroller"])
    },
    Identity {
        limit: limit(20, 30),
        flags: flags("qps", "burst", "argoproj/argo-workflows, cmd/workflow-controller/main.go"),
        ..controller("Argo Workflows", ARGO, "argo", &["argoproj/workflow-controller"])
    },
    Identity {
        // 0, its default, leaves it to controller-runtime: 20 and 30.
        limit: limit(20, 30),
        flags: flags("qps", "burst", "kubeflow/notebooks, components/notebook-controller/main.go"),
        ..controller("the notebook controller", KUBEFLOW, "notebook-controller-service-account", &["notebook-controller"])
    },
    controller("the notebooks' web app", KUBEFLOW, "jupyter-web-app-service-account", &["jupyter-web-app"]),
    controller("the profile controller", KUBEFLOW, "profiles-controller-service-account", &["profile-controller"]),
    controller("KServe", KSERVE, "kserve-controller-manager", &["kserve-controller"]),
    controller("KServe's LLM controller", KSERVE, "llmisvc-controller-manager", &["llmisvc-controller"]),
    controller("KServe's local models", KSERVE, "kserve-localmodel-controller-manager", &["kserve-localmodel-controller"]),
    controller("Seldon Core", &["seldon-system"], "seldon-manager", &["seldon-core-operator"]),
    controller("the Spark operator", SPARK, "spark-operator-controller", &["spark-operator/controller"]),
    controller("the Spark operator's webhook", SPARK, "spark-operator-webhook", &[]),
    controller("JupyterHub", ANYWHERE, "hub", &["k8s-hub"]),
    controller("JobSet", &["jobset-system"], "jobset-controller-manager", &["jobset/jobset"]),
    controller("LeaderWorkerSet", &["lws-system"], "lws-controller-manager", &["lws/lws"]),
    controller("OpenKruise", &["kruise-system"], "kruise-manager", &["kruise-manager"]),
];

impl Identity {
    /// Whether it may be anywhere, so that its account's name alone says little.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        self.namespaces.contains(&"*")
    }

    /// Whether its manifests put this account into this namespace.
    #[must_use]
    pub fn is_called(&self, namespace: &str, account: &str) -> bool {
        self.account == account && self.namespaces.iter().any(|pattern| glob(pattern, namespace))
    }

    /// Whether an image is its: the end of the repository, by whole segments.
    #[must_use]
    pub fn runs(&self, image: &ImageRef) -> bool {
        self.images.iter().any(|end| {
            image.repository.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        })
    }
}

/// The controller that an image is of.
#[must_use]
pub fn of_image(image: &str) -> Option<&'static Identity> {
    let image = ImageRef::parse(image)?;
    TABLE.iter().find(|identity| identity.runs(&image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_whole_segments_wherever_it_is_mirrored() {
        let what = |image: &str| of_image(image).map(|identity| identity.what);
        assert_eq!(what("quay.io/kuberay/operator:v1.5.0"), Some("KubeRay"));
        assert_eq!(what("mirror.example.com/quay/kuberay/operator@sha256:00"), Some("KubeRay"));
        assert_eq!(what("quay.io/other/operator:v1"), None);
        assert_eq!(what("ghcr.io/kubeflow/training-v1/training-operator:v1.9"), Some("Kubeflow Training Operator"));
        assert_eq!(what("docker.io/acme/not-a-training-operator:1"), None);
    }

    /// Two rows for one account would be two words about one lane.
    #[test]
    fn every_account_stands_in_one_row() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(
                !row.namespaces.is_empty() && row.flags.is_none_or(|flags| flags.qps != flags.burst),
                "{}",
                row.what
            );
            let same = |other: &&Identity| {
                other.account == row.account && other.namespaces.iter().any(|name| row.namespaces.contains(name))
            };
            assert_eq!(TABLE.iter().skip(at + 1).find(same).map(|other| other.what), None, "{}", row.what);
        }
    }
}
