//! The tier `node`, as a developer uses it: a pod, its logs, a shell in it, a Service, a name, a volume; and nothing
//! left afterwards, whether the cluster is taken down or its holder is killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bedplate_devcluster::Image;
use common::{Down, can_have_a_node, eventually, kubectl, left, stdout, try_kubectl, up, which, xtask};

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
    if !can_have_a_node() {
        return;
    }
    let _end = Down(NAME);
    let cluster = up(NAME, &["--tier", "node"]);
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
    let cluster = up(NAME, &["--tier", "node"]);
    kubectl(&cluster, &["run", "sleeper", "--image=local/busybox:1"]);
    kubectl(&cluster, &["wait", "--for=condition=Ready", "pod/sleeper", "--timeout=120s"]);
    assert!(left(&cluster).iter().any(|line| line.contains("containerd-shim")), "this test sees what is left");
    cluster.holder.signal("KILL");
    eventually(|| {
        let left = left(&cluster);
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}
