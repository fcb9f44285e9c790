//! The tier `node`, as a developer uses it: a pod, its logs, a shell in it, a Service, a name, a volume; and nothing
//! left afterwards, whether the cluster is taken down or its holder is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bedplate_devcluster::{Cluster, Image};

const NAME: &str = "test-of-node";

const POD: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: data }
spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Mi } } }
---
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  securityContext: { runAsUser: 1000, runAsNonRoot: true }
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: local/web:1
      imagePullPolicy: Never
      volumeMounts: [{ name: data, mountPath: /data }]
      readinessProbe: { httpGet: { path: /answer, port: 8080 }, periodSeconds: 1 }
  volumes: [{ name: data, persistentVolumeClaim: { claimName: data } }]
---
apiVersion: v1
kind: Service
metadata: { name: answers }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
";

#[test]
fn a_pod_runs_and_nothing_is_left() {
    if let Err(why) = bedplate_devcluster::node::check(Path::new("/")) {
        // Not `eprintln`, which the test harness keeps to itself when a test passes.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: the tier `node` is not tested here: {why}\n");
        return;
    }
    let _end = Down;
    let cluster = up();
    let network = cluster.network.expect("a node has addresses");

    // An image from files: busybox with a page and a command of its own.
    let mut image = Image::busybox(&which("busybox")).unwrap();
    image.files.push(("web/answer".to_owned(), 0o644, b"forty-two\n".to_vec()));
    image.command = ["/bin/sh", "-c", "echo started; cp /web/answer /data; exec httpd -f -p 8080 -h /data"]
        .map(str::to_owned)
        .to_vec();
    cluster.load_image("docker.io/local/web:1", &image).unwrap();
    cluster.apply(POD).unwrap();
    kubectl(&cluster, &["wait", "--for=condition=Ready", "pod/web", "--timeout=120s"]);
    assert_eq!(kubectl(&cluster, &["logs", "web"]), "started\n");
    assert_eq!(kubectl(&cluster, &["exec", "web", "--", "id", "-u"]), "1000\n");
    // By its name, over DNS, kube-proxy's rules and back to the pod itself.
    eventually(|| {
        let answer = try_kubectl(&cluster, &["exec", "web", "--", "wget", "-qO-", "http://answers/answer"]);
        (stdout(&answer) == "forty-two\n").then_some(()).ok_or(format!("{answer:?}"))
    });
    let lookup = kubectl(&cluster, &["exec", "web", "--", "nslookup", "answers.default.svc.cluster.local"]);
    let service = kubectl(&cluster, &["get", "service", "answers", "--output=jsonpath={.spec.clusterIP}"]);
    assert!(lookup.contains(&service), "{service}: {lookup}");
    // This machine reaches Services, too: webhooks need that.
    let mut stream = TcpStream::connect((service.as_str(), 80)).unwrap();
    stream.write_all(b"GET /answer HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("forty-two\n"), "{answer}");
    // A pod reaches the API server.
    let connect = "nc -w 5 kubernetes.default 443 </dev/null";
    let api = kubectl(&cluster, &["exec", "web", "--", "sh", "-c", connect]);
    assert_eq!(api, "");

    xtask(&["cluster", "down", "--name", NAME]);
    assert_eq!(left(&cluster), Vec::<String>::new());
    assert!(network.is_gone());

    // The same, when nobody has the time to tidy up.
    let cluster = up();
    kubectl(&cluster, &["run", "sleeper", "--image=local/busybox:1"]);
    kubectl(&cluster, &["wait", "--for=condition=Ready", "pod/sleeper", "--timeout=120s"]);
    assert!(left(&cluster).iter().any(|line| line.contains("containerd-shim")), "this test sees what is left");
    cluster.holder.signal("KILL");
    eventually(|| {
        let left = left(&cluster);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}

/// Ends the cluster when the test ends, however it does.
struct Down;

impl Drop for Down {
    fn drop(&mut self) {
        if let Some(cluster) = Cluster::find(NAME) {
            let _ = cluster.down();
        }
    }
}

fn up() -> Cluster {
    xtask(&["cluster", "up", "--name", NAME, "--tier", "node"]);
    Cluster::find(NAME).expect("it is up")
}

/// Processes, mounts, interfaces and control groups of the cluster.
fn left(cluster: &Cluster) -> Vec<String> {
    let mut left = Vec::new();
    let folder = cluster.folder.display().to_string();
    let mut namespaces = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        // A shim names neither folder nor cluster; its mounts do. They are seen by one process of each namespace.
        let namespace = std::fs::read_link(entry.path().join("ns/mnt")).ok();
        if command.contains(&folder) {
            left.push(format!("process: {command}"));
        }
        let mounts = std::fs::read_to_string(entry.path().join("mounts")).unwrap_or_default();
        if mounts.contains(&folder) {
            left.push(format!("in a namespace with its mounts: {command}"));
        }
        if let Some(namespace) = namespace.filter(|namespace| !namespaces.contains(namespace)) {
            left.extend(mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount: {line}")));
            namespaces.push(namespace);
        }
    }
    if cluster.network.is_some_and(|network| !network.is_gone()) {
        left.push("an interface or a control group".to_owned());
    }
    left
}

fn xtask(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn try_kubectl(cluster: &Cluster, arguments: &[&str]) -> Output {
    cluster.kubectl().unwrap().args(arguments).output().unwrap()
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = try_kubectl(cluster, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    stdout(&output)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for what other processes are about to do; the limit is only there to end a test that fails.
fn eventually(mut attempt: impl FnMut() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(error) = attempt() {
        assert!(started.elapsed() < Duration::from_secs(60), "{error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn which(program: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.exists()).expect(program)
}
