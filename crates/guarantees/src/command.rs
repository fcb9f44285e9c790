//! What a command line does with signals. Dockerfiles and manifests ask the same questions.

use bedplate_model::Settings;

/// Programs that forward signals and reap children, and how each takes its command.
pub const INITS: &[&str] = &["tini", "tini-static", "dumb-init", "catatonit", "docker-init", "s6-svscan"];

const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// What PID 1 of a command line is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pid1 {
    /// Nothing is run.
    Nothing,
    /// An init, and the words that it runs.
    Init(Vec<String>),
    /// A shell that stays: its script.
    Shell(String),
    /// A shell that becomes its command (`exec`, or the only command of `-c` in bash and dash).
    Exec(String),
    /// Any other program, by its last path segment, and its arguments.
    Program(String, Vec<String>),
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

/// Reads the words of a command line.
#[must_use]
pub fn pid1(words: &[&str], settings: &Settings) -> Pid1 {
    let Some(first) = words.first() else { return Pid1::Nothing };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    if is_init(first, settings) {
        // Options of the init end at `--` or at the first word that is none.
        let rest = words[1..].iter().position(|word| *word == "--" || !word.starts_with('-'));
        let rest = rest.map_or(&[][..], |at| &words[1 + at..]);
        return Pid1::Init(owned(rest.strip_prefix(&["--"]).unwrap_or(rest)));
    }
    if SHELLS.contains(&base(first)) {
        let mut rest = &words[1..];
        while let Some((option, after)) = rest.split_first() {
            // -c, -ec, -lc, -euxc: the next word is the script.
            if option.starts_with('-') && !option.starts_with("--") && option.ends_with('c') {
                return script(after.first().copied().unwrap_or_default());
            }
            if !option.starts_with('-') {
                return Pid1::Program((*option).to_owned(), owned(after));
            }
            rest = after;
        }
        return Pid1::Shell(String::new());
    }
    Pid1::Program((*first).to_owned(), owned(&words[1..]))
}

/// What a shell's script leaves as PID 1.
#[must_use]
pub fn script(text: &str) -> Pid1 {
    let last = commands(text).pop().unwrap_or_default();
    if last.starts_with("exec ") || commands(text).len() == 1 && !text.contains(['|', '&', '(', '`']) {
        Pid1::Exec(last.trim_start_matches("exec ").trim().to_owned())
    } else {
        Pid1::Shell(text.to_owned())
    }
}

/// The commands of a script, one after the other, without blank lines and comments. Quotes
/// that span commands are taken as they come: this reads entrypoints, not programs.
#[must_use]
pub fn commands(text: &str) -> Vec<String> {
    text.replace("\\\n", " ")
        .split(['\n', ';'])
        .flat_map(|line| line.split("&&"))
        .map(str::trim)
        .filter(|command| !command.is_empty() && !command.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Pid1 {
        pid1(words, &Settings::default())
    }

    #[test]
    fn tini_in_front_is_an_init_and_its_options_are_not_the_command() {
        assert_eq!(
            read(&["/usr/bin/tini", "-g", "--", "python", "a.py"]),
            Pid1::Init(vec!["python".into(), "a.py".into()])
        );
        assert_eq!(read(&["dumb-init", "python"]), Pid1::Init(vec!["python".into()]));
    }

    #[test]
    fn a_shell_with_two_commands_stays_and_swallows_the_signal() {
        assert_eq!(read(&["bash", "-lc", "cd /app && python a.py"]), Pid1::Shell("cd /app && python a.py".into()));
        assert_eq!(read(&["sh", "-c", "exec python a.py"]), Pid1::Exec("python a.py".into()));
        assert_eq!(read(&["sh", "-c", "cd /app; exec python a.py"]), Pid1::Exec("python a.py".into()));
        assert_eq!(read(&["sh", "-c", "python a.py"]), Pid1::Exec("python a.py".into()));
        assert_eq!(read(&["python", "a.py"]), Pid1::Program("python".into(), vec!["a.py".into()]));
    }
}
