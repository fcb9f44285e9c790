use bedplate_model::{Edit, Finding, Fix, Purpose, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds pods on the host's network that ask the node's DNS and not the cluster's.
    ///
    /// ## Why
    /// With `hostNetwork: true` the default `dnsPolicy: ClusterFirst` means `Default`: the pod
    /// gets the node's `resolv.conf`, and no Service name resolves. RDMA and NCCL jobs run on
    /// the host's network, and find neither their master nor their object store.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: rdma}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           hostNetwork: true
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: rdma}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           hostNetwork: true
    ///           dnsPolicy: ClusterFirstWithHostNet
    ///           containers: [{name: pytorch, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, `k8s.io/api/core/v1`, DNSPolicy; `pkg/kubelet/network/dns/dns.go`, `getPodDNSType`.
    "host-network-dns-policy", Dns, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    if !matches!(workload.purpose, Purpose::Training | Purpose::Serving | Purpose::Notebook) {
        return;
    }
    for pods in &workload.pod_sets {
        let host = pods.spec.key("hostNetwork");
        let policy = pods.spec.key("dnsPolicy");
        if host.bool() == Some(true) && matches!(policy.str(), None | Some("ClusterFirst")) {
            out.push(
                Finding::new(&host, "a pod on the host's network asks the node's DNS: no Service name resolves")
                    .label("`dnsPolicy: ClusterFirst` means the node's here")
                    .fix(Fix::unsafe_(
                        "set `dnsPolicy: ClusterFirstWithHostNet`",
                        vec![Edit::Set(policy.path(), "ClusterFirstWithHostNet".into())],
                    )),
            );
        }
    }
}
