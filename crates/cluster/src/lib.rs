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
pub mod clock;
mod config;
pub mod dns;
mod drill;
pub mod error;
pub mod fairness;
pub mod flood;
pub mod impact;
mod journal;
pub mod lanes;
mod live;
mod ownership;
mod page;
pub mod profile;
pub mod prove;
pub mod rbac;
mod removal;
pub mod reports;
pub mod resource;
pub mod rights;
pub mod standing;
pub mod trail;
pub mod training;
mod transport;
pub mod unlock;
mod uses;
pub mod yaml;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use http::{Request, header};
use kube::Client;
use serde_json::Value;

pub use error::Error;
pub use resource::{Place, Resource};

use bundle::essence;
use ownership::Conflict;
use page::Pages;
use resource::Served;

/// The oldest server that Bedplate's guards work on: `ValidatingAdmissionPolicy` in `admissionregistration.k8s.io/v1`.
pub const OLDEST_MINOR: u32 = 30;

/// How often an object may be written to by others, who change nothing that we set, while we look at it.
const RACES: usize = 5;

/// How long a server may be silent where nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

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
    /// Who we are to it; empty where it does not tell (before 1.28).
    pub user: String,
    served: Served,
    patience: Duration,
}

/// Says what a request is for, so that a refusal can name the rights that are missing.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    verb: &'static str,
    resource: &'a Resource,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    /// Such as `status`; empty for the object itself.
    subresource: &'a str,
}

impl Cluster {
    /// Connects as `kubectl` would: `$KUBECONFIG`, `~/.kube/config`, or the pod's own account; `kubeconfig` names
    /// another file, `context` chooses one of the file's.
    ///
    /// # Errors
    /// No configuration, a server that cannot be reached, a user that it does not know.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, Error> {
        Self::connect_within(kubeconfig, context, PATIENCE).await
    }

    /// The same with another patience: how long the server may be silent, in every request.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub async fn connect_within(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let (client, server) = config::client(kubeconfig, context).await?;
        let (version, user) = (String::new(), String::new());
        let mut cluster = Self { client, server, version, minor: 0, user, served: Served::default(), patience };
        let version = cluster.read("/version", "application/json").await?;
        let text = |key: &str| version.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        cluster.version = text("gitVersion");
        // Some hosts write `28+`.
        cluster.minor = text("minor").trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
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
        const FORM: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
            application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        let mut served = Served::default();
        for path in ["/api", "/apis"] {
            let answer = self.read(path, FORM).await?;
            if answer.get("kind").and_then(Value::as_str) == Some("APIGroupDiscoveryList") {
                served.add_groups(&answer);
                continue;
            }
            // A server before 1.26: one question a group and version.
            let versions =
                if path == "/api" { vec![(String::new(), "v1".to_owned())] } else { resource::groups(&answer) };
            for (group, version) in versions {
                let path =
                    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
                match self.read(&path, "application/json").await {
                    Ok(answer) => served.add_version(&group, &version, &answer),
                    Err(Error::Server { .. } | Error::NotKubernetes { .. }) => {
                        served.unanswered.push(format!("{group}/{version}"));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.served = served;
        Ok(())
    }

    async fn who_am_i(&self) -> Result<String, Error> {
        match self.identity().await {
            Ok((user, _)) => Ok(user),
            // Older servers have no such question, and some hosts switch it off.
            Err(Error::Server { .. } | Error::NotKubernetes { .. }) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// The served resource of a group and kind, in its preferred version.
    #[must_use]
    pub fn kind(&self, group: &str, kind: &str) -> Option<&Resource> {
        self.resources().iter().find(|resource| resource.group == group && resource.kind == kind)
    }

    /// The served resource that a person means: `crd`, `pods`, `tfjobs.kubeflow.org`, `Deployment`.
    ///
    /// # Errors
    /// Where the server has none of that name.
    pub fn named(&self, name: &str) -> Result<&Resource, Error> {
        let found = self.resources().iter().find(|resource| resource.is_called(name));
        found.ok_or_else(|| Error::NoSuchResource(name.to_owned()))
    }

    /// Every resource that is served, one version of each.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.served.resources
    }

    /// Groups and versions that another server behind this one should serve, and does not: nothing is known of their
    /// objects.
    #[must_use]
    pub fn unanswered(&self) -> &[String] {
        &self.served.unanswered
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
        match self.apply_once(object, options).await {
            // What Bedplate wrote by other requests is Bedplate's too.
            Err(Error::Conflict(conflicts)) if conflicts.iter().all(Conflict::is_ours) => {
                self.apply_once(object, Write { force: true, ..options }).await
            }
            other => other,
        }
    }

    async fn apply_once(&self, object: &Value, options: Write) -> Result<Value, Error> {
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

    /// Makes an object that is there exactly what is given, as Bedplate's: what others have added to its fields goes.
    /// Their labels and annotations stay.
    ///
    /// # Errors
    /// A refusal, no rights, no such object, one that changes meanwhile.
    pub async fn replace(&self, object: &Value, live: &Value, dry_run: bool) -> Result<Value, Error> {
        let mut live = Cow::Borrowed(live);
        for _ in 0..RACES {
            match self.replace_once(object, &live, dry_run).await {
                Err(Error::Race { what, why }) => match self.get(self.place(object)?).await? {
                    // Only its status is another: whoever checks the types of policies writes that.
                    Some(now) if essence(now.clone()) == essence(live.clone().into_owned()) => live = Cow::Owned(now),
                    _ => return Err(Error::Race { what, why }),
                },
                other => return other,
            }
        }
        self.replace_once(object, &live, dry_run).await
    }

    async fn replace_once(&self, object: &Value, live: &Value, dry_run: bool) -> Result<Value, Error> {
        let place = self.place(object)?;
        let mut wanted = object.clone();
        wanted["metadata"] = live["metadata"].clone();
        if let Some(metadata) = wanted["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            for part in ["labels", "annotations"] {
                for (key, value) in object["metadata"][part].as_object().into_iter().flatten() {
                    metadata.entry(part).or_insert_with(|| Value::Object(serde_json::Map::new()))[key] = value.clone();
                }
            }
        }
        let path = format!(
            "{}?fieldManager={}{}",
            place.path(),
            bedplate_model::names::FIELD_MANAGER,
            if dry_run { "&dryRun=All" } else { "" },
        );
        let request =
            Request::put(path).header(header::CONTENT_TYPE, "application/json").body(wanted.to_string().into_bytes());
        self.ask(place.asked("update"), request).await
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
        self.ask(Asked { subresource, ..place.asked("patch") }, request).await
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

    /// Deletes an object, or with an empty name all of the place's; what it owns goes too, as with kubectl (without a word
    /// of that, the API server would leave the pods of a Job behind).
    ///
    /// # Errors
    /// A refusal, no rights, no such object.
    pub async fn delete(&self, place: Place<'_>, dry_run: bool) -> Result<(), Error> {
        let path = format!("{}?propagationPolicy=Background{}", place.path(), if dry_run { "&dryRun=All" } else { "" });
        let verb = if place.name.is_empty() { "deletecollection" } else { "delete" };
        self.ask(place.asked(verb), Request::delete(path).body(Vec::new())).await.map(drop)
    }

    /// Gives every object of a resource to `each`, one at a time: no more than one is ever held. With `metadata` only
    /// that of each is sent.
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
        let mut pages = Pages::new(Place { resource, namespace, name: "" }, metadata);
        let mut seen = 0;
        while pages
            .next(self, &mut |object| {
                seen += 1;
                each(object);
            })
            .await?
        {}
        Ok(seen)
    }
}

/// Tells things apart in a few characters. Two versions of Bedplate may not agree on it: what rests on it is written anew
/// then.
fn digest(of: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Write {
    /// Change nothing; the answer is what would be.
    pub dry_run: bool,
    /// Take fields from another manager.
    pub force: bool,
}
