//! Flow control (APF) on a live cluster: its objects, and in which lane the server itself puts a request.

use std::collections::BTreeMap;

use bedplate_apf::matching::{Request, Target};
use bedplate_apf::{FlowSchema, PriorityLevel};
use http::header;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Cluster, Error, Place, Resource};

pub(crate) use bedplate_guarantees::fairness::enforce::GROUP;

/// The kinds of flow control.
pub(crate) const KINDS: &[(&str, &str)] = &[(GROUP, "FlowSchema"), (GROUP, "PriorityLevelConfiguration")];

/// The objects of flow control.
#[derive(Clone, Debug, Default)]
pub struct FlowControl {
    /// FlowSchemas.
    pub schemas: Vec<FlowSchema>,
    /// PriorityLevelConfigurations.
    pub levels: Vec<PriorityLevel>,
    /// Their names by `metadata.uid`: the server's answers name them so.
    names: BTreeMap<String, String>,
}

/// In which lane the server put a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The FlowSchema and the level.
    Lane(String, String),
    /// It was not tried, or the server did not say: why.
    Unknown(String),
}

/// A name that nobody gives.
const NOBODY: &str = "bedplate-no-such-object";

impl Cluster {
    /// The objects of flow control.
    ///
    /// # Errors
    /// No rights; a server that has none.
    pub async fn flow_control(&self) -> Result<FlowControl, Error> {
        let mut found = FlowControl::default();
        for (group, kind) in KINDS {
            let resource = self.kind(group, kind).ok_or_else(|| Error::NoSuchResource(format!("{kind} of {group}")))?;
            self.list(resource, None, false, |object| {
                let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
                found.names.insert(text("/metadata/uid"), text("/metadata/name"));
                if *kind == "FlowSchema" {
                    found.schemas.extend(typed(object));
                } else {
                    found.levels.extend(typed(object));
                }
            })
            .await?;
        }
        Ok(found)
    }

    /// Whether flow control is switched on: then every answer names its lane.
    ///
    /// # Errors
    /// No answer.
    pub async fn has_flow_control(&self, flow_control: &FlowControl) -> Result<bool, Error> {
        let version = Request {
            user: String::new(),
            groups: Vec::new(),
            verb: "get".to_owned(),
            target: Target::Path("/version".to_owned()),
        };
        Ok(matches!(self.seen_lane(flow_control, &version, None, false).await?, Seen::Lane(..)))
    }

    /// Who we are to the server, and our groups.
    ///
    /// # Errors
    /// No answer; a server before 1.28, which does not tell.
    pub async fn identity(&self) -> Result<(String, Vec<String>), Error> {
        let body = serde_json::json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let answer = self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &body).await?;
        let info = answer.pointer("/status/userInfo").cloned().unwrap_or_default();
        let groups = info["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        Ok((info["username"].as_str().unwrap_or_default().to_owned(), groups.collect()))
    }

    /// Sends a request of the same lane that changes nothing, as the request's user where `as_user` says so, and gives
    /// where the server put it (`X-Kubernetes-PF-*`, `k8s.io/api/flowcontrol/v1/types.go`). A request that is refused has
    /// ridden in its lane all the same: flow control comes before authorization.
    ///
    /// # Errors
    /// No answer.
    pub async fn seen_lane(
        &self,
        flow_control: &FlowControl,
        request: &Request,
        resource: Option<&Resource>,
        as_user: bool,
    ) -> Result<Seen, Error> {
        let Some((method, path, body)) = harmless(request, resource) else {
            return Ok(Seen::Unknown(format!(
                "no request to {} can be made that surely changes nothing",
                request.verb
            )));
        };
        let mut asked = http::Request::builder().method(method).uri(path);
        if method == "PATCH" {
            asked = asked.header(header::CONTENT_TYPE, "application/merge-patch+json");
        } else if !body.is_empty() {
            asked = asked.header(header::CONTENT_TYPE, "application/json");
        }
        if as_user {
            asked = asked.header("Impersonate-User", &request.user);
            for group in &request.groups {
                asked = asked.header("Impersonate-Group", group);
            }
        }
        let asked = asked.body(body.as_bytes().to_vec()).map_err(|error| Error::Request(error.to_string()))?;
        let answer = self.send(asked).await.map_err(|failure| Error::of_connection(&self.server, failure))?;
        let name = |kind: &str| {
            let uid = answer.headers().get(format!("x-kubernetes-pf-{kind}-uid"))?.to_str().ok()?;
            flow_control.names.get(uid).cloned()
        };
        Ok(match (name("flowschema"), name("prioritylevel")) {
            (Some(schema), Some(level)) => Seen::Lane(schema, level),
            _ if answer.status() == http::StatusCode::FORBIDDEN && as_user => {
                Seen::Unknown("you may not impersonate this user and its groups".to_owned())
            }
            _ => Seen::Unknown("the server does not say".to_owned()),
        })
    }
}

fn typed<T: DeserializeOwned>(object: Value) -> Option<T> {
    serde_json::from_value(object).ok()
}

/// Method, path and body of a request of the same lane that changes nothing: it names what is not there, says nothing of
/// what is to be made, or is a dry run, and mostly all three.
fn harmless(request: &Request, resource: Option<&Resource>) -> Option<(&'static str, String, &'static str)> {
    let (namespace, resource) = match (&request.target, resource) {
        (Target::Path(path), _) => {
            let read = matches!(request.verb.as_str(), "get" | "head");
            return read.then(|| ("GET", path.clone(), ""));
        }
        // Some subresources are streams, others act.
        (Target::Resource(_, name, _), _) if name.contains('/') => return None,
        (Target::Resource(.., namespace), resource) => (namespace, resource?),
    };
    // A Namespace's own name is its namespace: only to read it is surely no change.
    if resource.is_namespaces() && !namespace.is_empty() {
        let one = Place { resource, namespace: None, name: namespace }.path();
        return (request.verb == "get").then_some(("GET", one, ""));
    }
    let namespace = (!namespace.is_empty()).then_some(namespace.as_str());
    let all = Place { resource, namespace, name: "" }.path();
    let one = Place { resource, namespace, name: NOBODY }.path();
    Some(match request.verb.as_str() {
        "get" => ("GET", one, ""),
        "list" => ("GET", format!("{all}?limit=1"), ""),
        "watch" => ("GET", format!("{all}?watch=true&timeoutSeconds=1"), ""),
        "create" => ("POST", format!("{all}?dryRun=All"), "{}"),
        "update" => ("PUT", format!("{one}?dryRun=All"), "{}"),
        "patch" => ("PATCH", format!("{one}?dryRun=All"), "{}"),
        "delete" => ("DELETE", format!("{one}?dryRun=All"), ""),
        _ => return None,
    })
}
