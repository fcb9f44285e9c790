use bedplate_model::workload::kinds::Shape;
use bedplate_model::{Finding, Purpose, Workload};

use crate::command::{MAY_BECOME, NATIVE, Pid1, base, may_become, pid1, traps};
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds training and notebook containers whose `command` replaces the image's `ENTRYPOINT`,
    /// and with it the init, by a shell or a program of its own.
    ///
    /// ## Why
    /// `command` in a manifest is not an argument of the `ENTRYPOINT`: it takes its place. An
    /// image built with tini then runs without it, and nobody notices until a save is lost.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           containers: [{name: pytorch, image: "docker.io/acme/train:1", command: [python, train.py]}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: kubeflow.org/v1
    /// kind: PyTorchJob
    /// metadata: {name: train}
    /// spec:
    ///   pytorchReplicaSpecs:
    ///     Worker:
    ///       template:
    ///         spec:
    ///           containers: [{name: pytorch, image: "docker.io/acme/train:1", args: [python, train.py]}]
    /// ```
    ///
    /// ## Options
    /// `spec.image.inits`: programs of your own that forward signals and reap children. A pod
    /// with `shareProcessNamespace: true` has an init, the pause container.
    ///
    /// ## Sources
    /// - Kubernetes: `command` corresponds to the image's ENTRYPOINT, `args` to its CMD.
    "init-bypassed", Image, Warning, Medium, [Workload(check)]
}

fn check(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !matches!(workload.purpose, Purpose::Training | Purpose::Notebook) {
        return;
    }
    for pods in &workload.pod_sets {
        // Argo puts its own executor in front of every command, Spark builds its own.
        if matches!(pods.shape, Shape::ArgoTemplate | Shape::Spark)
            || pods.spec.key("shareProcessNamespace").bool() == Some(true)
        {
            continue;
        }
        for container in pods.main_containers() {
            let command = container.field.key("command");
            if command.strings().next().is_none() {
                continue;
            }
            const ALONE: &str = "has to handle SIGTERM and reap children itself";
            let words = container.command_line();
            let mut guessed = false;
            let (first, what) = match pid1(&words, cx.settings) {
                Pid1::Shell(script) if traps(&script) => continue,
                Pid1::Shell(script) => {
                    guessed = may_become(&words, &script);
                    ("a shell".to_owned(), "does not pass SIGTERM on")
                }
                Pid1::Exec(line) => (base(line.split_whitespace().next().unwrap_or_default()).to_owned(), ALONE),
                Pid1::Program(program, _) => (base(&program).to_owned(), ALONE),
                Pid1::Init(_) | Pid1::Nothing => continue,
            };
            if NATIVE.contains(&first.as_str()) {
                continue;
            }
            let first = if first == "a shell" { first } else { format!("`{first}`") };
            let finding = Finding::new(
                &command,
                format!("`command` replaces the image's ENTRYPOINT and any init in it: {first} is PID 1 and {what}"),
            )
            .label("replaces ENTRYPOINT")
            .help("move the words to `args` where the image has an init, or put `/usr/bin/tini`, `--` in front");
            // Still found: whoever is PID 1 then, it is no init.
            out.push(if guessed { finding.note(MAY_BECOME) } else { finding });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RULE;
    use crate::testing::messages;

    fn train(spec: &str, command: &str) -> usize {
        messages(
            &RULE,
            &format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: a}}\nspec:\n  template:\n    spec:\n      {spec}\n      containers:\n      - name: a\n        image: a:1\n        command: {command}\n        resources: {{limits: {{nvidia.com/gpu: 1}}}}\n"
            ),
        )
        .len()
    }

    #[test]
    fn an_init_of_any_kind_is_enough() {
        let never = "restartPolicy: Never";
        assert_eq!(train(never, "[python, a.py]"), 1);
        for command in [
            "[tini, --, python, a.py]",
            "[bash, -c, 'cd /a; exec /usr/bin/tini -- python a.py']",
            "[/usr/sbin/sshd, -De]",
        ] {
            assert_eq!(train(never, command), 0, "{command}");
        }
        // The pause container is PID 1 of the whole pod.
        assert_eq!(train("shareProcessNamespace: true", "[python, a.py]"), 0);
    }
}
