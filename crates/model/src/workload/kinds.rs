//! The one table of kinds that hold pods. Everything that Bedplate knows of a kind's shape is a
//! row here: rules, `explain`, and the policies compiled to CEL read the same rows.
//!
//! Paths are dotted; `*` stands for every key of a mapping and `[]` for every item of a list.
//! In a count's path they stand for the same key or item as in the pods' path.

use super::Purpose;
use Count::{AtLeast, Field, LessOne, Lower, One, PerNode, UpTo, When};

/// A kind that holds pods.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// `kind`.
    pub kind: &'static str,
    /// The versions that the row is for; empty for all.
    pub versions: &'static [&'static str],
    /// What such workloads are for, where the kind says it.
    pub purpose: Option<Purpose>,
    /// Where its pods are.
    pub pods: &'static [Pods],
    /// Where whole other objects stand in it, and how often each is made.
    pub embeds: &'static [Embed],
    /// Strings that hold YAML or JSON, read as if their text stood there itself.
    pub strings: &'static [&'static str],
    /// `concurrencyPolicy`, for kinds that start the same work again on a schedule.
    pub overlap: Option<&'static str>,
    /// Fields of which one has to be set so that finished work is deleted; empty where the
    /// kind does not finish.
    pub cleanup: &'static [&'static str],
    /// Whether it runs to an end.
    pub finishes: bool,
    /// How pods are multiplied by code because no path can say it.
    pub computed: Option<Computed>,
    /// The number of replicas that its `scale` subresource writes.
    pub scale: Option<&'static str>,
}

/// Multiplications that need more than paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Computed {
    /// Argo: how often each template runs at once follows from steps, DAGs, `withItems` and
    /// `parallelism`.
    Argo,
}

/// One set of pods of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Pods {
    /// Its role.
    pub role: Role,
    /// Where its template is.
    pub path: &'static str,
    /// What stands at the path.
    pub shape: Shape,
    /// Its replicas: the product of these.
    pub count: &'static [Count],
}

/// How a set of pods is called.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Always this.
    Named(&'static str),
    /// The key at the path's `*`.
    Key,
    /// The field of this name in the item at the path's last `[]`.
    Of(&'static str),
}

/// What stands at a pods' path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// `metadata` and `spec`, as in a Deployment.
    Template,
    /// A PodSpec without metadata.
    PodSpec,
    /// A KServe component: a PodSpec in which the model's container has a key of its own.
    Component,
    /// Spark's driver or executor: image, memory and `gpu` of its own, a template beside them.
    Spark,
    /// A Trainer: image, command and `resourcesPerNode`.
    Trainer,
    /// One container, with pod fields beside it (Argo's templates).
    ArgoTemplate,
}

/// A factor of a number of replicas.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    /// Always one.
    One,
    /// A field, and its value where it is missing.
    Field(&'static str, u64),
    /// The higher of a count and a field, where that is set (elastic maximum).
    AtLeast(&'static Self, &'static str),
    /// The higher of a count and a field; without the field nothing bounds it.
    UpTo(&'static Self, &'static str),
    /// The lower of a count and a field, where that is set.
    Lower(&'static Self, &'static str),
    /// A field less one, and the field's value where it is missing.
    LessOne(&'static str, u64),
    /// One count where a field is true, another where it is not.
    When(&'static str, &'static Self, &'static Self),
    /// One pod for every node.
    PerNode,
}

/// A whole object inside another.
#[derive(Clone, Copy, Debug)]
pub struct Embed {
    /// Where it stands.
    pub path: &'static str,
    /// How often it is made at the same time.
    pub count: &'static [Count],
    /// A word for the copies, such as `trial`.
    pub unit: &'static str,
}

const fn kind(group: &'static str, kind: &'static str, pods: &'static [Pods]) -> Kind {
    Kind {
        group,
        kind,
        versions: &[],
        purpose: None,
        pods,
        embeds: &[],
        strings: &[],
        overlap: None,
        cleanup: &[],
        finishes: false,
        computed: None,
        scale: None,
    }
}

impl Kind {
    /// Its resource in the API: all of the table's are named the plain way.
    #[must_use]
    pub fn plural(&self) -> String {
        format!("{}s", self.kind.to_ascii_lowercase())
    }

    /// The same with its group, as `kubectl` takes it: `tfjobs.kubeflow.org`.
    #[must_use]
    pub fn plural_in_group(&self) -> String {
        if self.group.is_empty() { self.plural() } else { format!("{}.{}", self.plural(), self.group) }
    }

    const fn purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = Some(purpose);
        self
    }

    const fn versions(mut self, versions: &'static [&'static str]) -> Self {
        self.versions = versions;
        self
    }

    const fn embeds(mut self, embeds: &'static [Embed]) -> Self {
        self.embeds = embeds;
        self
    }

    const fn strings(mut self, strings: &'static [&'static str]) -> Self {
        self.strings = strings;
        self
    }

    const fn overlap(mut self, path: &'static str) -> Self {
        self.overlap = Some(path);
        self
    }

    /// Runs to an end, and is deleted afterwards where one of these fields is set.
    const fn finishes(mut self, cleanup: &'static [&'static str]) -> Self {
        self.finishes = true;
        self.cleanup = cleanup;
        self
    }

    const fn scale(mut self, path: &'static str) -> Self {
        self.scale = Some(path);
        self
    }

    const fn computed(mut self, computed: Computed) -> Self {
        self.computed = Some(computed);
        self
    }
}

const fn pods(role: Role, path: &'static str, count: &'static [Count]) -> Pods {
    Pods { role, path, shape: Shape::Template, count }
}

const fn shaped(role: Role, path: &'static str, shape: Shape, count: &'static [Count]) -> Pods {
    Pods { role, path, shape, count }
}

const REPLICAS: &[Count] = &[Field("spec.replicas", 1)];
const TEMPLATE: &[Pods] = &[pods(Role::Named("pod"), "spec.template", REPLICAS)];
const ONE_TEMPLATE: &[Pods] = &[pods(Role::Named("pod"), "spec.template", &[One])];
/// `k8s.io/api/batch/v1`: at most `parallelism` pods, and never more than `completions`.
const JOB: Count = Lower(&Field("spec.parallelism", 1), "spec.completions");
const RUN_POLICY: &[&str] = &["spec.runPolicy.ttlSecondsAfterFinished"];

/// Ray's groups under a prefix, as `ray.io/v1` has them in three kinds
/// (`ray-operator/apis/ray/v1/raycluster_types.go`).
macro_rules! ray {
    ($prefix:literal $(, $more:expr)*) => {
        &[
            pods(Role::Named("head"), concat!($prefix, ".headGroupSpec.template"), &[One]),
            pods(
                Role::Of("groupName"),
                concat!($prefix, ".workerGroupSpecs[].template"),
                &[
                    // `GetWorkerGroupDesiredReplicas` (`controllers/ray/utils/util.go`): without the
                    // autoscaler the maximum only bounds.
                    When(
                        concat!($prefix, ".enableInTreeAutoscaling"),
                        &UpTo(
                            &Field(concat!($prefix, ".workerGroupSpecs[].replicas"), 0),
                            concat!($prefix, ".workerGroupSpecs[].maxReplicas"),
                        ),
                        &Lower(
                            &AtLeast(
                                &Field(concat!($prefix, ".workerGroupSpecs[].replicas"), 0),
                                concat!($prefix, ".workerGroupSpecs[].minReplicas"),
                            ),
                            concat!($prefix, ".workerGroupSpecs[].maxReplicas"),
                        ),
                    ),
                    Field(concat!($prefix, ".workerGroupSpecs[].numOfHosts"), 1),
                ],
            ),
            $($more,)*
        ]
    };
}

/// A Kubeflow v1 job: a map of roles (`training-operator/pkg/apis/kubeflow.org/v1`).
macro_rules! kubeflow {
    ($kind:literal, $specs:literal) => {
        kind(
            "kubeflow.org",
            $kind,
            &[pods(
                Role::Key,
                concat!("spec.", $specs, ".*.template"),
                &[Field(concat!("spec.", $specs, ".*.replicas"), 1)],
            )],
        )
        .purpose(Purpose::Training)
        .finishes(RUN_POLICY)
    };
}

/// A Kubeflow v1 job whose workers may be elastic (`pytorch_defaults.go`): the policy is for
/// workers only.
macro_rules! elastic {
    ($kind:literal, $specs:literal) => {
        kind(
            "kubeflow.org",
            $kind,
            &[
                pods(
                    Role::Named("Master"),
                    concat!("spec.", $specs, ".Master.template"),
                    &[Field(concat!("spec.", $specs, ".Master.replicas"), 1)],
                ),
                pods(
                    Role::Named("Worker"),
                    concat!("spec.", $specs, ".Worker.template"),
                    &[AtLeast(
                        &Field(concat!("spec.", $specs, ".Worker.replicas"), 1),
                        "spec.elasticPolicy.maxReplicas",
                    )],
                ),
            ],
        )
        .purpose(Purpose::Training)
        .finishes(RUN_POLICY)
    };
}

/// A KServe component: `maxReplicas` 0 means no limit, which nothing can add up.
macro_rules! component {
    ($role:literal, $path:literal) => {
        shaped(
            Role::Named($role),
            $path,
            Shape::Component,
            &[AtLeast(&Field(concat!($path, ".minReplicas"), 1), concat!($path, ".maxReplicas"))],
        )
    };
}

/// JobSet's replicated jobs under a prefix.
macro_rules! replicated_jobs {
    ($prefix:literal) => {
        &[pods(
            Role::Of("name"),
            concat!($prefix, ".replicatedJobs[].template.spec.template"),
            &[
                Field(concat!($prefix, ".replicatedJobs[].replicas"), 1),
                Lower(
                    &Field(concat!($prefix, ".replicatedJobs[].template.spec.parallelism"), 1),
                    concat!($prefix, ".replicatedJobs[].template.spec.completions"),
                ),
            ],
        )]
    };
}

const ARGO: &[Pods] = &[shaped(Role::Of("name"), "spec.templates[]", Shape::ArgoTemplate, &[One])];
/// Merged into every pod, the template's after the workflow's.
const ARGO_PATCHES: &[&str] = &["spec.podSpecPatch", "spec.templates[].podSpecPatch"];
const ARGO_TTL: &[&str] = &[
    "spec.ttlStrategy.secondsAfterCompletion",
    "spec.ttlStrategy.secondsAfterSuccess",
    "spec.ttlStrategy.secondsAfterFailure",
];

const LLM: &[Pods] = &[
    shaped(Role::Named("decode"), "spec.template", Shape::PodSpec, REPLICAS),
    shaped(
        Role::Named("decode worker"),
        "spec.worker",
        Shape::PodSpec,
        &[Field("spec.replicas", 1), LessOne("spec.parallelism.pipeline", 1)],
    ),
    shaped(Role::Named("prefill"), "spec.prefill.template", Shape::PodSpec, &[Field("spec.prefill.replicas", 1)]),
    shaped(
        Role::Named("prefill worker"),
        "spec.prefill.worker",
        Shape::PodSpec,
        &[Field("spec.prefill.replicas", 1), LessOne("spec.prefill.parallelism.pipeline", 1)],
    ),
];

/// AppWrapper before v1beta2: whole objects, each in so many copies.
const GENERIC_ITEMS: &[Embed] = &[Embed {
    path: "spec.resources.GenericItems[].generictemplate",
    count: &[Field("spec.resources.GenericItems[].replicas", 1)],
    unit: "item",
}];

/// Every kind, sorted by group and kind.
pub const TABLE: &[Kind] = &[
    kind("", "Pod", &[shaped(Role::Named("pod"), "", Shape::Template, &[One])]),
    kind("", "PodTemplate", &[pods(Role::Named("pod"), "template", &[One])]),
    kind("", "ReplicationController", TEMPLATE),
    kind("apps", "DaemonSet", &[pods(Role::Named("pod"), "spec.template", &[PerNode])]),
    kind("apps", "Deployment", TEMPLATE).scale("spec.replicas"),
    kind("apps", "ReplicaSet", TEMPLATE),
    kind("apps", "StatefulSet", TEMPLATE).scale("spec.replicas"),
    kind("apps.kruise.io", "BroadcastJob", &[pods(Role::Named("pod"), "spec.template", &[PerNode])])
        .finishes(&["spec.completionPolicy.ttlSecondsAfterFinished"]),
    kind("apps.kruise.io", "CloneSet", TEMPLATE).scale("spec.replicas"),
    kind("apps.kruise.io", "DaemonSet", &[pods(Role::Named("pod"), "spec.template", &[PerNode])]),
    kind("apps.kruise.io", "StatefulSet", TEMPLATE).scale("spec.replicas"),
    kind("argoproj.io", "ClusterWorkflowTemplate", ARGO).strings(ARGO_PATCHES).computed(Computed::Argo),
    kind(
        "argoproj.io",
        "CronWorkflow",
        &[shaped(Role::Of("name"), "spec.workflowSpec.templates[]", Shape::ArgoTemplate, &[One])],
    )
    .strings(&["spec.workflowSpec.podSpecPatch", "spec.workflowSpec.templates[].podSpecPatch"])
    .overlap("spec.concurrencyPolicy")
    .finishes(&[
        "spec.workflowSpec.ttlStrategy.secondsAfterCompletion",
        "spec.workflowSpec.ttlStrategy.secondsAfterSuccess",
        "spec.successfulJobsHistoryLimit",
    ])
    .computed(Computed::Argo),
    kind("argoproj.io", "Workflow", ARGO).strings(ARGO_PATCHES).finishes(ARGO_TTL).computed(Computed::Argo),
    kind("argoproj.io", "WorkflowTemplate", ARGO).strings(ARGO_PATCHES).computed(Computed::Argo),
    kind(
        "batch",
        "CronJob",
        &[pods(
            Role::Named("pod"),
            "spec.jobTemplate.spec.template",
            &[Lower(&Field("spec.jobTemplate.spec.parallelism", 1), "spec.jobTemplate.spec.completions")],
        )],
    )
    .overlap("spec.concurrencyPolicy"),
    kind("batch", "Job", &[pods(Role::Named("pod"), "spec.template", &[JOB])])
        .finishes(&["spec.ttlSecondsAfterFinished"]),
    kind(
        "batch.volcano.sh",
        "CronJob",
        &[pods(
            Role::Of("name"),
            "spec.jobTemplate.spec.tasks[].template",
            &[Field("spec.jobTemplate.spec.tasks[].replicas", 1)],
        )],
    )
    .purpose(Purpose::Training)
    .overlap("spec.concurrencyPolicy"),
    kind(
        "batch.volcano.sh",
        "Job",
        &[pods(Role::Of("name"), "spec.tasks[].template", &[Field("spec.tasks[].replicas", 1)])],
    )
    .purpose(Purpose::Training)
    .finishes(&["spec.ttlSecondsAfterFinished"]),
    kind("jobset.x-k8s.io", "JobSet", replicated_jobs!("spec"))
        .purpose(Purpose::Training)
        .finishes(&["spec.ttlSecondsAfterFinished"]),
    kubeflow!("JAXJob", "jaxReplicaSpecs").scale("spec.jaxReplicaSpecs.Worker.replicas"),
    kind("kubeflow.org", "Experiment", &[])
        .purpose(Purpose::Training)
        .embeds(&[
            Embed {
                path: "spec.trialTemplate.trialSpec",
                count: &[Lower(&Field("spec.parallelTrialCount", 3), "spec.maxTrialCount")],
                unit: "trial",
            },
            // v1alpha3 and older: a Go template in a string.
            Embed {
                path: "spec.trialTemplate.goTemplate.rawTemplate",
                count: &[Lower(&Field("spec.parallelTrialCount", 3), "spec.maxTrialCount")],
                unit: "trial",
            },
        ])
        .strings(&["spec.trialTemplate.goTemplate.rawTemplate"])
        // Trials are kept only where the user asks for it (spec.resumePolicy, retain).
        .finishes(&[]),
    kind("kubeflow.org", "Notebook", ONE_TEMPLATE).purpose(Purpose::Notebook),
    // v1 and v2beta1 agree but for the place of cleanPodPolicy.
    kind(
        "kubeflow.org",
        "MPIJob",
        &[
            pods(Role::Named("Launcher"), "spec.mpiReplicaSpecs.Launcher.template", &[One]),
            pods(
                Role::Named("Worker"),
                "spec.mpiReplicaSpecs.Worker.template",
                &[Field("spec.mpiReplicaSpecs.Worker.replicas", 0)],
            ),
        ],
    )
    .purpose(Purpose::Training)
    .finishes(RUN_POLICY),
    elastic!("PaddleJob", "paddleReplicaSpecs").scale("spec.paddleReplicaSpecs.Worker.replicas"),
    elastic!("PyTorchJob", "pytorchReplicaSpecs").scale("spec.pytorchReplicaSpecs.Worker.replicas"),
    kubeflow!("TFJob", "tfReplicaSpecs"),
    kubeflow!("XGBoostJob", "xgbReplicaSpecs"),
    kind(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        &[
            pods(Role::Named("leader"), "spec.leaderWorkerTemplate.leaderTemplate", REPLICAS),
            pods(
                Role::Named("worker"),
                "spec.leaderWorkerTemplate.workerTemplate",
                &[Field("spec.replicas", 1), LessOne("spec.leaderWorkerTemplate.size", 1)],
            ),
        ],
    )
    .scale("spec.replicas")
    .purpose(Purpose::Serving),
    kind(
        "machinelearning.seldon.io",
        "SeldonDeployment",
        &[pods(
            Role::Of("metadata.name"),
            "spec.predictors[].componentSpecs[]",
            &[AtLeast(&Field("spec.predictors[].replicas", 1), "spec.predictors[].componentSpecs[].replicas")],
        )],
    )
    .purpose(Purpose::Serving),
    kind("ray.io", "RayCluster", ray!("spec")).purpose(Purpose::Training),
    kind(
        "ray.io",
        "RayJob",
        ray!("spec.rayClusterSpec", pods(Role::Named("submitter"), "spec.submitterPodTemplate", &[One])),
    )
    .purpose(Purpose::Training)
    .finishes(&["spec.shutdownAfterJobFinishes", "spec.ttlSecondsAfterFinished"]),
    kind("ray.io", "RayService", ray!("spec.rayClusterConfig")).purpose(Purpose::Serving),
    kind(
        "serving.kserve.io",
        "ClusterServingRuntime",
        &[shaped(Role::Named("runtime"), "spec", Shape::PodSpec, &[One])],
    )
    .purpose(Purpose::Serving),
    kind(
        "serving.kserve.io",
        "InferenceService",
        &[
            component!("predictor", "spec.predictor"),
            shaped(
                Role::Named("worker"),
                "spec.predictor.workerSpec",
                Shape::PodSpec,
                &[
                    AtLeast(&Field("spec.predictor.minReplicas", 1), "spec.predictor.maxReplicas"),
                    LessOne("spec.predictor.workerSpec.pipelineParallelSize", 1),
                ],
            ),
            component!("transformer", "spec.transformer"),
            component!("explainer", "spec.explainer"),
        ],
    )
    .purpose(Purpose::Serving),
    kind("serving.kserve.io", "LLMInferenceService", LLM).purpose(Purpose::Serving),
    // Presets, merged into the services that name them.
    kind("serving.kserve.io", "LLMInferenceServiceConfig", LLM).purpose(Purpose::Serving),
    kind("serving.kserve.io", "ServingRuntime", &[shaped(Role::Named("runtime"), "spec", Shape::PodSpec, &[One])])
        .purpose(Purpose::Serving),
    kind("serving.knative.dev", "Service", ONE_TEMPLATE).purpose(Purpose::Serving),
    kind(
        "sparkoperator.k8s.io",
        "ScheduledSparkApplication",
        &[
            shaped(Role::Named("driver"), "spec.template.driver", Shape::Spark, &[One]),
            shaped(
                Role::Named("executor"),
                "spec.template.executor",
                Shape::Spark,
                &[AtLeast(
                    &Field("spec.template.executor.instances", 1),
                    "spec.template.dynamicAllocation.maxExecutors",
                )],
            ),
        ],
    )
    .purpose(Purpose::Training)
    .overlap("spec.concurrencyPolicy")
    .finishes(&["spec.successfulRunHistoryLimit", "spec.template.timeToLiveSeconds"]),
    kind(
        "sparkoperator.k8s.io",
        "SparkApplication",
        &[
            shaped(Role::Named("driver"), "spec.driver", Shape::Spark, &[One]),
            shaped(
                Role::Named("executor"),
                "spec.executor",
                Shape::Spark,
                &[AtLeast(&Field("spec.executor.instances", 1), "spec.dynamicAllocation.maxExecutors")],
            ),
        ],
    )
    .purpose(Purpose::Training)
    .finishes(&["spec.timeToLiveSeconds"]),
    kind("trainer.kubeflow.org", "ClusterTrainingRuntime", replicated_jobs!("spec.template.spec"))
        .purpose(Purpose::Training),
    kind(
        "trainer.kubeflow.org",
        "TrainJob",
        &[shaped(Role::Named("node"), "spec.trainer", Shape::Trainer, &[Field("spec.trainer.numNodes", 1)])],
    )
    .purpose(Purpose::Training),
    kind("trainer.kubeflow.org", "TrainingRuntime", replicated_jobs!("spec.template.spec")).purpose(Purpose::Training),
    kind("workload.codeflare.dev", "AppWrapper", &[]).versions(&["v1beta2"]).embeds(&[Embed {
        path: "spec.components[].template",
        count: &[One],
        unit: "component",
    }]),
    kind("workload.codeflare.dev", "AppWrapper", &[]).versions(&["v1beta1"]).embeds(GENERIC_ITEMS),
    kind("mcad.ibm.com", "AppWrapper", &[]).embeds(GENERIC_ITEMS),
];

/// The resources of some kinds, group by group. A pod's ephemeral containers come by a request of their own.
#[must_use]
pub fn resources(kinds: impl IntoIterator<Item = &'static Kind>) -> Vec<(&'static str, Vec<String>)> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for kind in kinds {
        let plural = kind.plural();
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, resources)) if resources.contains(&plural) => {}
            Some((_, resources)) => resources.push(plural),
            None => groups.push((kind.group, vec![plural])),
        }
    }
    if let Some((_, core)) = groups.iter_mut().find(|(group, _)| group.is_empty()) {
        core.push("pods/ephemeralcontainers".to_owned());
    }
    groups
}

/// API groups whose kinds come by CRDs. Groups of Kubernetes itself have none, and no dot.
#[must_use]
pub fn crd_groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = TABLE.iter().map(|row| row.group).filter(|group| group.contains('.')).collect();
    groups.dedup();
    groups
}

/// The row for a kind.
#[must_use]
pub fn find(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    TABLE.iter().find(|row| {
        row.kind == kind && row.group == group && (row.versions.is_empty() || row.versions.contains(&version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_stands_for_the_same_keys_and_items_as_its_pods() {
        fn path(count: &Count) -> Vec<&'static str> {
            match count {
                One | PerNode => vec![],
                Field(path, _) | LessOne(path, _) => vec![path],
                AtLeast(inner, path_) | UpTo(inner, path_) | Lower(inner, path_) => {
                    let mut all = path(inner);
                    all.push(path_);
                    all
                }
                When(_, one, other) => [path(one), path(other)].concat(),
            }
        }
        let wild = |path: &str| {
            path.split('.').filter(|p| *p == "*" || p.ends_with("[]")).map(str::to_owned).collect::<Vec<_>>()
        };
        for row in TABLE {
            for pods in row.pods {
                for count in pods.count.iter().flat_map(path) {
                    let (of_pods, of_count) = (wild(pods.path), wild(count));
                    assert_eq!(of_pods[..of_count.len().min(of_pods.len())], of_count[..], "{}: {count}", row.kind);
                }
            }
        }
    }
}
