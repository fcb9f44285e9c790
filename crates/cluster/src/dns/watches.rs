//! Whether CoreDNS may watch pods: with `pods verified` one that may not is never ready again.

use serde_json::{Value, json};

use super::NAMESPACE;
use crate::Cluster;

impl Cluster {
    /// Whether the account of a Deployment in kube-system may list and watch all pods; nothing where the API server is not to
    /// be asked about others (`SubjectAccessReview`), or does not know itself.
    pub async fn may_watch_pods(&self, deployment: &Value) -> Option<bool> {
        let account = deployment.pointer("/spec/template/spec/serviceAccountName").and_then(Value::as_str);
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        for verb in ["list", "watch"] {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": format!("system:serviceaccount:{NAMESPACE}:{account}"),
                    "groups": [
                        "system:serviceaccounts", format!("system:serviceaccounts:{NAMESPACE}"), "system:authenticated",
                    ],
                    "resourceAttributes": { "verb": verb, "resource": "pods" },
                },
            });
            let answer = self.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await.ok()?;
            if answer["status"]["allowed"] != true {
                // An authorizer that failed has said nothing.
                let failed = answer["status"]["evaluationError"].as_str().is_some_and(|error| !error.is_empty());
                return (!failed).then_some(false);
            }
        }
        Some(true)
    }
}
