//! Which cluster: as `kubectl` chooses it, and never another one in silence.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::Error;
use crate::error::{chain, innermost};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// A client for a cluster, and the server's address: `kubeconfig`, or else `$KUBECONFIG`, or else `~/.kube/config`, or else the pod's own
/// account. One that is there and broken is an error: going on to the next would talk to another cluster.
///
/// # Errors
/// None is there; one cannot be read; no such context.
pub(crate) async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Client, String), Error> {
    let files = match kubeconfig {
        Some(path) if path.exists() => vec![path.to_owned()],
        Some(path) => return Err(Error::NoConfig(format!("{} is not there", path.display()))),
        None => files()?,
    };
    let mut config = if files.is_empty() { of_pod(context)? } else { of_files(&files, context).await? };
    config.connect_timeout = Some(CONNECT);
    // Ours are told apart by what was asked.
    config.default_retry = false;
    let mut server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    if let Some(proxy) = &config.proxy_url {
        server.push_str(&format!(" (through the proxy {proxy})"));
    }
    let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let client = Client::try_from(config).map_err(|error| {
        let mut why = chain(&error);
        if let Some(plugin) = plugin {
            why.push_str(&format!("\nthe program that gives this user's credentials is `{plugin}`"));
        }
        Error::Config { file: shown(&files), why }
    })?;
    Ok((client, server))
}

fn shown(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return "the pod's own account".to_owned();
    }
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The kubeconfigs that are there, in the order in which the first wins.
fn files() -> Result<Vec<PathBuf>, Error> {
    if let Some(variable) = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
        let named: Vec<PathBuf> =
            std::env::split_paths(&variable).filter(|path| !path.as_os_str().is_empty()).collect();
        let there: Vec<PathBuf> = named.iter().filter(|path| path.exists()).cloned().collect();
        if there.is_empty() {
            return Err(Error::NoConfig(format!("KUBECONFIG names {}, which is not there", shown(&named))));
        }
        return Ok(there);
    }
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    Ok(home.filter(|path| path.exists()).into_iter().collect())
}

fn of_pod(context: Option<&str>) -> Result<Config, Error> {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() || context.is_some() {
        return Err(Error::NoConfig(
            "KUBECONFIG is not set, there is no ~/.kube/config, and this is not a pod".to_owned(),
        ));
    }
    Config::incluster().map_err(|error| Error::Config { file: shown(&[]), why: chain(&error) })
}

async fn of_files(files: &[PathBuf], context: Option<&str>) -> Result<Config, Error> {
    let unusable = |why: String| Error::Config { file: shown(files), why };
    let mut all = Kubeconfig::default();
    for path in files {
        let one = Kubeconfig::read_from(path)
            .map_err(|error| Error::Config { file: path.display().to_string(), why: innermost(&error) })?;
        all = all.merge(one).map_err(|error| unusable(innermost(&error)))?;
    }
    let known: Vec<&str> = all.contexts.iter().map(|context| context.name.as_str()).collect();
    let list = || if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
    let wanted = context.or(all.current_context.as_deref()).filter(|name| !name.is_empty());
    let Some(wanted) = wanted else {
        return Err(unusable(format!(
            "no context is chosen; {}\nname one with --context, or: kubectl config use-context NAME",
            list()
        )));
    };
    let Some(found) = all.contexts.iter().find(|context| context.name == wanted) else {
        let near = bedplate_model::profile::nearest(wanted, &known);
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(unusable(format!("there is no context `{wanted}`: {}{near}", list())));
    };
    let cluster = found.context.as_ref().map(|context| context.cluster.as_str()).unwrap_or_default();
    let Some(entry) = all.clusters.iter().find(|entry| entry.name == cluster) else {
        return Err(unusable(format!("context `{wanted}` is of cluster `{cluster}`, which the file does not have")));
    };
    let own_proxy = entry.cluster.as_ref().and_then(|cluster| cluster.proxy_url.clone());
    let own_proxy = own_proxy.is_some_and(|proxy| !proxy.is_empty());
    let options = KubeConfigOptions { context: Some(wanted.to_owned()), ..Default::default() };
    let mut config =
        Config::from_custom_kubeconfig(all, &options).await.map_err(|error| unusable(error.to_string()))?;
    if !own_proxy {
        config.proxy_url = proxy(&config.cluster_url);
    }
    Ok(config)
}

/// The proxy of the environment for a server, as `kubectl` reads it: never for this machine itself
/// (Go, `golang.org/x/net/http/httpproxy`).
fn proxy(server: &http::Uri) -> Option<http::Uri> {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    if here { None } else { Matcher::from_env().intercept(server).map(|proxy| proxy.uri().clone()) }
}
