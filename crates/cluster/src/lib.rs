//! Every byte to and from Kubernetes.
//!
//! ```text
//!   Cluster (client, what it serves) ─┬─ bundle: what Bedplate puts there ─▶ plan, apply, uninstall
//!                                     ├─ audit: pages of objects ─▶ the rules of `check`
//!                                     └─ impact: what hangs on an object
//! ```
//!
//! Objects are JSON: the rules read trees, not types, and what a newer server adds is kept.

pub mod audit;
pub mod bundle;
pub mod error;
pub mod impact;

pub mod prove;
pub mod resource;
pub mod unlock;
pub mod yaml;

use std::path::Path;

use http::{Method, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

pub use error::Error;
pub use resource::{Place, Resource};

/// The oldest server that Bedplate's guards work on: `ValidatingAdmissionPolicy` in `admissionregistration.k8s.io/v1`.
pub const OLDEST_MINOR: u32 = 30;

/// Objects a page: bounds what one answer holds.
const PAGE: u32 = 250;

/// A connection to an API server, and what that serves.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Its address.
    pub server: String,
    /// Its version, such as `v1.37.2`.
    pub version: String,
    /// Its minor version, such as 37.
    pub minor: u32,
    /// Who we are to it.
    pub user: String,
    resources: Vec<Resource>,
}

/// Says what a request is for, so that a refusal can name the rights that are missing.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    verb: &'static str,
    resource: &'a Resource,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

impl Cluster {
    /// Connects as `kubectl` would: `$KUBECONFIG`, `~/.kube/config`, or the pod's own account; `kubeconfig` names
    /// another file, `context` chooses one of the file's.
    ///
    /// # Errors
    /// No configuration, a server that cannot be reached or is too old, a user that it does not know.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, Error> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
        let unusable = |error: &dyn std::fmt::Display| Error::Config(error.to_string());
        let config = match (kubeconfig, context) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| unusable(&error))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| unusable(&error))?,
            (None, None) => Config::infer().await.map_err(|error| unusable(&error))?,
        };
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| Error::Config(error.to_string()))?;
        let version = client.apiserver_version().await.map_err(|error| Error::of_connection(&server, error))?;
        let digits = version.minor.trim_end_matches(|c: char| !c.is_ascii_digit());
        let mut cluster = Self {
            client,
            server,
            version: version.git_version.clone(),
            minor: digits.parse().unwrap_or(0),
            user: String::new(),
            resources: Vec::new(),
        };
        cluster.user = cluster.who_am_i().await?;
        cluster.discover().await?;
        Ok(cluster)
    }

    /// The client beneath: for watches, leases and secrets of the operator.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Asks the server anew what it serves: a CRD has come.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn discover(&mut self) -> Result<(), Error> {
        const FORM: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let mut resources = Vec::new();
        for path in ["/api", "/apis"] {
            let request = Request::get(path).header(header::ACCEPT, FORM).body(Vec::new());
            let answer: Value = self.send(request).await?;
            resource::of_discovery(&answer, &mut resources);
        }
        self.resources = resources;
        Ok(())
    }

    async fn who_am_i(&self) -> Result<String, Error> {
        let body = serde_json::json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
        let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes());
        let answer: Value = self.send(request).await?;
        Ok(answer.pointer("/status/userInfo/username").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// The served resource of a group and kind, in its preferred version.
    #[must_use]
    pub fn kind(&self, group: &str, kind: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.group == group && resource.kind == kind)
    }

    /// The served resource that a person means: `crd`, `pods`, `tfjobs.kubeflow.org`, `Deployment`.
    ///
    /// # Errors
    /// Where the server has none of that name.
    pub fn named(&self, name: &str) -> Result<&Resource, Error> {
        self.resources
            .iter()
            .find(|resource| resource.is_called(name))
            .ok_or_else(|| Error::NoSuchResource(name.to_owned()))
    }

    /// Every resource that is served, one version of each.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Where an object stands.
    ///
    /// # Errors
    /// Where the server does not serve its kind.
    pub fn place<'a>(&'a self, object: &'a Value) -> Result<Place<'a>, Error> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (api_version, kind) = (text("/apiVersion"), text("/kind"));
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let resource =
            self.kind(group, kind).ok_or_else(|| Error::NoSuchResource(format!("{kind} of {api_version}")))?;
        let namespace = resource.namespaced.then(|| match text("/metadata/namespace") {
            "" => "default",
            namespace => namespace,
        });
        Ok(Place { resource, namespace, name: text("/metadata/name") })
    }

    /// An object; nothing where there is none.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn get(&self, place: Place<'_>) -> Result<Option<Value>, Error> {
        let asked = place.asked("get");
        match self.ask(asked, Request::get(place.path()).body(Vec::new())).await {
            Ok(object) => Ok(Some(object)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object or brings its fields to what is given, as Bedplate's (server-side apply). Gives what is there then.
    ///
    /// # Errors
    /// A conflict with another field manager, a refusal, no rights.
    pub async fn apply(&self, object: &Value, options: Write) -> Result<Value, Error> {
        let place = self.place(object)?;
        let path = format!(
            "{}?fieldManager={}&fieldValidation=Strict{}{}",
            place.path(),
            bedplate_model::names::FIELD_MANAGER,
            if options.dry_run { "&dryRun=All" } else { "" },
            if options.force { "&force=true" } else { "" },
        );
        let request = Request::patch(path)
            .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
            .body(object.to_string().into_bytes());
        self.ask(place.asked("patch"), request).await
    }

    /// Merges a patch into an object or its `status`.
    ///
    /// # Errors
    /// A refusal, no rights, no such object.
    pub async fn merge(
        &self,
        place: Place<'_>,
        subresource: &str,
        patch: &Value,
        dry_run: bool,
    ) -> Result<Value, Error> {
        let path = format!(
            "{}{}{subresource}?fieldManager={}{}",
            place.path(),
            if subresource.is_empty() { "" } else { "/" },
            bedplate_model::names::FIELD_MANAGER,
            if dry_run { "&dryRun=All" } else { "" },
        );
        let request = Request::patch(path)
            .header(header::CONTENT_TYPE, "application/merge-patch+json")
            .body(patch.to_string().into_bytes());
        self.ask(place.asked("patch"), request).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// A refusal, no rights.
    pub async fn create(&self, object: &Value, dry_run: bool) -> Result<Value, Error> {
        let place = self.place(object)?;
        let collection = Place { name: "", ..place };
        let path = format!("{}{}", collection.path(), if dry_run { "?dryRun=All" } else { "" });
        let request =
            Request::post(path).header(header::CONTENT_TYPE, "application/json").body(object.to_string().into_bytes());
        self.ask(place.asked("create"), request).await
    }

    /// Deletes an object, or with an empty name all of the place's.
    ///
    /// # Errors
    /// A refusal, no rights, no such object.
    pub async fn delete(&self, place: Place<'_>, dry_run: bool) -> Result<(), Error> {
        let path = format!("{}{}", place.path(), if dry_run { "?dryRun=All" } else { "" });
        let verb = if place.name.is_empty() { "deletecollection" } else { "delete" };
        self.ask(place.asked(verb), Request::delete(path).body(Vec::new())).await.map(drop)
    }

    /// Gives every object of a resource to `each`, a page at a time: no more than a page is ever held. With `metadata`
    /// only that of each is sent.
    ///
    /// # Errors
    /// No rights, no answer. A list that grew too old is begun again by the server's own token.
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        metadata: bool,
        mut each: impl FnMut(Value),
    ) -> Result<usize, Error> {
        const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let place = Place { resource, namespace, name: "" };
        let (mut token, mut seen) = (String::new(), 0);
        loop {
            let mut path = format!("{}?limit={PAGE}", place.path());
            if !token.is_empty() {
                path.push_str("&continue=");
                path.push_str(&token);
            }
            let mut request = Request::get(path);
            if metadata {
                request = request.header(header::ACCEPT, METADATA);
            }
            let mut page = match self.ask(place.asked("list"), request.body(Vec::new())).await {
                Ok(page) => page,
                // The token outlived what etcd keeps; the answer has one that goes on from there.
                Err(Error::Expired(next)) if !next.is_empty() && next != token => {
                    token = next;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(items) = page.get_mut("items").and_then(Value::as_array_mut) {
                for mut item in items.drain(..) {
                    // A list's items leave out what the list says.
                    if let Some(object) = item.as_object_mut() {
                        object.insert("apiVersion".to_owned(), resource.api_version().into());
                        object.insert("kind".to_owned(), resource.kind.clone().into());
                    }
                    seen += 1;
                    each(item);
                }
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => return Ok(seen),
            }
        }
    }

    async fn ask(&self, asked: Asked<'_>, request: http::Result<Request<Vec<u8>>>) -> Result<Value, Error> {
        let request = request.map_err(|error| Error::Request(error.to_string()))?;
        self.client.request(request).await.map_err(|error| Error::of_request(&self.server, &self.user, asked, error))
    }

    async fn send(&self, request: http::Result<Request<Vec<u8>>>) -> Result<Value, Error> {
        let request = request.map_err(|error| Error::Request(error.to_string()))?;
        debug_assert!(request.method() == Method::GET || request.method() == Method::POST);
        self.client.request(request).await.map_err(|error| Error::of_connection(&self.server, error))
    }
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Write {
    /// Change nothing; the answer is what would be.
    pub dry_run: bool,
    /// Take fields from another manager.
    pub force: bool,
}
