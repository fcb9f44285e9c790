//! What the commands that talk to a cluster share.

use std::path::PathBuf;
use std::time::Duration;

use bedplate_cluster::rights::{Right, Task};
use bedplate_cluster::{Cluster, Place};
use bedplate_model::Profile;

use super::Error;

/// Which cluster.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Target {
    /// The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
    /// Seconds that the API server may be silent
    #[arg(long, value_name = "SECONDS", global = true, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) request_timeout: u64,
}

/// An object, as `kubectl` names one.
#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// Its kind: `crd`, `namespace`, `deployment`, `tfjobs.kubeflow.org`
    pub(crate) kind: String,
    /// Its name
    pub(crate) name: String,
    /// Its namespace, where it has one
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
}

impl Named {
    pub(crate) fn place<'a>(&'a self, cluster: &'a Cluster) -> Result<Place<'a>, Error> {
        let resource = cluster.named(&self.kind)?;
        let namespace = resource.namespaced.then_some(self.namespace.as_str());
        Ok(Place { resource, namespace, name: &self.name })
    }
}

/// Runs what has to wait for a server.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::Other(format!("cannot start: {error}")))?.block_on(work)
}

impl Target {
    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Cluster, Error> {
        let patience = Duration::from_secs(self.request_timeout);
        Ok(Cluster::connect_within(self.kubeconfig.as_deref(), self.context.as_deref(), patience).await?)
    }

    /// Connects, and asks whether the user may do all that a command does, in one namespace or in all.
    pub(crate) async fn connect_for(&self, task: Task, namespace: Option<&str>) -> Result<Cluster, Error> {
        let cluster = self.connect().await?;
        cluster.require(task, namespace, Vec::new()).await?;
        Ok(cluster)
    }
}

/// Rights to do some things to a place.
pub(crate) fn rights(place: Place<'_>, verbs: &[&'static str]) -> Vec<Right> {
    verbs.iter().map(|verb| Right::at(place, verb)).collect()
}

/// The profile that holds on a cluster; exemptions that mean nothing are told of.
pub(crate) async fn profile(cluster: &Cluster) -> Result<Profile, Error> {
    let held = cluster.profile().await?;
    for why in &held.passed_over {
        anstream::eprintln!("warning: passed over: {why}");
    }
    Ok(held.profile)
}

/// Tells what could not be looked at. Whoever asked must not take the rest for the whole.
pub(crate) fn tell_unread<'a>(unread: impl IntoIterator<Item = (&'a String, &'a String)>) -> bool {
    let mut any = false;
    for (what, why) in unread {
        any = true;
        anstream::eprintln!("error: not looked at: {what}: {why}");
    }
    any
}
