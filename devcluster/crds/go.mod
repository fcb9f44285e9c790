// The modules whose folders hold the definitions of custom kinds: pinned here, checked against go.sum, never compiled.
module bedplate.dev/devcluster/crds

go 1.26.0

require (
	github.com/argoproj/argo-workflows/v3 v3.7.0
	github.com/kserve/kserve v0.16.0
	github.com/kubeflow/katib v0.19.0
	github.com/kubeflow/mpi-operator v0.6.0
	github.com/kubeflow/spark-operator/v2 v2.2.1
	github.com/kubeflow/trainer/v2 v2.1.0
	github.com/kubeflow/training-operator v1.9.0
	github.com/kyverno/kyverno v1.17.1
	github.com/openkruise/kruise v1.8.3
	github.com/openreports/reports-api v0.2.1
	github.com/project-codeflare/appwrapper v1.1.0
	github.com/ray-project/kuberay/ray-operator v1.4.0
	knative.dev/serving v0.51.0
	sigs.k8s.io/gateway-api v1.6.3
	sigs.k8s.io/jobset v0.8.0
	sigs.k8s.io/lws v0.7.0
)
