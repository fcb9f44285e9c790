use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use crate::dns::hosts::{self, Harm};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds endpoints in environments and arguments whose host name ends with a dot, where the client uses the name for
    /// more than its lookup.
    ///
    /// ## Why
    /// A dot at the end makes a name absolute: two queries and no search list. So it is the advice that everybody gives
    /// against `ndots: 5`, and in most endpoints it breaks the client, some only when the library is next updated:
    ///
    /// - boto3, the AWS CLI and what is built on them sign the host with the dot, and urllib3 below them sends `Host` without
    ///   it: `SignatureDoesNotMatch`, for AWS and for every other S3 store.
    /// - A certificate has no dot. requests, aiohttp, curl, Go and rustls take it off before they compare; OpenSSL and Python's
    ///   `ssl` do not, and so neither do urllib, httpx, kafka-python, librdkafka before 2.13, or requests behind a proxy.
    /// - In the `Host` header it is another name: Envoy, and with it most gateways, answers 404.
    ///
    /// Where a protocol carries no host name (`redis://`, `amqp://`, `nats://`, `mysql://`, `postgresql://` without
    /// `sslmode=verify-full`) the dot works, and nothing is found. `ndots: 2` in the pod's `dnsConfig` saves the same
    /// queries for names of two dots and more, and changes nothing for the client.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: prepare, namespace: research}
    /// spec:
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       containers:
    ///         - name: prepare
    ///           image: docker.io/library/python:3.12
    ///           env: [{name: AWS_ENDPOINT_URL, value: "https://s3.eu-west-1.amazonaws.com."}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: prepare, namespace: research}
    /// spec:
    ///   template:
    ///     spec:
    ///       restartPolicy: Never
    ///       dnsConfig: {options: [{name: ndots, value: "2"}]}
    ///       containers:
    ///         - name: prepare
    ///           image: docker.io/library/python:3.12
    ///           env: [{name: AWS_ENDPOINT_URL, value: "https://s3.eu-west-1.amazonaws.com"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - boto/boto3#3492, aws/aws-cli#9023 (signature); urllib3 `connection.py`, `HTTPConnection.host`; urllib3#2244 (proxy).
    ///   Tried against servers on one machine with boto3 1.44, urllib3 2.8, requests 2.34, aiohttp 3.14, httpx 0.28, CPython
    ///   3.11 with OpenSSL 3.0, and curl.
    /// - python/cpython#76178, openssl/openssl#11560, encode/httpcore#1063, confluentinc/librdkafka#4348 (certificates);
    ///   RFC 6066, 3: a server's name in TLS has no dot at its end; Go `crypto/tls`, `hostnameInSNI`.
    /// - Envoy, `HttpConnectionManager.strip_trailing_host_dot`: off by default.
    "dotted-endpoint", Dns, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    for pods in workload.pod_sets.iter().filter(|pods| pods.has_pod_spec()) {
        for dotted in hosts::dotted(pods, cx.settings.cluster_domain()) {
            let host = &dotted.host;
            let message = match dotted.harm {
                Harm::Signature => {
                    format!(
                        "requests to `{host}` are signed with the dot at its end and sent without it: S3 refuses them"
                    )
                }
                Harm::Certificate => {
                    format!("no certificate has the dot at the end of `{host}`: many clients refuse to connect")
                }
                Harm::HostHeader => format!("`{host}` with its dot is another host to Envoy and most gateways: 404"),
            };
            let help = "take the dot away; `ndots: 2` in the pod's `dnsConfig` saves the same queries";
            let edit = Edit::Set(dotted.field.path(), json!(dotted.without));
            out.push(Finding::new(&dotted.field, message).label("ends with a dot").fix(Fix::unsafe_(help, vec![edit])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fixed, messages};

    fn job(container: &str) -> String {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n        - name: a\n          image: docker.io/library/python:3.12\n{container}"
        )
    }

    /// The dot took the queries away, and with the next boto3 the training data.
    #[test]
    fn the_dot_that_breaks_a_client_is_taken_away_and_no_other() {
        let text = job(
            "          args: [\"--data=https://s3.eu-west-1.amazonaws.com./b,https://hub.example.com.:443/x\", \"--cache=redis://cache.example.com.:6379\"]\n          env: [{name: MLFLOW_S3_ENDPOINT_URL, value: \"http://minio.example.com.:9000\"}]\n",
        );
        let found = messages(&RULE, &text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|message| message.contains("are signed with the dot")), "{found:?}");
        let fixed = fixed(&RULE, &text);
        assert!(fixed.contains("amazonaws.com/b,https://hub.example.com:443/x"), "{fixed}");
        assert!(
            fixed.contains("http://minio.example.com:9000") && fixed.contains("cache.example.com.:6379"),
            "{fixed}"
        );
    }

    #[test]
    fn names_without_a_dot_and_texts_that_are_no_urls_are_left_alone() {
        let text = job(
            "          args: [\"https://example.com/a.b.\", \"see https://...\", \"x.y.\", \"http://mlflow.ml.svc.cluster.local.:5000\"]\n",
        );
        assert_eq!(messages(&RULE, &text), [] as [String; 0]);
    }
}
