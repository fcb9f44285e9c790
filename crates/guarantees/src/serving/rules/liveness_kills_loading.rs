use bedplate_model::{Edit, Finding, Fix, Workload};
use serde_json::json;

use super::pods;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds model servers that a liveness probe kills while they still load: no startup probe,
    /// and less than 300 seconds until the liveness probe has failed often enough.
    ///
    /// ## Why
    /// Weights of tens of gigabytes take minutes to load, longer when every node pulls them at
    /// once. A liveness probe that gives up after 30 seconds restarts the container, which
    /// starts to load again: after a node failure the service never comes back.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    ///           livenessProbe:
    ///             httpGet: {path: /health, port: 8000}
    ///             initialDelaySeconds: 30
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: apps/v1
    /// kind: Deployment
    /// metadata: {name: chat, namespace: prod}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers:
    ///         - name: vllm
    ///           image: docker.io/vllm/vllm-openai:v0.9.1
    ///           ports: [{containerPort: 8000}]
    ///           startupProbe:
    ///             httpGet: {path: /health, port: 8000}
    ///             periodSeconds: 10
    ///             failureThreshold: 60
    ///           livenessProbe:
    ///             httpGet: {path: /health, port: 8000}
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Defaults of probes: Kubernetes, `core/v1` Probe: `periodSeconds` 10, `failureThreshold` 3, `initialDelaySeconds` 0.
    /// - While a startup probe has not succeeded, the others do not run: Kubernetes, "Configure Liveness, Readiness and Startup Probes".
    "liveness-kills-loading", Serving, Error, Medium, [Workload(check)]
}

/// Seconds that a model may take to load.
const LOADING: u64 = 300;

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    for container in pods::serving(workload).flat_map(|pods| pods.main_containers()) {
        let probe = container.field.key("livenessProbe");
        if !probe.exists() || container.field.key("startupProbe").exists() {
            continue;
        }
        let server = pods::server(container);
        if server.is_none() && container.accelerators().is_empty() {
            continue;
        }
        let number = |key, default| {
            let field = probe.key(key);
            if field.exists() { field.u64() } else { Some(default) }
        };
        let (Some(delay), Some(period), Some(failures)) =
            (number("initialDelaySeconds", 0), number("periodSeconds", 10), number("failureThreshold", 3))
        else {
            continue;
        };
        let allowed = delay.saturating_add(period.saturating_mul(failures));
        if allowed >= LOADING {
            continue;
        }
        let finding = Finding::new(
            &probe,
            format!(
                "{} is killed {allowed} s after its start if its model is not loaded by then",
                server.map_or_else(|| format!("container `{}`", container.name()), |server| server.name.to_owned())
            ),
        )
        .label(format!("{delay} s + {failures} x {period} s"))
        .evidence(allowed, LOADING)
        .note("The next start begins to load from nothing, so a model that takes longer never gets up.");
        // The same question, asked for ten minutes before liveness begins to count.
        let startup = probe.node().map(|node| node.to_json()).and_then(|mut startup| {
            let map = startup.as_object_mut()?;
            let asks = ["httpGet", "tcpSocket", "exec", "grpc"].iter().any(|key| map.contains_key(*key));
            map.remove("initialDelaySeconds");
            map.insert("periodSeconds".to_owned(), json!(10));
            map.insert("failureThreshold".to_owned(), json!(60));
            asks.then_some(startup)
        });
        let help = "add a `startupProbe` that asks the same and allows ten minutes: `periodSeconds: 10`, `failureThreshold: 60`";
        out.push(match startup {
            Some(startup) => {
                finding.fix(Fix::safe(help, vec![Edit::Set(container.field.key("startupProbe").path(), startup)]))
            }
            None => finding.help(help),
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{fixed, messages};

    fn with(probe: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: example.com/own:v1\n        ports: [{{containerPort: 80}}]\n        resources: {{limits: {{nvidia.com/gpu: 1}}}}\n        livenessProbe: {probe}\n"
        )
    }

    #[test]
    fn five_minutes_are_enough_however_they_add_up() {
        assert_eq!(
            messages(&super::RULE, &with("{httpGet: {path: /, port: 80}}")),
            ["container `a` is killed 30 s after its start if its model is not loaded by then"]
        );
        for enough in ["initialDelaySeconds: 270", "failureThreshold: 30", "periodSeconds: 100"] {
            let text = with(&format!("{{httpGet: {{path: /, port: 80}}, {enough}}}"));
            assert_eq!(messages(&super::RULE, &text), [] as [&str; 0], "{enough}");
        }
    }

    #[test]
    fn the_fix_asks_the_same_question_for_longer() {
        let text = fixed(&super::RULE, &with("{httpGet: {path: /healthz, port: 80}, initialDelaySeconds: 5}"));
        assert_eq!(text.matches("/healthz").count(), 2, "{text}");
    }
}
