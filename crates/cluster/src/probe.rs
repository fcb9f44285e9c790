//! Waiting until the API server can hold a policy against a kind that has just come.
//!
//! It looks every half minute for new kinds to hold policies against (`discoveryRESTMapper.Reset`, Kubernetes'
//! `pkg/kubeapiserver/admission/config.go`). Until then it cannot configure the guards, and refuses whatever they look
//! at: every pod of the cluster. So before the first guard is bound, one that looks at nothing is, and is asked.

use bedplate_model::names;
use serde_json::{Value, json};

use crate::removal::MOMENT;
use crate::{Cluster, Error, Write, journal};

const NAME: &str = "probe.bedplate.dev";
/// Twice as long as it should take.
const MOMENTS: u32 = 240;

impl Cluster {
    /// Waits until policies can be held against the StabilityProfile.
    ///
    /// # Errors
    /// Not within a minute; no rights.
    pub(crate) async fn policies_are_ready(&self) -> Result<(), Error> {
        let [policy, binding, asked] = objects();
        for object in [&policy, &binding] {
            self.apply(object, Write { dry_run: false, force: true }).await?;
        }
        let mut ready = false;
        for _ in 0..MOMENTS {
            // Accepted: the policy is not known yet.
            if let Err(error) = self.create(&asked, true).await {
                match error {
                    Error::Refused(why) if why.contains("failed to configure policy") => {}
                    Error::Refused(why) if why.contains(NAME) => {
                        ready = true;
                        break;
                    }
                    error => return Err(error),
                }
            }
            tokio::time::sleep(MOMENT).await;
        }
        for object in [&binding, &policy] {
            self.remove(object).await?;
        }
        if ready {
            return Ok(());
        }
        let why = "the API server cannot hold policies against it yet, and no guard was bound; try again";
        Err(Error::Server { what: format!("stabilityprofiles.{}", names::GROUP), why: why.to_owned() })
    }
}

/// Whether it is a policy or binding of a probe.
pub(crate) fn is_of_it(object: &Value) -> bool {
    object["metadata"]["name"] == NAME
}

/// A policy that refuses one ConfigMap, its binding, and that ConfigMap.
fn objects() -> [Value; 3] {
    let metadata = json!({ "name": NAME, "labels": { "app.kubernetes.io/managed-by": names::FIELD_MANAGER } });
    let label = json!({ "bedplate.dev/probe": "true" });
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
            "spec": {
                "paramKind": { "apiVersion": names::API_VERSION, "kind": "StabilityProfile" },
                "matchConstraints": {
                    "objectSelector": { "matchLabels": label },
                    "resourceRules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["configmaps"] }],
                },
                "validations": [{ "expression": "false", "message": "the policies are asked" }],
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
            "spec": { "policyName": NAME, "validationActions": ["Deny"],
                "paramRef": { "name": names::PROFILE, "parameterNotFoundAction": "Deny" } },
        }),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "bedplate-probe", "namespace": journal::NAMESPACE, "labels": label },
        }),
    ]
}
