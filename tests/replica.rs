//! The operator as processes beside a test's cluster, with the rights of its service account.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bedplate_model::names;
use bedplate_operator::deploy;

use crate::Harness;

/// `bedplate serve` as a process; killed when nobody needs it any more.
#[derive(Debug)]
pub struct Operator {
    /// It.
    pub child: Child,
    /// Port of the webhook.
    pub port: u16,
    /// Port of health and metrics.
    pub health: u16,
    log: PathBuf,
}

impl Operator {
    /// Starts it as `name`, without waiting.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(c: &Harness, name: &str, kubeconfig: &Path, arguments: &[&str]) -> Self {
        let [port, health] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let log = c.cluster.folder.join(format!("operator-{name}.log"));
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(c.program())
            .args(["serve", "--name", "127.0.0.1", "--log-format", "json"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--health", &format!("127.0.0.1:{health}")])
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("POD_NAME", name)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap());
        // The kernel kills it when the thread that started it ends: this one ends with the process.
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = send.send(command.spawn().unwrap());
            loop {
                std::thread::park();
            }
        });
        let child = receive.recv().unwrap();
        Self { child, port, health, log }
    }

    /// Where the API server asks.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The answer of a path of the health port; nothing where nobody answers.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.health)) else { return String::new() };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    /// Whether requests should come.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.get("/readyz").starts_with("HTTP/1.1 200")
    }

    /// Whether it leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.get("/metrics").contains("\nbedplate_leader 1\n")
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// Where `kill` is not there.
    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits until it ended, and gives its status.
    ///
    /// # Panics
    /// Where it does not end within a minute.
    pub fn end(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts all of the operator into a cluster but the pods and the webhooks, which are processes here.
///
/// # Panics
/// Where the cluster does not take it.
pub fn install(c: &Harness) {
    let text = c.bedplate("render --operator").accepted();
    let parts = text.split("---\n").filter(|part| {
        !["Deployment", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"]
            .iter()
            .any(|kind| part.contains(&format!("kind: {kind}\n")))
    });
    c.kubectl(&["apply", "--server-side", "-f", "-"], &parts.collect::<Vec<_>>().join("---\n")).accepted();
}

/// A kubeconfig of the operator's service account.
///
/// # Panics
/// Where there is no such account.
pub fn account(c: &Harness) -> PathBuf {
    let (namespace, name) = (names::NAMESPACE, deploy::NAME);
    let token = c.k(&format!("create token {name} -n {namespace} --duration=2h")).accepted();
    let path = c.cluster.folder.join("kubeconfig-operator");
    std::fs::copy(c.cluster.kubeconfig(), &path).unwrap();
    let set = |arguments: &[&str]| {
        let file = format!("--kubeconfig={}", path.display());
        c.kubectl(&[&["config", &file], arguments].concat(), "").accepted();
    };
    set(&["set-credentials", "operator", &format!("--token={}", token.trim())]);
    set(&["set-context", "--current", "--user=operator"]);
    path
}
