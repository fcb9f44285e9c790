use bedplate_model::document::dockerfile::{Command, Dockerfile, What};
use bedplate_model::finding::Place;
use bedplate_model::workload::kinds::Shape;
use bedplate_model::{Confidence, Finding, Purpose, Settings, Workload};

use super::{start, words};
use crate::command::{Init, MAY_BECOME, Pid1, base, may_become, pid1, steps, traps, way, without_prefixes};
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds launchers that stand between the signal and the training: `conda run`, `torchrun`
    /// without `--shutdown-timeout`, `mpirun` without `odls_base_sigkill_timeout`, `tini -g`,
    /// `dumb-init` without `--single-child` in front of a training, a shell that waits for its command.
    ///
    /// ## Why
    /// `conda run` does not pass SIGTERM on. torchrun kills its workers 30 s after SIGTERM, Open
    /// MPI's mpirun its ranks after 1 s, whatever the grace period is. `tini -g` tells the DataLoader
    /// workers too: they die, and the save that needs them fails. So do torchrun and mpirun, against
    /// which the code has to do something. A shell with two commands waits for each: as PID 1 it ignores
    /// SIGTERM, behind an init it dies of it and the container goes with it, 14 ms later.
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
    ///           containers:
    ///             - {name: pytorch, image: "docker.io/acme/train:1", command: [tini, --, conda, run, -n, train, python, train.py]}
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
    ///           containers:
    ///             - {name: pytorch, image: "docker.io/acme/train:1", command: [tini, --, /opt/conda/envs/train/bin/python, train.py]}
    /// ```
    ///
    /// ## Options
    /// `spec.training.graceSeconds`, 300: what torchrun's 30 s are held against where the pod has less.
    /// A script with `trap` is left alone, and so is what `bedplate wrap` starts: it tells the program behind a shell.
    ///
    /// ## Sources
    /// - What each way of starting a training was seen to cost: docs/signals.md.
    /// - conda#10351; pytorch#68258 and #119856 (`--shutdown-timeout` since torch 2.12); tini's README, `-g`;
    ///   dumb-init's README, session behavior.
    "launcher-swallows-signals", Image, Error, High, [Workload(workload), Dockerfile(dockerfile)]
}

/// The variable that is `-g` to tini.
const GROUP: &str = "TINI_KILL_PROCESS_GROUP";

/// A command line, and what decides about it.
struct Line<'a> {
    words: Vec<&'a str>,
    place: Place,
    /// Seconds that the save is given, where it is a training's.
    grace: Option<u64>,
    /// The variables that are set.
    variables: Vec<&'a str>,
    /// Whether the environment makes dumb-init tell its child only.
    single: bool,
    /// Whether something that passes signals on is in front, outside the command line: Argo's executor.
    executor: bool,
    /// Whether a shell in front has a finding elsewhere.
    shell_known: bool,
}

fn workload(workload: &Workload<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !matches!(workload.purpose, Purpose::Training | Purpose::Serving | Purpose::Notebook) {
        return;
    }
    for pods in &workload.pod_sets {
        for container in pods.main_containers() {
            let words = container.command_line();
            if words.is_empty() {
                continue;
            }
            let command = container.field.key("command");
            let place = if command.exists() { command } else { container.field.key("args") };
            let grace = if pods.has_pod_spec() { pods.grace_seconds() } else { 0 };
            let training = workload.purpose == Purpose::Training;
            let variables = || container.field.key("env").items();
            let line = Line {
                words,
                place: (&place).into(),
                // A pod without the grace that is asked for has a finding of its own.
                grace: training.then(|| grace.max(cx.settings.grace_seconds())),
                variables: variables().filter_map(|item| item.key("name").str()).collect(),
                single: variables().any(|item| {
                    item.key("name").str() == Some("DUMB_INIT_SETSID")
                        && item.key("value").scalar().as_deref() == Some("0")
                }),
                executor: pods.shape == Shape::ArgoTemplate,
                shell_known: false,
            };
            judge(&line, cx.settings, out);
        }
    }
}

fn dockerfile(file: &Dockerfile, _: &dyn BuildContext, cx: &Context<'_>, out: &mut Findings) {
    let Some(command) = start(file) else { return };
    let known = CLOCKS.iter().map(|clock| clock.variable).chain([GROUP]);
    let is_set = |name: &str| {
        let env = |what: &What| matches!(what, What::Env(text) if text.text.starts_with(name));
        file.last(|i| env(&i.what).then_some(())).is_some()
    };
    let shell_form = |command: Option<&Command>| matches!(command, Some(Command::Shell(_)));
    let line = Line {
        words: words(file),
        place: command.span().into(),
        grace: None,
        variables: known.filter(|name| is_set(name)).collect(),
        single: false,
        executor: false,
        shell_known: shell_form(file.entrypoint()) || shell_form(file.cmd()),
    };
    judge(&line, cx.settings, out);
}

fn judge(line: &Line<'_>, settings: &Settings, out: &mut Findings) {
    let (inits, behind) = way(&line.words, settings);
    if let Some(finding) = inits.iter().find_map(|init| tells_the_group(line, init)) {
        out.push(finding);
    }
    // It tells what is behind a shell and `conda run`; torchrun's 30 s are torchrun's.
    let wrapped = inits.iter().any(Init::wraps);
    let words: Vec<String> = match &behind {
        Pid1::Program(program, rest) => [program].into_iter().chain(rest).cloned().collect(),
        Pid1::Exec(text) => split(text),
        Pid1::Shell(script) => {
            if traps(script) {
                return;
            }
            if !script.is_empty() && !line.shell_known && !wrapped {
                out.push(shell(line, script, settings));
            }
            steps(script).last().map(|step| split(step.text)).unwrap_or_default()
        }
        Pid1::Init(_) | Pid1::Nothing => return,
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = without_prefixes(&words);
    let program = words.first().map_or("", |word| base(word));
    let conda = matches!(program, "conda" | "mamba" | "micromamba") && words.get(1) == Some(&"run");
    if conda && !wrapped {
        out.push(
            Finding::new(line.place.clone(), format!("`{program} run` does not pass SIGTERM on to its program"))
                .help("start the environment's own python: `/opt/conda/envs/NAME/bin/python`"),
        );
        // What it starts may be a launcher as well, but this is to be mended first.
        return;
    }
    // A workload that does not train loses no save.
    let grace = if matches!(line.place, Place::Span(_)) { Some(settings.grace_seconds()) } else { line.grace };
    if let (Some(clock), Some(grace)) = (CLOCKS.iter().find(|clock| (clock.runs)(words)), grace) {
        out.push(clock.judge(line, words, grace));
    }
}

/// A launcher that passes SIGTERM on to all that its ranks are made of, and kills them by a clock of its own.
struct Clock {
    name: &'static str,
    ranks: &'static str,
    runs: fn(&[&str]) -> bool,
    /// From SIGTERM to SIGKILL, where nothing else is said.
    seconds: u64,
    /// The option and the variable that say something else.
    option: &'static str,
    variable: &'static str,
    /// Whether it waits as long before it passes SIGTERM on, too.
    twice: bool,
    /// How to say it, in front of the number, and a remark.
    help: [&'static str; 2],
}

/// Seen in docs/signals.md.
const CLOCKS: &[Clock] = &[
    Clock {
        name: "torchrun",
        ranks: "workers",
        runs: |words| {
            words.first().is_some_and(|word| base(word) == "torchrun")
                || words.iter().any(|word| matches!(*word, "torch.distributed.run" | "torch.distributed.launch"))
        },
        seconds: 30,
        option: "--shutdown-timeout",
        variable: "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
        twice: false,
        help: ["--shutdown-timeout=", "torch 2.12 and later"],
    },
    Clock {
        name: "mpirun",
        ranks: "ranks",
        runs: |words| words.first().is_some_and(|word| matches!(base(word), "mpirun" | "orterun")),
        seconds: 1,
        option: "odls_base_sigkill_timeout",
        variable: "OMPI_MCA_odls_base_sigkill_timeout",
        twice: true,
        help: [
            "--mca odls_base_sigkill_timeout ",
            "Open MPI waits so long before it passes SIGTERM on, and again before it kills",
        ],
    },
];

impl Clock {
    fn judge(&self, line: &Line<'_>, words: &[&str], grace: u64) -> Finding {
        let Self { name, ranks, seconds, variable, twice, help: [help, remark], .. } = *self;
        let finding = |message: String| Finding::new(line.place.clone(), message);
        let set = |at_most: u64| format!("set `{help}{at_most}` ({remark})");
        let at_most = if twice { grace / 2 } else { grace }.saturating_sub(10);
        let own = self.own(words);
        if let Some(Some(own)) = own.filter(|_| twice)
            && own.saturating_mul(2) > grace
        {
            return finding(format!(
                "{name} passes SIGTERM on after {own} s, and a save has to be done {grace} s after it"
            ))
            .evidence(format!("2 x {own} s"), format!("{grace} s"))
            .help(set(at_most));
        }
        if own.is_some() || line.variables.contains(&variable) || grace <= seconds {
            // No option is against that. Whether there are such workers, and what is done without them, the code says.
            return finding(format!(
                "{name} sends SIGTERM to the DataLoader workers too: a save that needs them fails"
            ))
            .confidence(Confidence::Low)
            .help("let them ignore SIGTERM (`worker_init_fn`), or save with `bedplate.Guard`, which needs none");
        }
        finding(format!("{name} kills its {ranks} {seconds} s after SIGTERM, a save is given {grace} s"))
            .evidence(format!("{seconds} s"), format!("{grace} s"))
            .note("It sends SIGTERM to their DataLoader workers too: a save that needs them fails.")
            .help(set(at_most))
    }

    /// What the command line sets, where it sets something; the number, where it is one.
    fn own(&self, words: &[&str]) -> Option<Option<u64>> {
        // torchrun takes its options with `_` as well, and with `=`.
        let plain = |word: &str| word.replace('_', "-");
        let at = words.iter().position(|word| plain(word).starts_with(&plain(self.option)))?;
        let value = words[at].split_once('=').map(|(_, value)| value).or(words.get(at + 1).copied());
        Some(value.and_then(|value| value.parse().ok()))
    }
}

/// An init that tells more than its child.
fn tells_the_group(line: &Line<'_>, init: &Init) -> Option<Finding> {
    let (name, help) = match &*init.name {
        "tini" | "tini-static" | "docker-init" if init.has('g') => {
            ("tini -g", "take `-g` away and let the program end its own children")
        }
        "tini" | "tini-static" | "docker-init" if line.variables.contains(&GROUP) => {
            ("tini", "take TINI_KILL_PROCESS_GROUP away and let the program end its own children")
        }
        // Its default; servers and their workers rather like it.
        "dumb-init"
            if line.grace.is_some()
                && !line.single
                && !init.has('c')
                && !init.options.iter().any(|option| option == "--single-child") =>
        {
            ("dumb-init", "add `--single-child` and let the program end its own children")
        }
        _ => return None,
    };
    let message = format!("`{name}` sends SIGTERM to the DataLoader workers too: the save that needs them fails");
    Some(Finding::new(line.place.clone(), message).help(help))
}

fn shell(line: &Line<'_>, script: &str, settings: &Settings) -> Finding {
    let what = match pid1(&line.words, settings) {
        // As PID 1 a shell ignores SIGTERM; as a child it dies of it, and the init goes with it.
        _ if line.executor => {
            "a shell between Argo's executor and program dies on SIGTERM and takes the program with it"
        }
        Pid1::Init(_) => "a shell between init and program dies on SIGTERM and takes the program with it",
        _ => "a shell is in front of the program and keeps SIGTERM to itself",
    };
    let mut finding = Finding::new(line.place.clone(), what)
        .note(format!("The script is `{}`.", script.trim().chars().take(80).collect::<String>()))
        .help("start the last command with `exec`, or move the others to an init container");
    if may_become(&line.words, script) {
        finding = finding.confidence(Confidence::Low).note(MAY_BECOME);
    } else if let [only] = steps(script)[..]
        && !only.forks
    {
        finding = finding
            .confidence(Confidence::Medium)
            .note("dash, the `sh` of Debian and Ubuntu, stays in front of a single command; bash becomes it.");
    }
    finding
}

fn split(text: &str) -> Vec<String> {
    shlex::split(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::messages as dockerfile;
    use super::RULE;
    use crate::testing;

    fn train(container: &str) -> Vec<String> {
        testing::messages(
            &RULE,
            &format!(
                "apiVersion: kubeflow.org/v1\nkind: PyTorchJob\nmetadata: {{name: a}}\nspec:\n  pytorchReplicaSpecs:\n    Worker:\n      template:\n        spec:\n          terminationGracePeriodSeconds: 600\n          initContainers: [{{name: i, image: a, command: [sh, -c, 'a; b']}}]\n          containers: [{{name: pytorch, image: a, {container}}}]\n"
            ),
        )
    }

    #[test]
    fn a_shell_behind_tini_takes_the_save_with_it() {
        assert_eq!(
            train("command: [tini, --, bash, -c, 'cd /app && python a.py']"),
            ["a shell between init and program dies on SIGTERM and takes the program with it"]
        );
        assert_eq!(
            train("args: [bash, -c, 'cd /app && python a.py']"),
            ["a shell is in front of the program and keeps SIGTERM to itself"]
        );
        assert_eq!(train("command: [bash, -c, 'cd /app && exec python a.py']").len(), 0);
        assert_eq!(train("command: [bash, -c, \"trap 'kill $!' TERM; python a.py & wait\"]").len(), 0);
        assert_eq!(train("args: [--model, 'a; b']").len(), 0);
    }

    /// What `bedplate wrap` does is seen in its own tests: the save is not lost.
    #[test]
    fn behind_bedplate_wrap_neither_a_shell_nor_conda_costs_a_save() {
        for line in [
            "command: [bedplate-wrap, --, bash, -c, 'cd /app; python a.py; echo done']",
            "command: [tini, --, bedplate, wrap, --grace, '600', --, conda, run, -n, x, python, a.py]",
            "command: [bash, -c, 'exec bedplate-wrap -- python a.py']",
            "command: [bash, -c, 'cd /app && exec bedplate-wrap -- bash -c \"python a.py; echo done\"']",
        ] {
            assert_eq!(train(line).len(), 0, "{line}");
        }
        let expected = ["torchrun kills its workers 30 s after SIGTERM, a save is given 600 s"];
        assert_eq!(train("command: [bedplate-wrap, --, torchrun, train.py]"), expected);
    }

    /// Argo's executor is PID 1 and tells the whole process group; then it ends with its child, the shell.
    #[test]
    fn a_shell_of_a_workflow_is_no_pid_1() {
        let text = "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  entrypoint: a\n  templates:\n  - name: a\n    container: {image: x, command: [sh, -c, 'cd /app; python a.py'], resources: {limits: {nvidia.com/gpu: 1}}}\n";
        let expected = "a shell between Argo's executor and program dies on SIGTERM and takes the program with it";
        assert_eq!(testing::messages(&RULE, text), [expected]);
        // A workflow that builds an image has no training to save.
        assert_eq!(testing::messages(&RULE, &text.replace("nvidia.com/gpu", "cpu")).len(), 0);
    }

    #[test]
    fn torchrun_gives_thirty_seconds_of_ten_minutes() {
        let expected = ["torchrun kills its workers 30 s after SIGTERM, a save is given 600 s"];
        assert_eq!(train("command: [tini, --, torchrun, train.py]"), expected);
        assert_eq!(train("command: [bash, -c, 'exec python -m torch.distributed.run train.py']"), expected);
        let group = ["torchrun sends SIGTERM to the DataLoader workers too: a save that needs them fails"];
        assert_eq!(train("command: [torchrun, --shutdown-timeout=590, train.py]"), group);
        assert_eq!(train("command: [torchrun, --shutdown_timeout, '590', train.py]"), group);
        let variable = "command: [torchrun, train.py], env: [{name: TORCH_ELASTIC_SHUTDOWN_TIMEOUT, value: '590'}]";
        assert_eq!(train(variable), group);
        assert_eq!(dockerfile(&RULE, "FROM a:1\nCMD [\"torchrun\", \"a.py\"]\n", &[]).len(), 1);
    }

    #[test]
    fn mpirun_gives_a_second_of_ten_minutes() {
        let expected = ["mpirun kills its ranks 1 s after SIGTERM, a save is given 600 s"];
        assert_eq!(train("command: [mpirun, -np, '8', python, train.py]"), expected);
        assert_eq!(train("command: [bash, -c, 'exec env A=b mpirun python train.py']"), expected);
        let with =
            |seconds| train(&format!("command: [mpirun, --mca, odls_base_sigkill_timeout, '{seconds}', python, a.py]"));
        assert_eq!(with(290), ["mpirun sends SIGTERM to the DataLoader workers too: a save that needs them fails"]);
        // It would be killed ten seconds after it has heard of it.
        assert_eq!(with(590), ["mpirun passes SIGTERM on after 590 s, and a save has to be done 600 s after it"]);
    }

    #[test]
    fn an_init_that_tells_the_whole_group_kills_the_data_loaders() {
        for line in [
            "command: [tini, -vg, --, python, a.py]",
            "command: [env, A=b, tini, -g, --, python, a.py]",
            "command: [bash, -c, 'exec tini -g -- python a.py']",
            "command: [bedplate-wrap, --, tini, -g, --, python, a.py]",
            "command: [dumb-init, python, a.py]",
            "command: [tini, --, python, a.py], env: [{name: TINI_KILL_PROCESS_GROUP, value: '1'}]",
        ] {
            assert_eq!(train(line).len(), 1, "{line}");
        }
        for line in [
            "command: [tini, --, python, a.py, -g]",
            "command: [dumb-init, -c, python, a.py]",
            "command: [dumb-init, python, a.py], env: [{name: DUMB_INIT_SETSID, value: '0'}]",
        ] {
            assert_eq!(train(line).len(), 0, "{line}");
        }
        // Servers behind dumb-init may well want it.
        assert_eq!(dockerfile(&RULE, "FROM a:1\nENTRYPOINT [\"dumb-init\", \"gunicorn\"]\n", &[]).len(), 0);
    }

    #[test]
    fn conda_is_found_behind_a_shell_too() {
        let text = "FROM a:1\nCMD [\"bash\", \"-c\", \"source /e && conda run -n x python a.py\"]\n";
        assert_eq!(
            dockerfile(&RULE, text, &[]),
            [
                "`conda run` does not pass SIGTERM on to its program",
                "a shell is in front of the program and keeps SIGTERM to itself"
            ]
        );
        // The shell form has a finding of its own.
        assert_eq!(dockerfile(&RULE, "FROM a:1\nCMD mamba run -n x python a.py\n", &[]).len(), 1);
    }
}
