//! What the commands that talk to a cluster share.

use std::path::PathBuf;

use bedplate_cluster::{Cluster, Place};

use super::Error;

/// Which cluster.
#[derive(clap::Args, Debug)]
pub(crate) struct Target {
    /// The kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
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
    pub(crate) async fn connect(&self) -> Result<Cluster, Error> {
        Ok(Cluster::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?)
    }
}
