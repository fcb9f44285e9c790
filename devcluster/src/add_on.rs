//! What a cluster may have beside its tier: `cargo xtask cluster up --with …`.

use std::process::Child;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::certificates::write;
use crate::cluster::{LOOPBACK, apply, free_ports, until};
use crate::definitions::{self, modules, objects};
use crate::image::Image;
use crate::node::Network;
use crate::process::Part;
use crate::registry;
use crate::run::{self, Result};
use crate::{Cluster, tools};

/// Something that a cluster may have beside its tier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum AddOn {
    /// The definitions of the supported ML kinds, as their projects publish them
    Crds,
    /// The definitions of the Gateway API, standard channel
    GatewayApi,
    /// OpenKruise: its definitions, rights, webhooks and manager
    Openkruise,
    /// A registry for images, over plain HTTP
    Registry,
    /// CoreDNS as kubeadm sets it up, two pods with a ConfigMap, in place of the process on the node
    Coredns,
    /// An API server with 60 seats in place of 600: floods that 2 cores can make fill it
    FewSeats,
    /// An API server whose flow control is switched off
    NoFlowControl,
}

impl AddOn {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crds => "crds",
            Self::GatewayApi => "gateway-api",
            Self::Openkruise => "openkruise",
            Self::Registry => "registry",
            Self::Coredns => "coredns",
            Self::FewSeats => "few-seats",
            Self::NoFlowControl => "no-flow-control",
        }
    }

    /// What it is to the API server, which has its flags from its start.
    pub(crate) const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::FewSeats => &["--max-requests-inflight=40", "--max-mutating-requests-inflight=20"],
            Self::NoFlowControl => &["--enable-priority-and-fairness=false"],
            Self::Crds | Self::GatewayApi | Self::Openkruise | Self::Registry | Self::Coredns => &[],
        }
    }

    /// Builds or downloads what it is made of, where it is not there yet.
    ///
    /// # Errors
    /// Where a registry does not serve it, or a build fails.
    pub fn build(self) -> Result<()> {
        match self {
            Self::Crds => definitions::of_ml_kinds().map(drop),
            Self::GatewayApi => definitions::of_gateway_api().map(drop),
            Self::Openkruise => tools::get("kruise")?.program().map(drop),
            Self::Registry => registry::program().map(drop),
            Self::Coredns => tools::get("coredns")?.program().map(drop),
            Self::FewSeats | Self::NoFlowControl => Ok(()),
        }
    }

    /// Puts it into a cluster; its processes go to `children`.
    pub(crate) fn start(self, cluster: &mut Cluster, children: &mut Vec<(String, Child)>) -> Result<()> {
        match self {
            Self::Crds => definitions::create(&cluster.kubeconfig(), &definitions::of_ml_kinds()?),
            Self::GatewayApi => definitions::create(&cluster.kubeconfig(), &definitions::of_gateway_api()?),
            Self::Openkruise => openkruise(cluster, children),
            Self::Registry => registry::start(cluster, children),
            Self::Coredns => coredns(cluster, children),
            // Whoever starts with it has it already.
            Self::FewSeats | Self::NoFlowControl => {
                Err("an API server has its flags from its start: take the cluster down first, and start it with this"
                    .to_owned())
            }
        }
    }
}

/// CoreDNS in pods. It asks the one on the node for names outside, which knows `example.com` and nothing else.
fn coredns(cluster: &Cluster, children: &mut [(String, Child)]) -> Result<()> {
    let node = cluster.node().ok_or("CoreDNS in pods needs `--tier node`")?;
    let tool = tools::get("coredns")?;
    let program = tool.program()?;
    let mut image = Image::debian(&["libc6"])?;
    let bytes = std::fs::read(&program).map_err(run::file("read", &program))?;
    image.files.push(("coredns".to_owned(), 0o755, bytes));
    image.entrypoint = vec!["/coredns".to_owned()];
    let name = format!("docker.io/local/coredns:{}", tool.version);
    cluster.load_image(&name, &image)?;
    let path = run::root().join("devcluster/node/coredns.yaml");
    let text = std::fs::read_to_string(&path).map_err(run::file("read", &path))?;
    let network = node.network;
    let text = text
        .replace("forward . NODE", &format!("forward . {}", network.node()))
        .replace("clusterIP: DNS", &format!("clusterIP: {}", network.dns()))
        .replace("image: IMAGE", &format!("image: {name}"));
    apply(&cluster.folder, &text)?;
    let kube_system = "--namespace=kube-system";
    let mut delete = cluster.kubectl()?;
    run::output(delete.args(["delete", "endpointslice", "kube-dns", kube_system, "--ignore-not-found"]), &[0])?;
    until(&cluster.folder, children, &["rollout", "status", "deployment/coredns", kube_system, "--timeout=1s"])
}

/// The whole of its release but the Deployment of the manager, which is a process of ours, and the DaemonSet, which
/// restarts containers in place and pulls images ahead; updates in place do not need it.
fn openkruise(cluster: &Cluster, children: &mut Vec<(String, Child)>) -> Result<()> {
    let folder = &cluster.folder;
    let module = modules(&["github.com/openkruise/kruise"])?.remove(0);
    let mut render = cluster.kubectl()?;
    render.arg("kustomize").arg(module.join("config/default"));
    let release = objects(&run::output(&mut render, &[0])?).map_err(|error| format!("{render:?}: {error}"))?;
    let is_program = |object: &Value| object["kind"] == "Deployment" || object["kind"] == "DaemonSet";
    let items: Vec<_> = release.into_iter().filter(|object| !is_program(object)).collect();
    apply(folder, &json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string())?;

    let [port] = free_ports()?;
    let part = Part {
        name: "kruise-manager",
        program: tools::get("kruise")?.program()?,
        called: None,
        inside: None,
        arguments: vec![
            format!("--kubeconfig={}", folder.join("kruise-manager.kubeconfig").display()),
            "--enable-leader-election=false".to_owned(),
            "--feature-gates=EnableExternalCerts=false".to_owned(),
            "--metrics-addr=0".to_owned(),
            "--health-probe-addr=0".to_owned(),
            "--enable-pprof=false".to_owned(),
        ],
        environment: vec![
            ("POD_NAMESPACE", "kruise-system".to_owned()),
            // The API server calls it here instead of through its Service. It listens on every address (main.go): with
            // a node, those of the node.
            ("WEBHOOK_HOST", cluster.network.map_or(LOOPBACK, Network::node).to_string()),
            ("WEBHOOK_PORT", port.to_string()),
            ("WEBHOOK_CERT_DIR", folder.join("kruise-webhook").display().to_string()),
        ],
    };
    let part = match cluster.node() {
        Some(node) => node.inside(part),
        None => part,
    };
    children.push((part.name.to_owned(), part.start(folder)?));
    // Refused until its webhooks answer.
    let probe = folder.join("kruise-probe.json");
    let container = json!({ "name": "probe", "image": "probe:1" });
    let clone_set = json!({ "apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet",
        "metadata": { "name": "probe", "namespace": "default" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "probe" } }, "template": {
            "metadata": { "labels": { "app": "probe" } }, "spec": { "containers": [container] },
        } } });
    write(&probe, &clone_set.to_string())?;
    until(folder, children, &["create", "--dry-run=server", "--filename", &probe.display().to_string()])
}
