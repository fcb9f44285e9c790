//! What a command line does with signals. Dockerfiles and manifests ask the same questions.

use bedplate_model::Settings;

/// Programs that forward signals and reap children, and how each takes its command.
pub const INITS: &[&str] = &[
    "tini",
    "tini-static",
    "dumb-init",
    "catatonit",
    "docker-init",
    "podman-init",
    "s6-svscan",
    // s6-overlay's `/init` and systemd's `/sbin/init`.
    "init",
    "systemd",
    "my_init",
    "supervisord",
    "runsvdir",
];

/// Servers that are written to be PID 1: they handle SIGTERM and end their own children.
pub const NATIVE: &[&str] = &[
    "nginx",
    "envoy",
    "haproxy",
    "caddy",
    "traefik",
    "httpd",
    "postgres",
    "mysqld",
    "redis-server",
    "sshd",
    "coredns",
    "tritonserver",
    "tensorflow_model_server",
];

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// Shells that start even the only command of `-c` as a child: dash, which is the `sh` of Debian
/// and Ubuntu (0.5.12; bash 5.2 becomes its command).
const FORKS_ALWAYS: &[&str] = &["sh", "dash"];

/// Programs that become their command, and how many words stand before it.
const BECOMES: &[(&str, usize)] = &[("exec", 0), ("env", 0), ("nohup", 0), ("gosu", 1), ("su-exec", 1)];

/// Options of inits that take a value (tini: `p:e:R:`; dumb-init: `r:`; `bedplate wrap`).
const VALUED: &[&str] = &["-p", "-e", "-R", "-r", "--rewrite", "--grace"];

/// What PID 1 of a command line is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pid1 {
    /// Nothing is run.
    Nothing,
    /// An init.
    Init(Init),
    /// A shell that stays: its script.
    Shell(String),
    /// A shell that becomes its command (`exec`, or the only command of `-c` in bash).
    Exec(String),
    /// Any other program, as written, and its arguments.
    Program(String, Vec<String>),
}

/// An init, and what it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Init {
    /// The file name of its program; of `bedplate wrap` that of its other form, `bedplate-wrap`.
    pub name: String,
    /// Its options, with `--`.
    pub options: Vec<String>,
    /// The words that it runs.
    pub command: Vec<String>,
}

impl Init {
    /// From its name and the words behind it.
    fn of(name: &str, words: &[&str]) -> Self {
        let (options, command) = words.split_at(init_options(words));
        Self { name: name.to_owned(), options: owned(options), command: owned(command) }
    }

    /// Whether a signal goes through shells and launchers behind it.
    #[must_use]
    pub fn wraps(&self) -> bool {
        self.name == WRAP
    }

    /// Whether it has a short option, alone or among others: `-g`, `-vg`.
    #[must_use]
    pub fn has(&self, letter: char) -> bool {
        self.options.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(letter))
    }
}

/// The last segment of a program's path.
#[must_use]
pub fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether a program is an init.
#[must_use]
pub fn is_init(word: &str, settings: &Settings) -> bool {
    INITS.contains(&base(word)) || settings.inits().iter().any(|init| *init == word || *init == base(word))
}

/// The program of its own that `bedplate wrap` is, too.
const WRAP: &str = "bedplate-wrap";

/// What follows `bedplate-wrap` or `bedplate wrap`: an init that tells the program behind shells and launchers too.
fn wrapped<'a, 'b>(words: &'b [&'a str]) -> Option<&'b [&'a str]> {
    match words {
        [first, rest @ ..] if base(first) == WRAP => Some(rest),
        [first, second, rest @ ..] if base(first) == "bedplate" && *second == "wrap" => Some(rest),
        _ => None,
    }
}

/// Whether an init is in front behind which a signal goes through shells and launchers.
#[must_use]
pub fn is_wrapped(words: &[&str], settings: &Settings) -> bool {
    way(words, settings).0.iter().any(Init::wraps)
}

/// Whether a program is a shell.
#[must_use]
pub fn is_shell(word: &str) -> bool {
    SHELLS.contains(&base(word))
}

/// How many of an init's words (after its name) are its options, with `--`.
#[must_use]
pub fn init_options(words: &[&str]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match *word {
            "--" => return at + 1,
            option if VALUED.contains(&option) => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => return at,
        }
    }
    words.len()
}

/// Reads the words of a command line.
#[must_use]
pub fn pid1(words: &[&str], settings: &Settings) -> Pid1 {
    let words = without_prefixes(words);
    let Some((first, rest)) = words.split_first() else { return Pid1::Nothing };
    if let Some(rest) = wrapped(words) {
        return Pid1::Init(Init::of(WRAP, rest));
    }
    if is_init(first, settings) {
        return Pid1::Init(Init::of(base(first), rest));
    }
    if !is_shell(first) {
        return Pid1::Program((*first).to_owned(), owned(rest));
    }
    let mut rest = rest;
    while let Some((option, after)) = rest.split_first() {
        let short = option.starts_with('-') && !option.starts_with("--");
        rest = match *option {
            // -c, -ec, -lc, -euxc: the next word is the script.
            option if short && option.contains('c') => {
                return script(first, after.first().copied().unwrap_or_default(), settings);
            }
            // -o pipefail, -eo pipefail.
            option if short && option.ends_with(['o', 'O']) => after.get(1..).unwrap_or_default(),
            option if option.starts_with('-') => after,
            file => return Pid1::Program(file.to_owned(), owned(after)),
        };
    }
    Pid1::Shell(String::new())
}

/// The inits on the way to the program, the outermost first, also one that a shell becomes; and what is behind them.
#[must_use]
pub fn way(words: &[&str], settings: &Settings) -> (Vec<Init>, Pid1) {
    let (mut inits, mut found) = (Vec::new(), pid1(words, settings));
    // Who nests more of them means to tire us.
    while inits.len() < 8 {
        let Pid1::Init(init) = found else { break };
        found = pid1(&init.command.iter().map(String::as_str).collect::<Vec<_>>(), settings);
        inits.push(init);
    }
    (inits, found)
}

/// What runs behind the init, or without one.
#[must_use]
pub fn behind_init(words: &[&str], settings: &Settings) -> Pid1 {
    way(words, settings).1
}

/// What a shell's script leaves as PID 1.
#[must_use]
pub fn script(shell: &str, text: &str, settings: &Settings) -> Pid1 {
    let steps = steps(text);
    let only = steps.len() == 1 && !steps[0].forks && !FORKS_ALWAYS.contains(&base(shell));
    let line = match steps.last() {
        Some(last) if last.exec().is_some() => last.exec(),
        Some(last) if only => Some(last.text),
        _ => None,
    };
    let Some(line) = line else { return Pid1::Shell(text.to_owned()) };
    let words = shlex::split(line).unwrap_or_default();
    match pid1(&words.iter().map(String::as_str).collect::<Vec<_>>(), settings) {
        Pid1::Program(..) | Pid1::Nothing => Pid1::Exec(line.to_owned()),
        further => further,
    }
}

/// What is to be said where [`may_become`] holds.
pub const MAY_BECOME: &str =
    "bash from 5.1 on mostly becomes the last command of such a line, older ones stay; `exec` makes sure.";

/// Whether bash from 5.1 on becomes the last command of a script although there are others: it is a simple one, without
/// redirections, the last of a plain list, and those before it only make ready for it.
#[must_use]
pub fn may_become(words: &[&str], text: &str) -> bool {
    const BLOCKS: &[&str] = &["if", "for", "while", "until", "case", "select", "function", "time", "trap", "{", "!"];
    const READY: &[&str] = &[
        "cd", "set", "shopt", "export", "unset", "source", ".", "ulimit", "umask", "mkdir", "pip", "pip3", "uv",
        "true", ":", "test", "[",
    ];
    let steps = steps(text);
    let Some((last, before)) = steps.split_last() else { return false };
    let block = |step: &Step<'_>| {
        step.forks
            || step.text.ends_with('}')
            || BLOCKS.contains(&step.text.split_whitespace().next().unwrap_or_default())
    };
    let begin = |step: &Step<'_>| step.text.as_ptr() as usize - text.as_ptr() as usize;
    let between: Vec<&str> =
        steps.windows(2).map(|pair| &text[begin(&pair[0]) + pair[0].text.len()..begin(&pair[1])]).collect();
    // `a; b && c` is `a; (b && c)`, whose last one is no simple command.
    let nested = between.split_last().is_some_and(|(last, before)| {
        !last.contains([';', '\n']) && before.iter().any(|between| between.contains([';', '\n']))
    });
    words.iter().any(|word| base(word) == "bash")
        && !nested
        && before.iter().all(|step| READY.contains(&step.program()) || step.program().contains('='))
        && !steps.iter().any(block)
        && !last.text.contains(['<', '>'])
        && text.trim_end().trim_end_matches(';').ends_with(last.text)
}

/// Whether a script says what to do on a signal.
#[must_use]
pub fn traps(text: &str) -> bool {
    text.contains("trap") && steps(text).iter().any(|step| step.program() == "trap")
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The words from the program on that `exec`, `env A=b`, `gosu user` and the like become.
#[must_use]
pub fn without_prefixes<'a, 'b>(mut words: &'b [&'a str]) -> &'b [&'a str] {
    while let Some((first, mut rest)) = words.split_first() {
        let Some((_, skip)) = BECOMES.iter().find(|(name, _)| *name == base(first)) else { break };
        rest = rest.get(*skip..).unwrap_or_default();
        while rest.first().is_some_and(|word| word.starts_with('-') || *skip == 0 && word.contains('=')) {
            rest = &rest[1..];
        }
        words = rest;
    }
    words
}

/// A command of a script, and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step<'a> {
    /// The command as written, a line's continuation included.
    pub text: &'a str,
    /// Its line, from 1.
    pub line: usize,
    /// Whether the shell has to stay for it: a pipe, a job in the background, a subshell.
    pub forks: bool,
}

/// Words that a command may stand behind.
const KEYWORDS: &[&str] = &["then", "else", "do", "{", "!", "if", "elif", "while", "until"];

impl<'a> Step<'a> {
    /// The command without the keywords and the branch of a `case` before it.
    fn bare(&self) -> &'a str {
        let mut text = self.text;
        loop {
            let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let branch = word.ends_with(')') && !word.contains('(');
            if !rest.is_empty() && (branch || KEYWORDS.contains(&word)) {
                text = rest.trim_start();
            } else {
                return text;
            }
        }
    }

    /// Its first word.
    #[must_use]
    pub fn program(&self) -> &'a str {
        self.bare().split_whitespace().next().unwrap_or_default()
    }

    /// What it becomes, where it is an `exec`; `exec >log` becomes nothing.
    #[must_use]
    pub fn exec(&self) -> Option<&'a str> {
        let rest = self.bare().strip_prefix("exec")?;
        let line = rest.trim_start();
        let redirects = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&').starts_with(['>', '<']);
        (rest.starts_with(char::is_whitespace) && !line.is_empty() && !redirects).then_some(line)
    }
}

/// The commands of a script, one after the other, without comments and here-documents. Reads
/// quotes and brackets, not the language: enough for entrypoints.
#[must_use]
pub fn steps(text: &str) -> Vec<Step<'_>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut start, mut at, mut depth, mut forks) = (0, 0, 0_usize, false);
    let mut quote = None;
    let mut heredoc: Option<&str> = None;
    let (mut counted, mut line) = (0, 1);
    let mut end = |start: usize, end: usize, forks: bool| {
        let piece = &text[start..end];
        let trimmed = piece.trim_start();
        let first = start + piece.len() - trimmed.len();
        let trimmed = trimmed.trim_end();
        if !trimmed.is_empty() {
            line += text[counted..first].matches('\n').count();
            counted = first;
            found.push(Step { text: trimmed, line, forks: forks || trimmed.starts_with('(') });
        }
    };
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or_default();
        let before = if at == 0 { b'\n' } else { bytes[at - 1] };
        if let Some(open) = quote {
            match byte {
                b'\\' if open == b'"' => at += 1,
                _ if byte == open => quote = None,
                _ => {}
            }
            at += 1;
            continue;
        }
        match byte {
            b'\\' => at += 1,
            b'\'' | b'"' | b'`' => quote = Some(byte),
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'#' if before.is_ascii_whitespace() || before == b';' => {
                end(start, at, forks);
                at = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
                (start, forks) = (at, false);
                continue;
            }
            b'<' if depth == 0 && next == b'<' && heredoc.is_none() => {
                let rest = text[at + 2..].trim_start_matches('-').trim_start_matches(' ');
                let rest = rest.trim_start_matches(['"', '\'', '\\']);
                let word = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
                heredoc = (!word.is_empty()).then_some(word);
                at += 1;
            }
            b'\n' | b';' if depth == 0 => {
                end(start, at, forks);
                (start, forks) = (at + 1, false);
                if let (b'\n', Some(word)) = (byte, heredoc.take_if(|_| byte == b'\n')) {
                    let mut body = at + 1;
                    for line in text[at + 1..].split_inclusive('\n') {
                        body += line.len();
                        if line.trim() == word {
                            break;
                        }
                    }
                    (at, start) = (body, body);
                    continue;
                }
            }
            b'&' | b'|' if depth == 0 && next == byte => {
                end(start, at, forks);
                at += 1;
                (start, forks) = (at + 1, false);
            }
            b'|' if depth == 0 => forks = true,
            b'&' if depth == 0 && !matches!(before, b'>' | b'<') && next != b'>' => {
                end(start, at, true);
                (start, forks) = (at + 1, false);
            }
            _ => {}
        }
        at += 1;
    }
    end(start, text.len(), forks);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Pid1 {
        pid1(words, &Settings::default())
    }

    /// What the init in front runs; nothing where there is none.
    fn behind(words: &[&str]) -> Vec<String> {
        match read(words) {
            Pid1::Init(init) => init.command,
            _ => Vec::new(),
        }
    }

    #[test]
    fn tini_in_front_is_an_init_and_its_options_are_not_the_command() {
        assert_eq!(behind(&["/usr/bin/tini", "-g", "--", "python", "a.py"]), &["python", "a.py"]);
        assert_eq!(behind(&["tini", "-e", "143", "-p", "SIGKILL", "python"]), &["python"]);
        assert_eq!(behind(&["dumb-init", "--rewrite", "15:2", "python"]), &["python"]);
        assert_eq!(behind(&["dumb-init", "python"]), &["python"]);
        assert_eq!(behind(&["env", "A=b", "tini", "--", "python"]), &["python"]);
        assert_eq!(behind(&["/bedplate-wrap", "--grace", "600", "--", "python"]), &["python"]);
        assert_eq!(behind(&["bedplate", "wrap", "--", "bash", "-c", "a; b"]), &["bash", "-c", "a; b"]);
        let wrapped = |words: &[&str]| is_wrapped(words, &Settings::default());
        assert!(wrapped(&["tini", "--", "env", "A=b", "bedplate", "wrap", "--", "sh"]));
        assert!(wrapped(&["bash", "-c", "exec bedplate-wrap -- bash -c 'a; b'"]), "a shell that becomes it");
        assert!(wrapped(&["tini", "--", "sh", "-c", "cd /app && exec bedplate wrap -- python a.py"]));
        assert!(!wrapped(&["bash", "-c", "bedplate-wrap -- python a.py; echo done"]), "a shell stays in front");
        assert!(!wrapped(&["tini", "--", "bedplate", "serve"]) && !wrapped(&["python", "bedplate-wrap"]));
    }

    #[test]
    fn a_shell_with_two_commands_stays_and_swallows_the_signal() {
        assert_eq!(read(&["bash", "-lc", "cd /app && python a.py"]), Pid1::Shell("cd /app && python a.py".into()));
        assert_eq!(read(&["sh", "-c", "exec python a.py"]), Pid1::Exec("python a.py".into()));
        assert_eq!(read(&["sh", "-c", "cd /app; exec python a.py"]), Pid1::Exec("python a.py".into()));
        assert_eq!(read(&["python", "a.py"]), Pid1::Program("python".into(), vec!["a.py".into()]));
        assert_eq!(read(&["bash", "-c", "python a.py | tee log"]), Pid1::Shell("python a.py | tee log".into()));
        assert_eq!(read(&["bash", "run.sh", "x"]), Pid1::Program("run.sh".into(), vec!["x".into()]));
    }

    #[test]
    fn bash_becomes_its_only_command_and_the_sh_of_debian_does_not() {
        assert_eq!(
            read(&["bash", "-c", "python a.py -n $(nproc) 2>&1"]),
            Pid1::Exec("python a.py -n $(nproc) 2>&1".into())
        );
        assert_eq!(read(&["sh", "-c", "python a.py"]), Pid1::Shell("python a.py".into()));
    }

    /// As bash 5.2.15 does it.
    #[test]
    fn bash_becomes_the_last_command_of_a_plain_list() {
        for text in
            ["cd . && a", "set -e; cd .; a b;", "true || cd .; a", "cd .\na\n", "pip install b >log 2>&1; A=b; a"]
        {
            assert!(may_become(&["bash", "-c", text], text), "{text}");
        }
        assert!(!may_become(&["sh", "-c", "cd . && a"], "cd . && a"));
        for text in [
            "a; echo done",
            "cd . && a 2>&1",
            "cd .; true && a",
            "{ cd .; a; }",
            "(cd .; a)",
            "if b; then a; fi",
            "b & a",
            "cd . && time a",
            "for i in 1; do a; done",
            "trap b EXIT; a",
            "cd . && ! a",
            "",
        ] {
            assert!(!may_become(&["bash", "-c", text], text), "{text}");
        }
    }

    #[test]
    fn options_of_the_shell_are_not_its_script() {
        assert_eq!(read(&["bash", "-eo", "pipefail", "-c", "exec a"]), Pid1::Exec("a".into()));
        assert_eq!(read(&["bash", "--login", "-c", "exec a"]), Pid1::Exec("a".into()));
    }

    #[test]
    fn every_init_on_the_way_is_found() {
        let names = |words: &[&str]| {
            let (inits, end) = way(words, &Settings::default());
            (inits.iter().map(|init| init.name.clone()).collect::<Vec<_>>().join(" "), end)
        };
        let python = Pid1::Program("python".into(), vec!["a.py".into()]);
        let words = ["env", "A=b", "bash", "-c", "exec tini -g -- bedplate wrap -- python a.py"];
        assert_eq!(names(&words), ("tini bedplate-wrap".into(), python.clone()));
        assert_eq!(names(&["python", "a.py"]), (String::new(), python));
        assert!(way(&["tini", "-vg", "--", "a"], &Settings::default()).0[0].has('g'));
        // A thousand of them end, and soon.
        assert_eq!(way(&["tini"; 1000], &Settings::default()).0.len(), 8);
    }

    #[test]
    fn an_init_that_the_shell_becomes_is_one() {
        assert_eq!(behind(&["bash", "-c", "source /env; exec tini -- python a.py"]), &["python", "a.py"]);
        let behind = behind_init(&["tini", "--", "bash", "-c", "a; b"], &Settings::default());
        assert_eq!(behind, Pid1::Shell("a; b".into()));
    }

    #[test]
    fn a_quoted_semicolon_is_not_a_second_command() {
        let text = "python -c 'import a; print(1)'";
        assert_eq!(read(&["bash", "-c", text]), Pid1::Exec(text.into()));
    }

    #[test]
    fn commands_are_found_as_a_shell_would() {
        let text = "#!/bin/sh\nset -e # stop\nexec >log 2>&1\ncat <<EOF > f\nexec no\nEOF\ncase \"$1\" in\n  train) exec python \\\n    a.py ;;\nesac\na & b || c\n(d; e)\n";
        let all: Vec<_> = steps(text).iter().map(|step| (step.line, step.program())).collect();
        assert_eq!(
            all,
            [
                (2, "set"),
                (3, "exec"),
                (4, "cat"),
                (7, "case"),
                (8, "exec"),
                (10, "esac"),
                (11, "a"),
                (11, "b"),
                (11, "c"),
                (12, "(d;")
            ]
        );
        let execs: Vec<_> = steps(text).iter().filter_map(Step::exec).collect();
        assert_eq!(execs, ["python \\\n    a.py"]);
        assert!(traps("if true; then trap stop TERM; fi") && !traps("echo trap"));
    }

    #[test]
    fn no_text_is_too_strange() {
        let pieces = ["'", "\"", "\\", "<<", "(", ")", "#", "`", "&", "|", ";", "\n", " ", "exec", "ü", "-c"];
        for n in 0..pieces.len().pow(4) {
            let text: String = (0..4).map(|place| pieces[n / pieces.len().pow(place) % pieces.len()]).collect();
            for step in steps(&text) {
                // Each command is a piece of the text, on its line.
                let at = step.text.as_ptr() as usize - text.as_ptr() as usize;
                assert_eq!(step.line, 1 + text[..at].matches('\n').count(), "{text:?}");
                let _ = (step.exec(), step.program());
            }
            let _ = read(&["bash", "-c", &text]);
        }
        let _ = (read(&["tini", "-e"]), read(&["bash", "-o"]), read(&["gosu"]), read(&[""]));
    }
}
