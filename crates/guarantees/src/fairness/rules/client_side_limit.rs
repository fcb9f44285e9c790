use bedplate_model::{Finding, Workload};

use crate::fairness::identities::{Flags, Limit, of_image};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a controller of the platform that holds itself back: its client asks the API server less than 50 times a
    /// second, by its own flags or because none is set.
    ///
    /// ## Why
    /// A client of Kubernetes has a limit of its own (5 requests a second and 10 at once, where nobody says otherwise). A
    /// search of 500 trials is some thousand requests to its controller: at 5 a second it is behind by minutes, and
    /// nothing tells so but its own log ("Waited for 1.2s due to client-side throttling"). No lane of the API server
    /// makes it faster. Where the server's flow control has a lane for controllers, that is what keeps them from harming
    /// others, and the client's limit can be high.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: mpi-operator, namespace: mpi-operator}
    /// spec:
    ///   replicas: 1
    ///   selector: {matchLabels: {app: mpi-operator}}
    ///   template:
    ///     metadata: {labels: {app: mpi-operator}}
    ///     spec:
    ///       serviceAccountName: mpi-operator
    ///       containers:
    ///         - {name: mpi-operator, image: "docker.io/mpioperator/mpi-operator:0.6.0", args: [-alsologtostderr]}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: mpi-operator, namespace: mpi-operator}
    /// spec:
    ///   replicas: 1
    ///   selector: {matchLabels: {app: mpi-operator}}
    ///   template:
    ///     metadata: {labels: {app: mpi-operator}}
    ///     spec:
    ///       serviceAccountName: mpi-operator
    ///       containers:
    ///         - name: mpi-operator
    ///           image: docker.io/mpioperator/mpi-operator:0.6.0
    ///           args: [-alsologtostderr, --kube-api-qps=100, --kube-api-burst=200]
    /// ```
    ///
    /// ## Options
    /// None. Controllers whose limit stands in a ConfigMap (Kueue, Trainer v2) are not judged.
    ///
    /// ## Sources
    /// - `k8s.io/client-go/rest/config.go`: `DefaultQPS` 5, `DefaultBurst` 10; below zero there is no limit.
    /// - Each project's own flags and defaults, by its source: `crates/guarantees/src/fairness/identities.rs`.
    "client-side-limit", Fairness, Warning, High, [Workload(check)]
}

/// Requests a second below which a controller of a platform is behind whenever much happens.
const ENOUGH: f64 = 50.0;

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for pods in &workload.pod_sets {
        for container in pods.main_containers() {
            let image = container.image();
            let Some(identity) = image.str().and_then(of_image) else { continue };
            let (Some(flags), Some(limit)) = (identity.flags, identity.limit) else { continue };
            let words = container.command_line();
            let Some((qps, set)) = asked(&words, flags, limit) else { continue };
            // Below zero there is none.
            if !(0.0..ENOUGH).contains(&qps) {
                continue;
            }
            let args = container.field.key("args");
            let place = if args.exists() { args } else { image };
            let burst = value(&words, flags.burst).unwrap_or_else(|| limit.burst.to_string());
            let by = if set { format!("--{}", flags.qps) } else { format!("its default, --{} is not set", flags.qps) };
            out.push(
                Finding::new(
                    &place,
                    format!(
                        "{} holds itself back at {qps} requests a second ({burst} at once): no lane of the API server makes it faster",
                        identity.what
                    ),
                )
                .label(format!("{qps} requests a second, by {by}"))
                .note(format!("the flags, by {}", flags.source))
                .help(format!(
                    "set --{}=100 and --{}=200; flow control of the API server keeps it from harming others",
                    flags.qps, flags.burst
                )),
            );
        }
    }
}

/// Requests a second that a command line allows, and whether it says so itself; nothing where that is not known.
fn asked(words: &[&str], flags: Flags, limit: Limit) -> Option<(f64, bool)> {
    match value(words, flags.qps) {
        None => Some((f64::from(limit.qps), false)),
        Some(text) => match text.parse::<f64>() {
            // What leaves it to the library.
            Ok(0.0) => Some((f64::from(limit.qps), false)),
            Ok(qps) if qps.is_finite() => Some((qps, true)),
            _ => None,
        },
    }
}

/// The value of a flag, as Go reads flags: one dash or two, `=` or a word of its own; the last one counts.
fn value(words: &[&str], flag: &str) -> Option<String> {
    let mut found = None;
    for (at, word) in words.iter().enumerate() {
        let Some(name) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        match name.split_once('=') {
            Some((name, value)) if name == flag => found = Some(value.to_owned()),
            None if name == flag => found = words.get(at + 1).map(|next| (*next).to_owned()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::messages;

    fn told(image: &str, args: &str) -> Vec<String> {
        messages(
            &RULE,
            &format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, namespace: b}}\nspec:\n  selector: {{matchLabels: {{app: a}}}}\n  template:\n    metadata: {{labels: {{app: a}}}}\n    spec:\n      containers:\n      - {{name: a, image: \"{image}\", args: {args}}}\n"
            ),
        )
    }

    #[test]
    fn the_flag_is_read_in_every_form_of_go() {
        let image = "quay.io/argoproj/workflow-controller:v3.6.0";
        for (args, qps) in [
            ("[]", Some("20")),
            ("[--qps=5]", Some("5")),
            ("[-qps, \"10\"]", Some("10")),
            ("[--qps, \"30.5\"]", Some("30.5")),
            ("[--qps=5, --qps=200]", None),
            ("[--qps=-1]", None),
            ("[\"--qps=$(QPS)\"]", None),
            ("[--qps=0]", Some("20")),
            ("[--qps-of-another=5, --qps=100]", None),
        ] {
            let told = told(image, args);
            match qps {
                Some(qps) => {
                    assert!(
                        told.len() == 1 && told[0].contains(&format!("at {qps} requests a second")),
                        "{args} {told:?}"
                    );
                }
                None => assert_eq!(told, [] as [&str; 0], "{args}"),
            }
        }
    }

    #[test]
    fn who_has_enough_or_is_not_known_is_left_alone() {
        assert_eq!(told("quay.io/kuberay/operator:v1.5.0", "[]"), [] as [&str; 0]);
        assert_eq!(told("registry.k8s.io/kueue/kueue:v0.14.0", "[]"), [] as [&str; 0]);
        assert_eq!(told("docker.io/acme/web:1", "[--qps=1]"), [] as [&str; 0]);
    }
}
