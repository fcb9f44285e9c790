use bedplate_model::document::dockerfile::{Command, Dockerfile, What};
use bedplate_model::finding::Place;
use bedplate_model::workload::kinds::Shape;
use bedplate_model::{Confidence, Finding, Purpose, Settings, Workload};

use super::{start, words};
use crate::command::{Pid1, base, behind_init, init_options, is_init, is_wrapped, pid1, steps, traps};
use crate::{BuildContext, Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds launchers that stand between the signal and the training: `conda run`, `torchrun`
    /// without `--shutdown-timeout`, `tini -g`, `dumb-init` without `--single-child` in front of a
    /// training, a shell that waits for its command.
    ///
    /// ## Why
    /// `conda run` does not pass SIGTERM on. torchrun kills its workers 30 s after SIGTERM,
    /// whatever the grace period is. `tini -g` tells the DataLoader workers too: they die, and
    /// the save that needs them fails. A shell with two commands waits for each: as PID 1 it ignores
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
    /// - conda#10351; pytorch#68258 and #119856 (`--shutdown-timeout` since torch 2.12); tini's README, `-g`;
    ///   dumb-init's README, session behavior.
    "launcher-swallows-signals", Image, Error, High, [Workload(workload), Dockerfile(dockerfile)]
}

/// A command line, and what decides about it.
struct Line<'a> {
    words: Vec<&'a str>,
    place: Place,
    /// Seconds that the save is given, where it is a training's.
    grace: Option<u64>,
    /// Whether the process group is told, by the environment.
    group: bool,
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
                group: variables().any(|item| item.key("name").str() == Some("TINI_KILL_PROCESS_GROUP")),
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
    let group = file.last(|i| match &i.what {
        What::Env(text) if text.text.starts_with("TINI_KILL_PROCESS_GROUP") => Some(()),
        _ => None,
    });
    let shell_form = |command: Option<&Command>| matches!(command, Some(Command::Shell(_)));
    let line = Line {
        words: words(file),
        place: command.span().into(),
        grace: None,
        group: group.is_some(),
        single: false,
        executor: false,
        shell_known: shell_form(file.entrypoint()) || shell_form(file.cmd()),
    };
    judge(&line, cx.settings, out);
}

fn judge(line: &Line<'_>, settings: &Settings, out: &mut Findings) {
    init(line, settings, out);
    // It tells what is behind a shell and `conda run`; torchrun's 30 s are torchrun's.
    let wrapped = is_wrapped(&line.words, settings);
    let behind = behind_init(&line.words, settings);
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
    let program = words.first().map_or("", |word| base(word));
    let conda = matches!(program, "conda" | "mamba" | "micromamba") && words.get(1).is_some_and(|word| word == "run");
    if conda && !wrapped {
        out.push(
            Finding::new(line.place.clone(), format!("`{program} run` does not pass SIGTERM on to its program"))
                .help("start the environment's own python: `/opt/conda/envs/NAME/bin/python`"),
        );
        // What it starts may be a launcher as well, but this is to be mended first.
        return;
    }
    let torchrun = program == "torchrun"
        || words.iter().any(|w| matches!(&**w, "torch.distributed.run" | "torch.distributed.launch"));
    let timeout = |word: &String| word.starts_with("--shutdown-timeout") || word.starts_with("--shutdown_timeout");
    if torchrun && !words.iter().any(timeout) {
        // A workload that does not train loses no save.
        let grace = match (&line.place, line.grace) {
            (Place::Span(_), _) => settings.grace_seconds(),
            (_, Some(grace)) => grace,
            (_, None) => return,
        };
        if grace > 30 {
            let message = format!("torchrun kills its workers 30 s after SIGTERM, a save is given {grace} s");
            out.push(
                Finding::new(line.place.clone(), message)
                    .evidence("30 s", format!("{grace} s"))
                    .help(format!("set `--shutdown-timeout={}` (torch 2.12 and later)", grace.saturating_sub(10))),
            );
        }
    }
}

/// An init that tells more than its child.
fn init(line: &Line<'_>, settings: &Settings, out: &mut Findings) {
    let Some((first, rest)) = line.words.split_first().filter(|(first, _)| is_init(first, settings)) else { return };
    let options = &rest[..init_options(rest)];
    let short = |letter: char| {
        options.iter().any(|option| option.starts_with('-') && !option.starts_with("--") && option.contains(letter))
    };
    let (name, help) = match base(first) {
        "tini" | "tini-static" | "docker-init" if short('g') => {
            ("tini -g", "take `-g` away and let the program end its own children")
        }
        "tini" | "tini-static" | "docker-init" if line.group => {
            ("tini", "take TINI_KILL_PROCESS_GROUP away and let the program end its own children")
        }
        // Its default; servers and their workers rather like it.
        "dumb-init" if line.grace.is_some() && !line.single && !short('c') && !options.contains(&"--single-child") => {
            ("dumb-init", "add `--single-child` and let the program end its own children")
        }
        _ => return,
    };
    out.push(
        Finding::new(
            line.place.clone(),
            format!("`{name}` sends SIGTERM to the DataLoader workers too: the save that needs them fails"),
        )
        .help(help),
    );
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
    if let [only] = steps(script)[..]
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
        assert_eq!(train("command: [torchrun, --shutdown-timeout=590, train.py]").len(), 0);
        assert_eq!(dockerfile(&RULE, "FROM a:1\nCMD [\"torchrun\", \"a.py\"]\n", &[]).len(), 1);
    }

    #[test]
    fn an_init_that_tells_the_whole_group_kills_the_data_loaders() {
        for line in [
            "command: [tini, -vg, --, python, a.py]",
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
