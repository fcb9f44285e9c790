//! Clusters on this machine: `up`, `down`, `status`.
//!
//! A cluster is a folder and a process that holds it. Every part is a child of the holder and is killed by the kernel
//! when the holder ends, however it ends: `down`, Ctrl-C, a crash, `kill -9`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::add_on::AddOn;
use crate::certificates::{Authority, signing_key, write};
use crate::image::Image;
use crate::node::{self, Network, Node};
use crate::process::{Id, Part, child_of, tail};
use crate::registry;
use crate::run::{self, Result};
use crate::tools;

/// How much of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// etcd, API server, controller manager: for admission, deletion, flow control.
    Api,
    /// The same with a scheduler and KWOK: thousands of nodes and pods that only seem to run.
    Scale,
    /// The same with containerd, kubelet, kube-proxy and CoreDNS: pods that run. Needs root.
    Node,
}

/// How long a cluster may take to be ready.
const PATIENCE: Duration = Duration::from_secs(90);

/// The parts that are in the node's namespaces, where there is a node.
const IN_NODE: &[&str] =
    &["node", "kube-controller-manager", "containerd", "coredns", "kube-proxy", "kubelet", "kruise-manager"];

/// The address of every part. Nothing listens elsewhere, but for the link to a node.
pub const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What is known of a cluster that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Its tier.
    pub tier: Tier,
    /// Everything of it: `kubeconfig`, `admission/` (policies from files), logs, certificates, data.
    pub folder: PathBuf,
    /// The API server.
    pub server: String,
    /// The process that holds it.
    pub holder: Id,
    /// The parts, by name.
    pub parts: Vec<(String, Id)>,
    /// The addresses of its node, where it has one.
    pub network: Option<Network>,
    /// What it has beside its tier.
    #[serde(default)]
    pub with: Vec<AddOn>,
    /// Where its registry listens, `ADDRESS:PORT`, where it has one: for this machine and for the node.
    #[serde(default)]
    pub registry: Option<String>,
}

impl Cluster {
    /// The cluster called `name`, started if it is not up, and given what it lacks of `with`. Gives whether it was
    /// started. If this process ends before, the cluster does, too.
    ///
    /// # Errors
    /// Where a part does not start, with the end of its log; where the cluster is up with a lower tier.
    pub fn up(name: &str, tier: Tier, with: &[AddOn]) -> Result<(Self, bool)> {
        if let Some(cluster) = Self::find(name) {
            if cluster.tier < tier {
                return Err(format!(
                    "cluster `{name}` is up with tier {}; take it down first: cargo xtask cluster down --name {name}",
                    cluster.tier.name()
                ));
            }
            return Ok((cluster.ask(name, with)?, false));
        }
        build(tier, with)?;
        let folder = folder(name);
        clean(&folder)?;
        let log_path = folder.join("holder.log");
        let log = fs::File::create(&log_path).map_err(run::file("write", &log_path))?;
        let me = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
        let mut command = Command::new("setsid");
        command.arg(me).args(["cluster", "hold", "--name", name, "--tier", tier.name()]);
        if !with.is_empty() {
            command.arg("--with").arg(with.iter().map(|add_on| add_on.name()).collect::<Vec<_>>().join(","));
        }
        let mut holder = command
            // It ends when this closes without a word.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("setsid (Debian package util-linux): {error}"))?;
        let started = Instant::now();
        let patience = PATIENCE * (1 + u32::try_from(with.len()).unwrap_or_default());
        loop {
            if let Some(cluster) = Self::find(name) {
                let stays = holder.stdin.take().is_some_and(|mut pipe| pipe.write_all(b"stay\n").is_ok());
                return if stays { Ok((cluster, true)) } else { Err(format!("the holder of cluster `{name}` ended")) };
            }
            if matches!(holder.try_wait(), Ok(Some(_))) || started.elapsed() > patience {
                let _ = holder.kill();
                return Err(format!("cluster `{name}` did not start:\n{}", tail(&log_path, 40)));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has the holder of the cluster add what it lacks of `with`.
    fn ask(self, name: &str, with: &[AddOn]) -> Result<Self> {
        let missing: Vec<_> = with.iter().filter(|add_on| !self.with.contains(add_on)).copied().collect();
        if missing.is_empty() {
            return Ok(self);
        }
        build(self.tier, &missing)?;
        let (wish, refusal) = wish(&self.folder, std::process::id());
        let text = serde_json::to_string(&missing).map_err(|error| error.to_string())?;
        let draft = wish.with_extension("draft");
        write(&draft, &text)?;
        fs::rename(&draft, &wish).map_err(run::file("write", &wish))?;
        while wish.exists() {
            if !self.holder.runs() {
                let log = tail(&self.folder.join("holder.log"), 40);
                return Err(format!("cluster `{name}` ended while it was given more:\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Ok(why) = fs::read_to_string(&refusal) {
            let _ = fs::remove_file(&refusal);
            return Err(why);
        }
        Self::find(name).ok_or_else(|| format!("cluster `{name}` ended"))
    }

    /// A cluster that lives as long as this process: for the tests of one binary.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn of_this_process(tier: Tier, with: &'static [AddOn]) -> Result<Self> {
        build(tier, with)?;
        sweep();
        let folder = folder(&format!("test-{}", std::process::id()));
        let (send, receive) = std::sync::mpsc::channel();
        // The kernel kills a part when the thread that started it ends: this one never does.
        std::thread::spawn(move || {
            let started = clean(&folder).and_then(|()| Self::start(&folder, tier, with));
            let alive = started.is_ok();
            let (cluster, children) = match started {
                Ok((cluster, children)) => (Ok(cluster), children),
                Err(error) => (Err(error), Vec::new()),
            };
            let _ = send.send(cluster);
            while alive && !children.is_empty() {
                std::thread::park();
            }
        });
        receive.recv().map_err(|_| "the thread that starts the cluster ended".to_owned())?
    }

    /// Starts the cluster called `name` and stays until it or a part of it ends, or whoever asked for it ends before
    /// it is up.
    ///
    /// # Errors
    /// Where a part does not start, or ends.
    pub fn hold(name: &str, tier: Tier, with: &[AddOn]) -> Result<()> {
        std::thread::spawn(|| {
            if !matches!(std::io::stdin().read(&mut [0]), Ok(1)) {
                eprintln!("who asked for this cluster ended before it was up");
                std::process::exit(1);
            }
        });
        let (mut cluster, mut children) = Self::start(&folder(name), tier, with)?;
        loop {
            for (part, child) in &mut children {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(ended(part, status, &cluster.folder));
                }
            }
            cluster.grant(&mut children)?;
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Adds what was asked for since: a file for each who asks, removed when it is done.
    fn grant(&mut self, children: &mut Vec<(String, Child)>) -> Result<()> {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let asker = name.to_str().and_then(|name| name.strip_prefix("wish-")?.strip_suffix(".json")?.parse().ok());
            let Some(asker) = asker else { continue };
            let (wish, refusal) = wish(&self.folder, asker);
            let text = fs::read(&wish).map_err(run::file("read", &wish))?;
            let with: Vec<AddOn> = serde_json::from_slice(&text).unwrap_or_default();
            let added = self.add(&with, children);
            self.save(children)?;
            if let Err(why) = added {
                write(&refusal, &why)?;
            }
            fs::remove_file(&wish).map_err(run::file("remove", &wish))?;
        }
        Ok(())
    }

    /// Adds what it lacks of `with`, up to the first that fails.
    fn add(&mut self, with: &[AddOn], children: &mut Vec<(String, Child)>) -> Result<()> {
        for add_on in with {
            if self.with.contains(add_on) {
                continue;
            }
            let before = children.len();
            if let Err(why) = add_on.start(self, children) {
                // What it started ends with it.
                for (part, mut child) in children.drain(before..) {
                    if let Some(id) = Id::of(self.real(&part, child.id())) {
                        id.signal("KILL");
                    }
                    let _ = child.kill();
                    let _ = child.wait();
                }
                return Err(format!("cannot add {}: {why}", add_on.name()));
            }
            self.with.push(*add_on);
            self.with.sort();
        }
        Ok(())
    }

    /// Writes what is known of it.
    fn save(&mut self, children: &[(String, Child)]) -> Result<()> {
        self.know(children)?;
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        // Renamed into place: whoever sees it sees it whole.
        let (draft, state) = (self.folder.join("cluster.json.new"), self.folder.join("cluster.json"));
        write(&draft, &text)?;
        fs::rename(&draft, &state).map_err(run::file("write", &state))
    }

    /// Takes its processes down as its parts.
    fn know(&mut self, children: &[(String, Child)]) -> Result<()> {
        let known = |pid, name: &str| Id::of(pid).ok_or_else(|| format!("{name} ended"));
        self.parts = children
            .iter()
            .map(|(name, child)| known(self.real(name, child.id()), name).map(|id| (name.clone(), id)))
            .collect::<Result<_>>()?;
        Ok(())
    }

    /// The process of a part: what `unshare` and `nsenter` started, not they.
    fn real(&self, part: &str, pid: u32) -> u32 {
        let in_node = self.network.is_some() && IN_NODE.contains(&part);
        if in_node { child_of(pid).unwrap_or(pid) } else { pid }
    }

    /// Its node, where it has one.
    pub(crate) fn node(&self) -> Option<Node> {
        let (_, first) = self.parts.iter().find(|(part, _)| part == "node")?;
        Some(Node { network: self.network?, first: first.pid })
    }

    /// The cluster called `name`, where it is up.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let text = fs::read(folder(name).join("cluster.json")).ok()?;
        serde_json::from_slice::<Self>(&text).ok().filter(|cluster| cluster.holder.runs())
    }

    /// The names of the clusters of this checkout that are up.
    #[must_use]
    pub fn all() -> Vec<(String, Self)> {
        let names = fs::read_dir(clusters()).into_iter().flatten().flatten();
        let mut all: Vec<_> = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Self::find(&name).map(|cluster| (name, cluster)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Ends the cluster, and waits until every part is gone. Its folder stays until the next `up`, for its logs.
    ///
    /// # Errors
    /// Where a part does not end.
    pub fn down(&self) -> Result<()> {
        self.holder.signal("TERM");
        let started = Instant::now();
        let mut waiting: Vec<_> = self.parts.iter().map(|(_, id)| *id).chain([self.holder]).collect();
        loop {
            waiting.retain(|id| id.runs());
            // The kernel removes interfaces a moment after the last process that saw them.
            let gone = self.network.is_none_or(Network::is_gone);
            if waiting.is_empty() && gone {
                break;
            }
            if started.elapsed() > Duration::from_secs(20) {
                return Err(match self.network {
                    Some(network) if waiting.is_empty() => {
                        format!("the interface or a control group {} stays", network.name())
                    }
                    _ => format!("processes {waiting:?} do not end"),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let state = self.folder.join("cluster.json");
        fs::remove_file(&state).map_err(run::file("remove", &state))
    }

    /// The file that clients need.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Policies in this folder are enforced by the API server though they are in no API (KEP-5793).
    #[must_use]
    pub fn static_policies(&self) -> PathBuf {
        self.folder.join("admission")
    }

    /// `kubectl` for this cluster.
    ///
    /// # Errors
    /// Where it cannot be built.
    pub fn kubectl(&self) -> Result<Command> {
        kubectl(&self.kubeconfig())
    }

    /// A kubeconfig of a service account, good for two hours.
    ///
    /// # Errors
    /// Where there is no such account.
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = ["create", "token", account, "--namespace", namespace, "--duration=2h"];
        let token = run::output(self.kubectl()?.args(token), &[0])?;
        let path = self.folder.join(format!("kubeconfig-{account}"));
        fs::copy(self.kubeconfig(), &path).map_err(run::file("write", &path))?;
        let token = format!("--token={}", token.trim());
        let user = format!("--user={account}");
        for arguments in [["set-credentials", account, &token], ["set-context", "--current", &user]] {
            run::output(kubectl(&path)?.arg("config").args(arguments), &[0])?;
        }
        Ok(path)
    }

    /// Gives the cluster `count` nodes that KWOK plays, `fake-0` and so on; those that are there stay.
    ///
    /// # Errors
    /// Where the tier has no KWOK, or the API server refuses them.
    pub fn add_fake_nodes(&self, count: usize) -> Result<()> {
        if self.tier < Tier::Scale {
            return Err(format!("fake nodes need `--tier scale`; this cluster has tier {}", self.tier.name()));
        }
        let nodes: Vec<_> = (0..count)
            .map(|number| {
                serde_json::json!({ "apiVersion": "v1", "kind": "Node", "metadata": {
                    "name": format!("fake-{number}"),
                    "annotations": { "kwok.x-k8s.io/node": "fake" },
                    "labels": { "kubernetes.io/hostname": format!("fake-{number}"), "type": "kwok" },
                } })
            })
            .collect();
        self.apply(&serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": nodes }).to_string())
    }

    /// Gives the node an image, which pods run with any `imagePullPolicy` but `Always`. `name` is a full name with a
    /// registry: Kubernetes reads `local/model:1` as `docker.io/local/model:1`.
    ///
    /// # Errors
    /// Where there is no node, or it does not take the image.
    pub fn load_image(&self, name: &str, image: &Image) -> Result<()> {
        let node = self.node().ok_or_else(|| format!("images need `--tier node`; this one is {}", self.tier.name()))?;
        node.import(&self.folder, name, image)
    }

    /// Pushes an image to the cluster's registry, and gives its name by digest, which pods and everyone on this
    /// machine pull: `ADDRESS:PORT/REPOSITORY@sha256:…`.
    ///
    /// # Errors
    /// Where there is no registry, or it refuses.
    pub fn push_image(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        let registry = self.registry.as_ref().ok_or("this cluster has no registry; it needs `--with registry`")?;
        registry::push(registry, repository, tag, image)
    }

    /// Applies manifests, as YAML or JSON.
    ///
    /// # Errors
    /// What `kubectl` says.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        apply(&self.folder, manifests)
    }

    fn start(folder: &Path, tier: Tier, with: &[AddOn]) -> Result<(Self, Vec<(String, Child)>)> {
        let mut children: Vec<(String, Child)> = Vec::new();
        let node = if tier >= Tier::Node { Some(Node::start(folder, &mut children)?) } else { None };
        let network = node.map(|node| node.network);
        let [etcd, peer, api] = free_ports::<3>()?;
        let server = format!("https://{}:{api}", network.map_or(LOOPBACK, Network::host));
        certificates(folder, &server, network)?;
        let start = |part: Part, children: &mut Vec<(String, Child)>| -> Result<()> {
            children.push((part.name.to_owned(), part.start(folder)?));
            Ok(())
        };
        start(parts::etcd(folder, etcd, peer)?, &mut children)?;
        let flagged: Vec<_> = with.iter().copied().filter(|add_on| !add_on.flags().is_empty()).collect();
        start(parts::api_server(folder, etcd, api, network, &flagged)?, &mut children)?;
        ready(folder, &mut children)?;
        let controller_manager = parts::controller_manager(folder)?;
        // It makes volumes where the node's pods find them.
        let controller_manager = match node {
            Some(node) => node.inside(controller_manager),
            None => controller_manager,
        };
        start(controller_manager, &mut children)?;
        if tier >= Tier::Scale {
            start(parts::scheduler(folder)?, &mut children)?;
            start(parts::kwok(folder)?, &mut children)?;
        }
        if let Some(node) = node {
            start(node.containerd(folder)?, &mut children)?;
            apply(folder, &node.objects()?)?;
            start(node.coredns(folder)?, &mut children)?;
            start(node.kube_proxy(folder)?, &mut children)?;
            node.import_busybox(folder)?;
            start(node.kubelet(folder)?, &mut children)?;
            let ready = ["wait", "--for=condition=Ready", "--timeout=1s", "node", node::NAME];
            until(folder, &mut children, &ready)?;
        }
        // The controller manager makes it; before it is there, no pod can be created.
        until(folder, &mut children, &["get", "serviceaccount", "default", "--namespace", "default"])?;
        let mut cluster = Self {
            tier,
            folder: folder.to_owned(),
            server,
            holder: Id::of(std::process::id()).ok_or("the holder ended")?,
            parts: Vec::new(),
            network,
            with: flagged,
            registry: None,
        };
        cluster.know(&children)?;
        cluster.add(with, &mut children)?;
        cluster.save(&children)?;
        Ok((cluster, children))
    }
}

impl Tier {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Scale => "scale",
            Self::Node => "node",
        }
    }
}

/// `kubectl` with a kubeconfig.
///
/// # Errors
/// Where it cannot be built.
pub fn kubectl(kubeconfig: &Path) -> Result<Command> {
    let mut command = Command::new(tools::get("kubernetes")?.program()?.with_file_name("kubectl"));
    command.arg("--kubeconfig").arg(kubeconfig).stdin(Stdio::null());
    Ok(command)
}

pub(crate) fn apply(folder: &Path, manifests: &str) -> Result<()> {
    let mut command = kubectl(&folder.join("kubeconfig"))?;
    run::fed(command.args(["apply", "--server-side", "--force-conflicts", "--filename", "-"]), manifests).map(drop)
}

/// What who asks for add-ons writes, and what it is told where it is refused.
fn wish(folder: &Path, asker: u32) -> (PathBuf, PathBuf) {
    (folder.join(format!("wish-{asker}.json")), folder.join(format!("wish-{asker}.refused")))
}

/// Builds what a tier and add-ons are made of, where it is not there yet.
fn build(tier: Tier, with: &[AddOn]) -> Result<()> {
    if tier >= Tier::Node {
        // First: a build takes minutes.
        node::check(&clusters())?;
    }
    let needed: &[&str] = match tier {
        Tier::Api => &["etcd", "kubernetes"],
        Tier::Scale => &["etcd", "kubernetes", "kwok"],
        Tier::Node => &["etcd", "kubernetes", "kwok", "containerd", "coredns"],
    };
    needed.iter().try_for_each(|name| tools::get(name)?.program().map(drop))?;
    with.iter().try_for_each(|add_on| add_on.build())
}

fn clusters() -> PathBuf {
    run::target().join("clusters")
}

fn folder(name: &str) -> PathBuf {
    clusters().join(name)
}

fn clean(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(run::file("remove", folder))?;
    }
    fs::create_dir_all(folder.join("admission")).map_err(run::file("create", folder))
}

/// Folders of test binaries that are gone.
fn sweep() {
    for entry in fs::read_dir(clusters()).into_iter().flatten().flatten() {
        let gone = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("test-")?.parse().ok())
            .is_some_and(|pid: u32| Id::of(pid).is_none());
        if gone {
            // Another run may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Ports that nothing listens on. They are free until someone takes them: a start that fails on one says so.
///
/// # Errors
/// Where the system has none.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((LOOPBACK, 0)).map_err(|error| format!("no free port: {error}"))?;
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Who connects to the API server: file name, user, groups.
const CLIENTS: &[(&str, &str, &[&str])] = &[
    ("admin", "bedplate-devcluster-admin", &["system:masters"]),
    ("controller-manager", "system:kube-controller-manager", &[]),
    ("scheduler", "system:kube-scheduler", &[]),
    ("kubelet", "system:node:node", &["system:nodes"]),
    ("kube-proxy", "system:kube-proxy", &[]),
    ("coredns", "system:coredns", &[]),
    // As the service account that OpenKruise's own roles are bound to.
    (
        "kruise-manager",
        "system:serviceaccount:kruise-system:kruise-manager",
        &["system:serviceaccounts", "system:serviceaccounts:kruise-system"],
    ),
];

fn certificates(folder: &Path, server: &str, network: Option<Network>) -> Result<()> {
    let authority = Authority::new()?;
    write(&folder.join("ca.crt"), &authority.certificate)?;
    let (private, public) = signing_key()?;
    write(&folder.join("service-accounts.key"), &private)?;
    write(&folder.join("service-accounts.pub"), &public)?;
    let service = network.map_or(Ipv4Addr::new(10, 96, 0, 1), Network::api);
    let address = network.map_or(LOOPBACK, Network::host);
    authority.write(folder, "server", "kube-apiserver", &[], &[LOOPBACK, address, service])?;
    if let Some(network) = network {
        authority.write(folder, "kubelet-server", "system:node:node", &["system:nodes"], &[network.node()])?;
        authority.write(folder, "kubelet-client", "kube-apiserver", &["system:masters"], &[])?;
    }
    for (file, user, groups) in CLIENTS {
        authority.write(folder, file, user, groups, &[])?;
        let name = if *file == "admin" { "kubeconfig".to_owned() } else { format!("{file}.kubeconfig") };
        let at = |suffix: &str| folder.join(suffix).display().to_string();
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "devcluster",
            "clusters": [{ "name": "devcluster", "cluster": { "server": server, "certificate-authority": at("ca.crt") } }],
            "contexts": [{ "name": "devcluster", "context": { "cluster": "devcluster", "user": user } }],
            "users": [{ "name": user, "user": {
                "client-certificate": at(&format!("{file}.crt")), "client-key": at(&format!("{file}.key")),
            } }],
        });
        write(&folder.join(name), &serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?)?;
    }
    let admission = serde_json::json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{ "name": "ValidatingAdmissionPolicy", "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyConfiguration",
            "staticManifestsDir": folder.join("admission").display().to_string(),
        } }],
    });
    write(&folder.join("admission.json"), &admission.to_string())
}

fn ready(folder: &Path, children: &mut [(String, Child)]) -> Result<()> {
    until(folder, children, &["get", "--raw", "/readyz"])
}

/// Waits until a `kubectl` command succeeds.
pub(crate) fn until(folder: &Path, children: &mut [(String, Child)], arguments: &[&str]) -> Result<()> {
    let started = Instant::now();
    loop {
        let answer =
            kubectl(&folder.join("kubeconfig"))?.args(arguments).output().map_err(|error| error.to_string())?;
        if answer.status.success() {
            return Ok(());
        }
        for (part, child) in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(ended(part, status, folder));
            }
        }
        if started.elapsed() > PATIENCE {
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            return Err(format!("no answer to `kubectl {}` in {PATIENCE:?}: {said}", arguments.join(" ")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) fn ended(part: &str, status: std::process::ExitStatus, folder: &Path) -> String {
    format!("{part} ended with {status}:\n{}", tail(&folder.join(format!("{part}.log")), 20))
}

mod parts {
    //! The parts of a cluster and the settings that matter.

    use super::{AddOn, LOOPBACK, Network, Path, Result, run, tools};
    use crate::process::Part;

    fn part(name: &'static str, tool: &str, called: Option<&'static str>, arguments: &[String]) -> Result<Part> {
        let (program, arguments) = (tools::get(tool)?.program()?, arguments.to_vec());
        Ok(Part { name, program, called, inside: None, arguments, environment: Vec::new() })
    }

    pub(super) fn etcd(folder: &Path, client: u16, peer: u16) -> Result<Part> {
        let client = format!("http://{LOOPBACK}:{client}");
        let peer = format!("http://{LOOPBACK}:{peer}");
        part(
            "etcd",
            "etcd",
            None,
            &[
                format!("--data-dir={}", folder.join("etcd").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                // The data is worth as much as the cluster: nothing after a crash.
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
        )
    }

    pub(super) fn api_server(
        folder: &Path,
        etcd: u16,
        port: u16,
        network: Option<Network>,
        flagged: &[AddOn],
    ) -> Result<Part> {
        let at = |file: &str| folder.join(file).display().to_string();
        let (address, services) =
            network.map_or((LOOPBACK, "10.96.0.0/16".to_owned()), |network| (network.host(), network.services()));
        let more = if network.is_some() {
            vec![
                // For logs and exec. The node's name is in no DNS.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-certificate-authority={}", at("ca.crt")),
                format!("--kubelet-client-certificate={}", at("kubelet-client.crt")),
                format!("--kubelet-client-key={}", at("kubelet-client.key")),
            ]
        } else {
            // An endpoint may not be a loopback address; without pods nobody needs it.
            vec!["--endpoint-reconciler-type=none".to_owned()]
        };
        part(
            "kube-apiserver",
            "kubernetes",
            Some("kube-apiserver"),
            &[
                format!("--etcd-servers=http://{LOOPBACK}:{etcd}"),
                format!("--bind-address={address}"),
                format!("--advertise-address={address}"),
                format!("--secure-port={port}"),
                format!("--client-ca-file={}", at("ca.crt")),
                format!("--tls-cert-file={}", at("server.crt")),
                format!("--tls-private-key-file={}", at("server.key")),
                format!("--service-cluster-ip-range={services}"),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", at("service-accounts.pub")),
                format!("--service-account-signing-key-file={}", at("service-accounts.key")),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--allow-privileged=true".to_owned(),
                format!("--admission-control-config-file={}", at("admission.json")),
            ]
            .into_iter()
            .chain(more)
            .chain(flagged.iter().flat_map(|add_on| add_on.flags()).map(ToString::to_string))
            .collect::<Vec<_>>(),
        )
    }

    pub(super) fn controller_manager(folder: &Path) -> Result<Part> {
        let at = |file: &str| folder.join(file).display().to_string();
        part(
            "kube-controller-manager",
            "kubernetes",
            Some("kube-controller-manager"),
            &[
                format!("--kubeconfig={}", at("controller-manager.kubeconfig")),
                "--use-service-account-credentials=true".to_owned(),
                format!("--service-account-private-key-file={}", at("service-accounts.key")),
                format!("--root-ca-file={}", at("ca.crt")),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
                // Volumes of the class `local`, where there is a node.
                "--enable-hostpath-provisioner=true".to_owned(),
            ],
        )
    }

    pub(super) fn scheduler(folder: &Path) -> Result<Part> {
        part(
            "kube-scheduler",
            "kubernetes",
            Some("kube-scheduler"),
            &[
                format!("--kubeconfig={}", folder.join("scheduler.kubeconfig").display()),
                "--leader-elect=false".to_owned(),
                "--secure-port=0".to_owned(),
            ],
        )
    }

    pub(super) fn kwok(folder: &Path) -> Result<Part> {
        part(
            "kwok",
            "kwok",
            None,
            &[
                format!("--kubeconfig={}", folder.join("kubeconfig").display()),
                format!("--config={}", run::root().join("devcluster/kwok/stages.yaml").display()),
                "--manage-all-nodes=false".to_owned(),
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
                "--node-lease-duration-seconds=40".to_owned(),
            ],
        )
    }
}
