//! The operator as processes beside a test's cluster, with the rights of its service account.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bedplate_devcluster::cluster::free_ports;
use bedplate_devcluster::process::{Part, get, well};
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
    pub fn start(c: &Harness, name: &'static str, kubeconfig: &Path, arguments: &[&str]) -> Self {
        let [port, health] = free_ports().unwrap();
        let own = [
            "serve",
            "--name",
            "127.0.0.1",
            "--log-format",
            "json",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--health",
            &format!("127.0.0.1:{health}"),
        ];
        let part = Part {
            name,
            program: c.program().to_owned(),
            called: None,
            inside: None,
            arguments: own.iter().chain(arguments).map(|word| (*word).to_owned()).collect(),
            environment: vec![("KUBECONFIG", kubeconfig.display().to_string()), ("POD_NAME", name.to_owned())],
        };
        let log = c.cluster.folder.join(format!("{name}.log"));
        let child = part.start_until_exit(&c.cluster.folder).unwrap();
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
        get(self.health, path)
    }

    /// Whether requests should come.
    #[must_use]
    pub fn ready(&self) -> bool {
        well(self.health, "/readyz")
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
    c.cluster.kubeconfig_of(names::NAMESPACE, deploy::NAME).unwrap()
}
