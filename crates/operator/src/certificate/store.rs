//! The thin edge of the rotation: a Secret and the webhook configurations.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::issue::{Rcgen, pair};
use super::resolver::Resolver;
use super::rotation::{Action, Held, Lifetimes, change, next, same_bundle};
use super::{Error, Facts, Pair, Time};

/// Annotation of the Secret: since when every configuration has known all its authorities.
const KNOWN_SINCE: &str = "bedplate.dev/known-since";

/// The names of a certificate and its key in the Secret. `tls` is as `kubernetes.io/tls` has it.
const AUTHORITY: (&str, &str) = ("ca.crt", "ca.key");
const NEXT: (&str, &str) = ("next-ca.crt", "next-ca.key");
const OLD: (&str, &str) = ("old-ca.crt", "old-ca.key");
const SERVING: (&str, &str) = ("tls.crt", "tls.key");

/// Certificates that the replicas keep together in a Secret.
pub struct Store {
    secrets: Api<Secret>,
    client: Client,
    name: String,
    /// The name of both webhook configurations.
    configuration: String,
    names: Vec<String>,
    lives: Lifetimes,
    resolver: Arc<Resolver>,
    shown: Option<Pair>,
}

/// How it stands after a round.
#[derive(Clone, Debug)]
pub struct Round {
    /// The certificate that is shown.
    pub serving: Facts,
    /// How many webhook configurations know its authority; none where there are none.
    pub configurations: usize,
}

/// A webhook configuration, read as JSON.
struct Configuration {
    mutating: bool,
    version: String,
    bundles: Vec<String>,
}

impl Store {
    /// The Secret `name` in `namespace`, for webhook configurations called `configuration` and a server that is
    /// reached by `names`.
    #[must_use]
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        configuration: &str,
        names: Vec<String>,
        lives: Lifetimes,
        resolver: Arc<Resolver>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            client,
            name: name.to_owned(),
            configuration: configuration.to_owned(),
            names,
            lives,
            resolver,
            shown: None,
        }
    }

    /// Reads, shows what is new, and does what is to be done, step by step. Any number of replicas may do this at the
    /// same time: each write holds only if nobody wrote since.
    ///
    /// # Errors
    /// No rights, no answer, a name that no certificate can have. What is shown stays.
    pub async fn round(&mut self, now: impl Fn() -> Time) -> Result<Round, Error> {
        // Few steps follow each other at once; a conflict is somebody else's step.
        for _ in 0..16 {
            let secret = self.secrets.get_opt(&self.name).await?;
            let held = secret.as_ref().map(held).unwrap_or_default();
            let configurations = self.configurations().await?;
            let bundle = held.bundle();
            let known = configurations.iter().all(|c| c.bundles.iter().all(|known| same_bundle(known, &bundle)));
            let action = next(&held, known, &self.names, self.lives, now());
            let step = match action {
                Action::Wait(_) => {
                    let serving = self.show(&held)?;
                    return Ok(Round { serving, configurations: configurations.len() });
                }
                Action::Publish => self.publish(&configurations, &bundle).await,
                action => {
                    let changed = change(&held, action, &self.names, self.lives, now(), &mut Rcgen)?;
                    self.write(secret, &changed).await
                }
            };
            match step {
                Ok(()) => tracing::info!(?action, "certificate"),
                Err(error) if lost(&error) => tracing::debug!(?action, "another replica was first"),
                Err(error) => {
                    // Shown all the same, where it can be: a configuration that may not be written is not its fault.
                    let _ = self.show(&held);
                    return Err(error.into());
                }
            }
            if action == Action::Publish || action == Action::Confirm {
                self.show(&held)?;
            }
        }
        Err(Error::Unreadable { what: self.name.clone(), why: "other replicas keep changing it".to_owned() })
    }

    fn show(&mut self, held: &Held) -> Result<Facts, Error> {
        let missing = || Error::Unreadable { what: self.name.clone(), why: "has no serving certificate".to_owned() };
        let serving = held.serving.as_ref().ok_or_else(missing)?;
        if self.shown.as_ref() != Some(serving) {
            self.resolver.show(serving)?;
            tracing::info!(issuer = serving.facts.issuer, until = serving.facts.until, "a new certificate is shown");
            self.shown = Some(serving.clone());
        }
        Ok(serving.facts.clone())
    }

    async fn write(&self, secret: Option<Secret>, held: &Held) -> Result<(), kube::Error> {
        let fresh = secret.is_none();
        let mut secret = secret.unwrap_or_default();
        secret.metadata.name = Some(self.name.clone());
        // The type of a Secret cannot change, and that of ours needs no more than tls.crt and tls.key.
        secret.type_ = secret.type_.or_else(|| Some("kubernetes.io/tls".to_owned()));
        secret
            .labels_mut()
            .insert("app.kubernetes.io/managed-by".to_owned(), bedplate_model::names::FIELD_MANAGER.to_owned());
        let mut data = BTreeMap::new();
        for (pair, (certificate, key)) in
            [(&held.authority, AUTHORITY), (&held.next, NEXT), (&held.old, OLD), (&held.serving, SERVING)]
        {
            let Some(pair) = pair else { continue };
            data.insert(certificate.to_owned(), ByteString(pair.certificate.clone().into_bytes()));
            if !pair.key.is_empty() {
                data.insert(key.to_owned(), ByteString(pair.key.clone().into_bytes()));
            }
        }
        secret.data = Some(data);
        match held.since {
            Some(since) => secret.annotations_mut().insert(KNOWN_SINCE.to_owned(), since.to_string()),
            None => secret.annotations_mut().remove(KNOWN_SINCE),
        };
        let parameters = PostParams::default();
        if fresh {
            self.secrets.create(&parameters, &secret).await.map(drop)
        } else {
            // With the resourceVersion that was read: a conflict where somebody wrote since.
            self.secrets.replace(&self.name, &parameters, &secret).await.map(drop)
        }
    }

    async fn configurations(&self) -> Result<Vec<Configuration>, kube::Error> {
        let mut found = Vec::new();
        let name = &self.configuration;
        if let Some(configuration) = Api::<MutatingWebhookConfiguration>::all(self.client.clone()).get_opt(name).await?
        {
            found.push(configuration_of(true, &configuration));
        }
        if let Some(configuration) =
            Api::<ValidatingWebhookConfiguration>::all(self.client.clone()).get_opt(name).await?
        {
            found.push(configuration_of(false, &configuration));
        }
        Ok(found)
    }

    async fn publish(&self, configurations: &[Configuration], bundle: &str) -> Result<(), kube::Error> {
        for configuration in configurations {
            let patch = publication(&configuration.version, &configuration.bundles, bundle);
            if patch.is_empty() {
                continue;
            }
            let patch: json_patch::Patch =
                serde_json::from_value(Value::Array(patch)).map_err(kube::Error::SerdeError)?;
            let (parameters, patch) = (PatchParams::default(), Patch::Json::<()>(patch));
            if configuration.mutating {
                let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
                api.patch(&self.configuration, &parameters, &patch).await?;
            } else {
                let api = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
                api.patch(&self.configuration, &parameters, &patch).await?;
            }
        }
        Ok(())
    }
}

/// JSON Patch operations that bring a bundle into a configuration of this version; none where it is there.
fn publication(version: &str, bundles: &[String], bundle: &str) -> Vec<Value> {
    let wanted = serde_json::to_value(ByteString(bundle.as_bytes().to_vec())).unwrap_or_default();
    let changes: Vec<_> = bundles
        .iter()
        .enumerate()
        .filter(|(_, known)| !same_bundle(known, bundle))
        .map(|(index, _)| json!({ "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": wanted }))
        .collect();
    if changes.is_empty() {
        return changes;
    }
    // Webhooks go by their place in the list: it must not have changed.
    let test = json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version });
    std::iter::once(test).chain(changes).collect()
}

fn configuration_of(mutating: bool, configuration: &impl serde::Serialize) -> Configuration {
    let json = serde_json::to_value(configuration).unwrap_or_default();
    let webhooks = json.get("webhooks").and_then(Value::as_array).cloned().unwrap_or_default();
    let bundles = webhooks.iter().map(|webhook| {
        let bundle = webhook.pointer("/clientConfig/caBundle").cloned().unwrap_or_default();
        let bytes = serde_json::from_value::<ByteString>(bundle).map(|bytes| bytes.0).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let version = json.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    Configuration { mutating, version, bundles: bundles.collect() }
}

/// What a Secret holds. What cannot be read is not there: the rotation makes it anew.
fn held(secret: &Secret) -> Held {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default()
    };
    let read = |(certificate, key): (&str, &str)| {
        let text = (text(certificate), text(key));
        if text.0.is_empty() {
            return None;
        }
        pair(text.0, text.1, certificate).inspect_err(|error| tracing::warn!(%error, "made anew")).ok()
    };
    Held {
        authority: read(AUTHORITY),
        next: read(NEXT),
        old: read(OLD),
        serving: read(SERVING).filter(|serving| {
            // Shown once as a trial: a key that does not belong to it is found out here, not by the API server.
            Resolver::default().show(serving).inspect_err(|error| tracing::warn!(%error, "made anew")).is_ok()
        }),
        since: secret.annotations().get(KNOWN_SINCE).and_then(|since| since.parse().ok()),
    }
}

/// Whether another replica wrote first: a conflict, a Secret that is there by now, a version that is not the one
/// tested (422, "the server rejected our request due to an error in our request").
fn lost(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 422)
}

#[cfg(test)]
mod tests {
    use super::super::rotation::Mint;
    use super::*;

    #[test]
    fn a_secret_that_somebody_broke_is_made_anew_and_not_shown() {
        let authority = Rcgen.authority(1_800_000_000, 1000).unwrap();
        let serving = Rcgen.serving(&authority, &["a.svc".to_owned()], 1_800_000_000, 1_800_000_500).unwrap();
        let other = Rcgen.serving(&authority, &["a.svc".to_owned()], 1_800_000_000, 1_800_000_500).unwrap();
        let secret = |certificate: &str, key: &str| {
            let data = [
                ("ca.crt", authority.certificate.as_str()),
                ("ca.key", &authority.key),
                ("tls.crt", certificate),
                ("tls.key", key),
            ];
            Secret {
                data: Some(data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec()))).into()),
                ..Secret::default()
            }
        };
        let good = held(&secret(&serving.certificate, &serving.key));
        assert_eq!((good.authority.as_ref(), good.serving.as_ref()), (Some(&authority), Some(&serving)));
        for (certificate, key) in
            [(serving.certificate.as_str(), other.key.as_str()), ("junk", &serving.key), (&serving.certificate, "")]
        {
            assert_eq!(held(&secret(certificate, key)).serving, None);
        }
    }

    #[test]
    fn a_bundle_is_written_only_where_it_is_not_and_only_to_the_version_that_was_read() {
        let known = ["one".to_owned(), "two".to_owned()];
        let patch = publication("7", &known, "two");
        assert_eq!(patch.len(), 2);
        assert_eq!(patch[0], json!({ "op": "test", "path": "/metadata/resourceVersion", "value": "7" }));
        assert_eq!(patch[1]["path"], "/webhooks/0/clientConfig/caBundle");
        assert_eq!(publication("7", &["x".to_owned()], "x"), [] as [Value; 0]);
    }
}
