//! Who asks: a bounded part of the log of every CoreDNS, and whose the addresses in it are.

use std::net::IpAddr;

use bedplate_dns::log::{Query, Sample, stamped};
use http::Request;
use serde_json::Value;

use super::{Dns, NAMESPACE};
use crate::audit::controller;
use crate::{Cluster, Error, Place};

/// How much is read of the log of one CoreDNS, in bytes: about 50,000 queries.
pub const MOST_BYTES: u64 = 8 << 20;

/// How many pods of one address are looked at: those on their node's network share its.
const MOST_PODS: u32 = 200;

/// What was read of the log of one CoreDNS.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its pod.
    pub pod: String,
    /// Queries in it, and the seconds from the first of them to the last; why not, where it cannot be read.
    pub read: Result<(u64, f64), String>,
    /// Whether it has more than is read.
    pub is_cut: bool,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A pod's.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What made it, as `Job loader`; nothing where nobody did.
        owner: Option<String>,
        /// Whether it has ended.
        has_ended: bool,
    },
    /// A node's, with so many pods on its network.
    Node(String, usize),
    /// No pod has it: a node, a machine outside, a pod that is gone.
    Nobody,
}

impl Cluster {
    /// The queries of the last `seconds` in the logs of CoreDNS, as far as they are read.
    ///
    /// # Errors
    /// No rights, no answer of the API server.
    pub async fn dns_asked(&self, dns: &Dns, seconds: u32) -> Result<(Sample, Vec<Logged>), Error> {
        let mut sample = Sample::default();
        let mut logs = Vec::new();
        for pod in self.dns_pods(dns).await? {
            let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (pod, container) = (text("/metadata/name"), text("/spec/containers/0/name"));
            let path = format!(
                "/api/v1/namespaces/{NAMESPACE}/pods/{pod}/log?container={container}&sinceSeconds={seconds}&limitBytes={MOST_BYTES}&timestamps=true"
            );
            let (mut queries, mut bytes) = (0, 0);
            let mut times: Option<(f64, f64)> = None;
            let read = self
                .lines(&path, |line| {
                    bytes += line.len() as u64 + 1;
                    let Some((time, line)) = stamped(line) else { return };
                    let Some(query) = Query::parse(line) else { return };
                    queries += 1;
                    times = Some((times.map_or(time, |(first, _)| first), time));
                    sample.add(query);
                })
                .await;
            // Over midnight the clock begins anew.
            let span = times.map_or(0.0, |(first, last)| (last - first).rem_euclid(86_400.0));
            let read = read.map(|()| (queries, span)).map_err(|error| error.to_string());
            logs.push(Logged { pod, read, is_cut: bytes >= MOST_BYTES });
        }
        Ok((sample, logs))
    }

    /// Whose an address is.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn who(&self, address: IpAddr) -> Result<Who, Error> {
        let resource = self.kind("", "Pod").ok_or_else(|| Error::NoSuchResource("pods".to_owned()))?;
        let place = Place { resource, namespace: None, name: "" };
        let path = format!("{}?fieldSelector=status.podIP%3D{address}&limit={MOST_PODS}", place.path());
        let answer = self.ask(place.asked("list"), Request::get(path).body(Vec::new())).await?;
        Ok(who(answer["items"].as_array().map(Vec::as_slice).unwrap_or_default()))
    }
}

/// Whose an address is that these pods have.
fn who(pods: &[Value]) -> Who {
    let text = |pod: &Value, path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ended = |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let on_node = |pod: &&Value| pod["spec"]["hostNetwork"] == true;
    // An address that a pod had which has ended may have gone to another.
    let own = pods.iter().filter(|pod| !on_node(pod)).min_by_key(|pod| ended(pod));
    if let Some(pod) = own {
        let owner = controller(pod).map(|owner| {
            let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
            // A ReplicaSet of a Deployment has its name, and the hash of its template.
            let hash = text(pod, "/metadata/labels/pod-template-hash");
            match name.strip_suffix(&hash).and_then(|name| name.strip_suffix('-')) {
                Some(deployment) if kind == "ReplicaSet" && !hash.is_empty() => format!("Deployment {deployment}"),
                _ => format!("{kind} {name}"),
            }
        });
        return Who::Pod {
            namespace: text(pod, "/metadata/namespace"),
            name: text(pod, "/metadata/name"),
            owner,
            has_ended: ended(pod),
        };
    }
    match pods.first() {
        Some(pod) => Who::Node(text(pod, "/spec/nodeName"), pods.iter().filter(|pod| !ended(pod)).count()),
        None => Who::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, owner: Option<(&str, &str)>, phase: &str) -> Value {
        let owners: Vec<_> =
            owner.iter().map(|(kind, name)| json!({ "kind": kind, "name": name, "controller": true })).collect();
        json!({
            "metadata": {
                "namespace": "team", "name": name, "ownerReferences": owners,
                "labels": { "pod-template-hash": "5d9f" },
            },
            "spec": { "nodeName": "n1" },
            "status": { "phase": phase },
        })
    }

    /// A job that ran an hour ago was blamed for what the pod does that has its address now.
    #[test]
    fn an_address_is_that_of_the_pod_that_runs() {
        let old = pod("old", Some(("Job", "etl")), "Succeeded");
        let new = pod("web-5d9f-x", Some(("ReplicaSet", "web-5d9f")), "Running");
        let told = |pods: &[Value]| match who(pods) {
            Who::Pod { name, owner, has_ended, .. } => (name, owner.unwrap_or_default(), has_ended),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&[old.clone(), new]), ("web-5d9f-x".to_owned(), "Deployment web".to_owned(), false));
        assert_eq!(told(&[old]), ("old".to_owned(), "Job etl".to_owned(), true));
        assert_eq!(told(&[pod("alone", None, "Running")]).1, "");
        assert_eq!(told(&[pod("a", Some(("ReplicaSet", "by-hand")), "Running")]).1, "ReplicaSet by-hand");
    }

    #[test]
    fn what_pods_share_with_their_node_is_the_nodes() {
        let mut proxy = pod("proxy", None, "Running");
        proxy["spec"]["hostNetwork"] = true.into();
        assert_eq!(who(&[proxy.clone(), proxy]), Who::Node("n1".to_owned(), 2));
        assert_eq!(who(&[]), Who::Nobody);
    }
}
