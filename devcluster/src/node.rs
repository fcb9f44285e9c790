//! A real node: containerd, kubelet, kube-proxy and CoreDNS in namespaces of their own on this machine.
//!
//! ```text
//!   this machine                     │ namespaces of the node (mount, network, process)
//!   etcd, kube-apiserver, scheduler  │ init.sh, the first process: its death is everyone's
//!   10.245.N.1 on bedplateN ─────────┼─ 10.245.N.2 on eth0: containerd, kubelet, kube-proxy, CoreDNS
//!   routes to pods and Services ─────┼─▶ 10.244.N.0/24 pods, each on a link of its own
//!                                    │   10.96.(16 N).0/20 Services, by kube-proxy
//! ```
//!
//! So the kernel itself removes what a node leaves about: mounts, interfaces, routes, firewall rules, shims and
//! containers end with the first process. Only control groups stay; a janitor, which outlives the holder, removes them.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::certificates::write;
use crate::image::Image;
use crate::process::{Part, child_of};
use crate::run::{self, Result};
use crate::tools;

/// What the node is called.
pub const NAME: &str = "node";

/// The image that is there from the start: busybox, which sleeps unless it is told otherwise.
pub const BUSYBOX: &str = "docker.io/local/busybox:1";

/// The addresses of a cluster with a node: the `N` of the picture. Several can be up at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Network {
    index: u8,
}

impl Network {
    /// As many as there are ranges of Services in 10.96.0.0/16.
    const ALL: u8 = 16;

    /// The end of the link that is on this machine. The API server listens here.
    #[must_use]
    pub const fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 245, self.index, 1)
    }

    /// The node.
    #[must_use]
    pub const fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 245, self.index, 2)
    }

    /// The addresses of pods.
    #[must_use]
    pub fn pods(self) -> String {
        format!("10.244.{}.0/24", self.index)
    }

    /// The addresses of Services.
    #[must_use]
    pub fn services(self) -> String {
        format!("10.96.{}.0/20", self.index * 16)
    }

    /// The Service `kubernetes`: the first address of the range.
    #[must_use]
    pub const fn api(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, self.index * 16, 1)
    }

    /// The Service `kube-dns`.
    #[must_use]
    pub const fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, self.index * 16, 10)
    }

    /// The interface on this machine; also the name of the control groups.
    #[must_use]
    pub fn name(self) -> String {
        format!("bedplate{}", self.index)
    }

    /// Whether nothing of the node is left on this machine.
    #[must_use]
    pub fn is_gone(self) -> bool {
        !Path::new("/sys/class/net").join(self.name()).exists() && self.groups().iter().all(|group| !group.exists())
    }

    /// The node's control group in each hierarchy of this machine.
    fn groups(self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = if root.join("cgroup.procs").exists() {
            vec![root.to_owned()]
        } else {
            // Version 1: a hierarchy for each controller, beside links to them.
            let entries = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
            entries.filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists()).collect()
        };
        hierarchies.into_iter().map(|hierarchy| hierarchy.join(self.name())).collect()
    }
}

/// Whether this machine can have a node.
///
/// # Errors
/// What is missing: the rights, or Debian packages.
pub fn check(folder: &Path) -> Result<()> {
    if !is_root() {
        return Err("tier node runs containers, which needs root; `--tier api` and `--tier scale` do not".to_owned());
    }
    let missing = missing();
    if !missing.is_empty() {
        return Err(format!("tier node needs Debian packages: apt-get install --yes {}", missing.join(" ")));
    }
    // init.sh hides these from the node.
    for path in [folder.to_owned(), tools::get("containerd")?.program()?] {
        if ["/run", "/var/run", "/var/lib", "/var/log"].iter().any(|hidden| path.starts_with(hidden)) {
            return Err(format!(
                "a node has a /run, /var/lib and /var/log of its own and would not see {}: set CARGO_TARGET_DIR and \
                 BEDPLATE_CACHE to folders elsewhere",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Debian packages that a node needs and this machine has not.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let needed = [
        ("iproute2", on_path("ip").is_some()),
        ("iptables", on_path("iptables").is_some()),
        ("runc", on_path("runc").is_some()),
        ("busybox-static", static_busybox().is_some()),
        ("containernetworking-plugins", plugins().is_some()),
        ("util-linux", on_path("unshare").is_some() && on_path("nsenter").is_some() && on_path("setpriv").is_some()),
    ];
    needed.into_iter().filter(|(_, there)| !there).map(|(package, _)| package).collect()
}

/// Installs [`missing`] packages, as root on Debian; says so.
///
/// # Errors
/// Where `apt-get` fails.
pub fn install_missing() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("xtask: installing Debian packages for the tier node: {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        run::succeed(
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()),
        )
    };
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A user's path may lack the folders of system programs.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The package `busybox` has one that needs libraries, and no image has them: a program that names its loader.
fn static_busybox() -> Option<PathBuf> {
    let program = on_path("busybox")?;
    let bytes = fs::read(&program).ok()?;
    let start = bytes.get(..4096.min(bytes.len()))?;
    (!start.windows(8).any(|part| part == b"ld-linux" || part == b"/ld-musl")).then_some(program)
}

/// The folder of the network plugins: Debian's, or where upstream puts them.
fn plugins() -> Option<&'static str> {
    ["/usr/lib/cni", "/opt/cni/bin"].into_iter().find(|folder| Path::new(folder).join("ptp").exists())
}

/// A node that has its namespaces, and the link to this machine.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its addresses.
    pub network: Network,
    /// Its first process.
    pub(crate) first: u32,
}

impl Node {
    /// Makes the namespaces and the link; what has to live as long as the node is put to `children`.
    ///
    /// # Errors
    /// Where the machine refuses namespaces, or an address range is in use.
    pub fn start(folder: &Path, children: &mut Vec<(String, Child)>) -> Result<Self> {
        let script = run::root().join("devcluster/node/init.sh");
        let part = Part {
            name: "node",
            program: "unshare".into(),
            called: None,
            inside: None,
            arguments: [
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
                "sh",
                &script.to_string_lossy(),
                &folder.to_string_lossy(),
            ]
            .map(str::to_owned)
            .to_vec(),
            environment: Vec::new(),
        };
        let mut outside = part.start(folder)?;
        let started = Instant::now();
        while !folder.join("node.started").exists() {
            let ended = matches!(outside.try_wait(), Ok(Some(_)));
            if ended || started.elapsed() > Duration::from_secs(20) {
                return Err(format!("the node's namespaces: {}", crate::process::tail(&folder.join("node.log"), 10)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let first = child_of(outside.id()).ok_or("the node's first process ended")?;
        children.push(("node".to_owned(), outside));
        let volumes = folder.join("volumes");
        std::thread::spawn(move || open_volumes(&volumes));
        let network = link(first)?;
        let node = Self { network, first };
        node.groups(folder, children)?;
        Ok(node)
    }

    /// A program for the node.
    fn part(self, name: &'static str, tool: &str, called: Option<&'static str>, arguments: &[String]) -> Result<Part> {
        let program = tools::get(tool)?.program()?;
        let (inside, arguments) = (Some(self.first), arguments.to_vec());
        Ok(Part { name, program, called, inside, arguments, environment: Vec::new() })
    }

    /// The same part, in the node's namespaces.
    #[must_use]
    pub fn inside(self, part: Part) -> Part {
        Part { inside: Some(self.first), ..part }
    }

    /// A program that runs in the node to its end.
    #[must_use]
    pub fn command(self, program: &Path) -> Command {
        let mut command = enter(self.first);
        command.arg(program);
        command
    }

    /// Makes the node's control groups, and starts who removes them.
    fn groups(self, folder: &Path, children: &mut Vec<(String, Child)>) -> Result<()> {
        let path = folder.join("janitor.log");
        let log = fs::File::create(&path).map_err(run::file("write", &path))?;
        // In a session of its own, so that Ctrl-C ends only whom it watches.
        let janitor = Command::new("setsid")
            .arg("sh")
            .arg(run::root().join("devcluster/node/janitor.sh"))
            .arg(self.network.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("setsid (Debian package util-linux): {error}"))?;
        children.push(("janitor".to_owned(), janitor));
        for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
            // Version 2 only; kubelet names a controller that it misses.
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"));
        }
        for group in self.network.groups() {
            match fs::create_dir(&group) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(run::file("create control group", &group)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// containerd, with its settings written.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn containerd(self, folder: &Path) -> Result<Part> {
        let at = |file: &str| Value::from(folder.join(file).display().to_string());
        let runc = on_path("runc").ok_or("no runc")?;
        // Without CAP_SYS_RESOURCE no score can be lowered, and every pod would fail (restrict_oom_score_adj).
        let text = format!(
            r#"version = 3
root = {}
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
path = {}
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{BUSYBOX}"
[plugins."io.containerd.cri.v1.images".registry]
config_path = {}
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{}"]
conf_dir = {}
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = {}
"#,
            at("containerd"),
            at("containerd-opt"),
            at("registries"),
            plugins().ok_or("no network plugins")?,
            at("cni"),
            Value::from(runc.display().to_string()),
        );
        write(&folder.join("containerd.toml"), &text)?;
        // A link for each pod and no bridge: traffic between pods passes kube-proxy's rules without a kernel module.
        let network = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                { "type": "ptp", "ipMasq": false, "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": self.network.pods() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                } },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        let cni = folder.join("cni");
        fs::create_dir_all(&cni).map_err(run::file("create", &cni))?;
        write(&cni.join("pods.conflist"), &network.to_string())?;
        let config = folder.join("containerd.toml").display().to_string();
        self.part("containerd", "containerd", None, &[format!("--config={config}"), "--log-level=warn".to_owned()])
    }

    /// Imports an image, so that pods run it with any `imagePullPolicy` but `Always`.
    ///
    /// # Errors
    /// What `ctr` says.
    pub fn import(self, folder: &Path, name: &str, image: &Image) -> Result<()> {
        // Two may be imported at a time, by two processes.
        let archive = folder.join(format!("image-{}-{:?}.tar", std::process::id(), std::thread::current().id()));
        fs::write(&archive, image.archive(name)?).map_err(run::file("write", &archive))?;
        let ctr = tools::get("containerd")?.program()?.with_file_name("ctr");
        let mut command = self.command(&ctr);
        command.args(["--address", SOCKET, "--namespace", "k8s.io", "images", "import"]).arg(&archive);
        run::output(&mut command, &[0])?;
        fs::remove_file(&archive).map_err(run::file("remove", &archive))
    }

    /// Imports [`BUSYBOX`], once containerd answers.
    ///
    /// # Errors
    /// Where it does not answer in half a minute.
    pub fn import_busybox(self, folder: &Path) -> Result<()> {
        let image = Image::busybox(&static_busybox().ok_or("no static busybox")?)?;
        let started = Instant::now();
        loop {
            match self.import(folder, BUSYBOX, &image) {
                Err(_) if started.elapsed() < Duration::from_secs(30) => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                result => return result,
            }
        }
    }

    /// kubelet, with its settings written.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn kubelet(self, folder: &Path) -> Result<Part> {
        let at = |file: &str| folder.join(file).display().to_string();
        // No upstream: what a pod may reach is the cluster and this machine.
        write(&folder.join("resolv.conf"), "")?;
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.network.node(),
            "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": at("ca.crt") } },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": at("kubelet-server.crt"),
            "tlsPrivateKeyFile": at("kubelet-server.key"),
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "failCgroupV1": false,
            "failSwapOn": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.network.name()),
            "clusterDNS": [self.network.dns()],
            "clusterDomain": "cluster.local",
            "resolvConf": at("resolv.conf"),
            "volumePluginDir": "/run/volume-plugins",
            "serializeImagePulls": false,
            // How late a pod sees another text of its ConfigMap; the default is a minute.
            "syncFrequency": "5s",
            // A full disk is the developer's to see to.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi", "nodefs.inodesFree": "1",
            },
        });
        write(&folder.join("kubelet.json"), &config.to_string())?;
        self.part(
            "kubelet",
            "kubernetes",
            Some("kubelet"),
            &[
                format!("--config={}", at("kubelet.json")),
                format!("--kubeconfig={}", at("kubelet.kubeconfig")),
                format!("--root-dir={}", at("kubelet")),
                format!("--node-ip={}", self.network.node()),
                format!("--hostname-override={NAME}"),
            ],
        )
    }

    /// kube-proxy, with its settings written.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn kube_proxy(self, folder: &Path) -> Result<Part> {
        let node = self.network.node();
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": { "kubeconfig": folder.join("kube-proxy.kubeconfig").display().to_string() },
            "mode": "iptables",
            "clusterCIDR": self.network.pods(),
            "detectLocalMode": "ClusterCIDR",
            "hostnameOverride": NAME,
            "healthzBindAddress": format!("{node}:10256"),
            "metricsBindAddress": format!("{node}:10249"),
            // The size of the table of connections is the whole machine's.
            "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        });
        let path = folder.join("kube-proxy.json");
        write(&path, &config.to_string())?;
        self.part("kube-proxy", "kubernetes", Some("kube-proxy"), &[format!("--config={}", path.display())])
    }

    /// CoreDNS, with its settings written. It knows the cluster and, as all there is outside, `example.com`: addresses of
    /// documentation (RFC 5737, RFC 3849), which lead nowhere, and below `node.example.com` the node's own.
    ///
    /// # Errors
    /// Where the folder cannot be written to.
    pub fn coredns(self, folder: &Path) -> Result<Part> {
        let node = self.network.node();
        let text = format!(
            "cluster.local:53 in-addr.arpa:53 {{
    bind {node}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        pods insecure
        ttl 5
    }}
    loadbalance
    prometheus {node}:9153
}}
.:53 {{
    bind {node}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
example.com:53 {{
    bind {node}
    template IN A {{
        answer \"{{{{ .Name }}}} 60 IN A 192.0.2.1\"
    }}
    template IN AAAA {{
        answer \"{{{{ .Name }}}} 60 IN AAAA 2001:db8::1\"
    }}
}}
node.example.com:53 {{
    bind {node}
    template IN A {{
        answer \"{{{{ .Name }}}} 60 IN A {node}\"
    }}
    template IN AAAA {{
        rcode NOERROR
    }}
}}
",
            folder.join("coredns.kubeconfig").display()
        );
        let path = folder.join("Corefile");
        write(&path, &text)?;
        self.part("coredns", "coredns", None, &[format!("-conf={}", path.display())])
    }

    /// What the cluster holds from its start.
    ///
    /// # Errors
    /// Where the project's file cannot be read.
    pub fn objects(self) -> Result<String> {
        let path = run::root().join("devcluster/node/objects.yaml");
        let text = fs::read_to_string(&path).map_err(run::file("read", &path))?;
        Ok(text
            .replace("[ADDRESS]", &format!("[{}]", self.network.node()))
            .replace("clusterIP: DNS", &format!("clusterIP: {}", self.network.dns())))
    }
}

/// Opens each new volume to all, as long as there is a folder of volumes: the controller manager makes them for root
/// alone, and containers are not all root. A pod starts long after its volume is made.
fn open_volumes(folder: &Path) {
    let mut done = HashSet::new();
    while let Ok(entries) = fs::read_dir(folder) {
        for path in entries.flatten().map(|entry| entry.path()) {
            // One that is gone again needs nothing.
            if !done.contains(&path) && fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).is_ok() {
                done.insert(path);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// containerd's socket, in the node's own /run.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// A command in the namespaces of a process.
pub(crate) fn enter(process: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &process.to_string(), "--mount", "--net", "--pid"]);
    command
}

/// Links the network of the process to this machine's, with the first free addresses.
fn link(process: u32) -> Result<Network> {
    let free = (0..Network::ALL).map(|index| Network { index }).filter(|network| network.is_gone());
    let mut refused = "every name from bedplate0 to bedplate15 is taken".to_owned();
    for network in free {
        let name = network.name();
        // Of two clusters that start at once, one gets the name.
        let pid = process.to_string();
        let made = ["link", "add", &name, "type", "veth", "peer", "name", "eth0", "netns", &pid];
        if let Err(error) = run::output(Command::new("ip").args(made), &[0]) {
            refused = error;
            continue;
        }
        let ip = |arguments: &[&str]| run::output(Command::new("ip").args(arguments), &[0]).map(drop);
        let there = |arguments: &[&str]| run::output(enter(process).arg("ip").args(arguments), &[0]).map(drop);
        let (host, node) = (network.host().to_string(), network.node().to_string());
        ip(&["address", "add", &format!("{host}/30"), "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        there(&["address", "add", &format!("{node}/30"), "dev", "eth0"])?;
        there(&["link", "set", "eth0", "up"])?;
        there(&["route", "add", "default", "via", &host])?;
        for range in [network.pods(), network.services()] {
            // They go with the interface.
            ip(&["route", "add", &range, "via", &node])?;
        }
        return Ok(network);
    }
    Err(format!("the node gets no link to this machine: {refused}"))
}
