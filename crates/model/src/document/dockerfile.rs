//! Dockerfiles: the stages and the instructions that decide what PID 1 is.

use parse_dockerfile::{Command as RawCommand, Instruction as Raw};

use super::{Limits, SyntaxError};
use crate::value::Span;

/// A Dockerfile, reduced to what rules ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dockerfile {
    /// The stages in order; the last is the image.
    pub stages: Vec<Stage>,
    /// `ARG NAME=default` before the first stage.
    pub global_args: Vec<(String, String)>,
}

/// A stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stage {
    /// What it starts from, as written: an image, another stage's name, or `scratch`.
    pub base: Text,
    /// Its name, where it has one.
    pub name: Option<Text>,
    /// Its instructions.
    pub instructions: Vec<Instruction>,
}

/// A piece of text and its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The text, unescaped.
    pub text: String,
    /// Its bytes.
    pub span: Span,
}

/// An instruction that matters to a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// The whole instruction.
    pub span: Span,
    /// What it does.
    pub what: What,
}

/// What an instruction does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `CMD`
    Cmd(Command),
    /// `USER`
    User(Text),
    /// `SHELL`
    Shell(Vec<Text>),
    /// `RUN`: the text of the command.
    Run(Text),
    /// `COPY` and `ADD`: sources, destination, and the stage or image of `--from`.
    Copy(Vec<Text>, Text, Option<Text>),
    /// `WORKDIR`
    Workdir(Text),
    /// `ENV`, as written.
    Env(Text),
    /// `STOPSIGNAL`
    StopSignal(Text),
}

/// A command line in one of the two forms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `["a", "b"]`: run as it is.
    Exec(Vec<Text>, Span),
    /// `a b`: run by a shell, which is then PID 1.
    Shell(Text),
}

impl Command {
    /// The bytes of the arguments.
    #[must_use]
    pub const fn span(&self) -> Span {
        match self {
            Self::Exec(_, span) => *span,
            Self::Shell(text) => text.span,
        }
    }

    /// The words of an exec form; nothing for a shell form.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        match self {
            Self::Exec(words, _) => words.iter().map(|word| word.text.as_str()).collect(),
            Self::Shell(_) => Vec::new(),
        }
    }
}

impl Dockerfile {
    /// Reads a Dockerfile.
    ///
    /// # Errors
    /// One [`SyntaxError`] with its place where it is not one.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, SyntaxError> {
        let fail = |message: String| SyntaxError { message, span: Span::new(0, 0), help: None };
        if text.len() > limits.bytes.min(1 << 20) {
            return Err(fail("a Dockerfile of more than 1 MiB".to_owned()));
        }
        let raw = parse_dockerfile::parse(text).map_err(|error| {
            let message = error.to_string();
            let line = message
                .rsplit_once("line ")
                .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok());
            let lines = super::LineIndex::new(text);
            let span = line.map_or(Span::new(0, 0), |line| {
                let start = lines.start(line.clamp(1, lines.count()));
                Span::new(start, start + lines.text(line.clamp(1, lines.count())).len())
            });
            let what = message.split(" at line").next().unwrap_or(&message).to_owned();
            SyntaxError { message: format!("not a valid Dockerfile: {what}"), span, help: None }
        })?;
        let global_args = raw
            .global_args()
            .filter_map(|arg| {
                let (name, value) = arg.arguments.value.split_once('=')?;
                Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
            })
            .collect();
        let origin = Origin(super::beginning(text));
        let stages = raw
            .stages()
            .map(|stage| Stage {
                base: origin.own(&stage.from.image),
                name: stage.from.as_.as_ref().map(|(_, name)| origin.own(name)),
                instructions: stage.instructions.iter().filter_map(|raw| origin.instruction(raw)).collect(),
            })
            .collect();
        Ok(Self { stages, global_args })
    }

    /// The stage that becomes the image, followed through the stages it is built from, the
    /// image's own first.
    #[must_use]
    pub fn final_stages(&self) -> Vec<&Stage> {
        let mut chain = Vec::new();
        let mut next = self.stages.len().checked_sub(1);
        while let Some(index) = next {
            let stage = &self.stages[index];
            chain.push(stage);
            // A stage can only be built from one before it, so this ends.
            next = self.stages[..index].iter().rposition(|earlier| {
                earlier.name.as_ref().is_some_and(|n| n.text.eq_ignore_ascii_case(&stage.base.text))
            });
        }
        chain
    }

    /// The last instruction of the image for which `pick` gives something, nearest stage first.
    pub fn last<'a, T>(&'a self, pick: impl Fn(&'a Instruction) -> Option<T>) -> Option<T> {
        self.final_stages().into_iter().find_map(|stage| stage.instructions.iter().rev().find_map(&pick))
    }

    /// The `ENTRYPOINT` in force.
    #[must_use]
    pub fn entrypoint(&self) -> Option<&Command> {
        self.last(|i| if let What::Entrypoint(command) = &i.what { Some(command) } else { None })
    }

    /// The `CMD` in force. A stage that sets `ENTRYPOINT` resets the `CMD` of its base.
    #[must_use]
    pub fn cmd(&self) -> Option<&Command> {
        for stage in self.final_stages() {
            let find = |f: fn(&What) -> Option<&Command>| stage.instructions.iter().rev().find_map(|i| f(&i.what));
            let cmd = find(|what| if let What::Cmd(command) = what { Some(command) } else { None });
            let entrypoint = find(|what| if let What::Entrypoint(command) = what { Some(command) } else { None });
            if cmd.is_some() || entrypoint.is_some() {
                return cmd;
            }
        }
        None
    }
}

/// Where what was parsed begins in the file: the parser counts from behind a byte order mark.
struct Origin(usize);

impl Origin {
    fn span(&self, range: &std::ops::Range<usize>) -> Span {
        Span::new(self.0 + range.start, self.0 + range.end)
    }

    fn own(&self, text: &parse_dockerfile::UnescapedString<'_>) -> Text {
        Text { text: text.value.trim().to_owned(), span: self.span(&text.span) }
    }

    fn command(&self, raw: &RawCommand<'_>) -> Option<Command> {
        match raw {
            RawCommand::Exec(words) => {
                Some(Command::Exec(words.value.iter().map(|text| self.own(text)).collect(), self.span(&words.span)))
            }
            RawCommand::Shell(text) => {
                Some(Command::Shell(Text { text: text.value.trim().to_owned(), span: self.span(&text.span) }))
            }
            _ => None,
        }
    }

    fn instruction(&self, raw: &Raw<'_>) -> Option<Instruction> {
        let join = |keyword: &parse_dockerfile::Keyword, end: Span| Span {
            start: self.span(&keyword.span).start,
            end: end.end,
        };
        let copy = |keyword, options: &[parse_dockerfile::Flag<'_>], src: &[parse_dockerfile::Source<'_>], dest| {
            let from = options
                .iter()
                .find(|flag| flag.name.value == "from")
                .and_then(|flag| flag.value.as_ref())
                .map(|text| self.own(text));
            let sources = src
                .iter()
                .filter_map(|source| match source {
                    parse_dockerfile::Source::Path(path) => Some(self.own(path)),
                    _ => None,
                })
                .collect();
            let dest = self.own(dest);
            Instruction { span: join(keyword, dest.span), what: What::Copy(sources, dest, from) }
        };
        let text = |keyword, arguments: &parse_dockerfile::UnescapedString<'_>, what: fn(Text) -> What| {
            let arguments = self.own(arguments);
            Instruction { span: join(keyword, arguments.span), what: what(arguments) }
        };
        Some(match raw {
            Raw::Entrypoint(i) => {
                let command = self.command(&i.arguments)?;
                Instruction { span: join(&i.entrypoint, command.span()), what: What::Entrypoint(command) }
            }
            Raw::Cmd(i) => {
                let command = self.command(&i.arguments)?;
                Instruction { span: join(&i.cmd, command.span()), what: What::Cmd(command) }
            }
            Raw::Run(i) => {
                let command = self.command(&i.arguments)?;
                let text = match &command {
                    Command::Exec(words, span) => {
                        Text { text: words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" "), span: *span }
                    }
                    Command::Shell(text) => text.clone(),
                };
                Instruction { span: join(&i.run, text.span), what: What::Run(text) }
            }
            Raw::Shell(i) => Instruction {
                span: i.arguments.last().map_or(self.span(&i.shell.span), |last| join(&i.shell, self.span(&last.span))),
                what: What::Shell(i.arguments.iter().map(|text| self.own(text)).collect()),
            },
            Raw::User(i) => text(&i.user, &i.arguments, What::User),
            Raw::Workdir(i) => text(&i.workdir, &i.arguments, What::Workdir),
            Raw::Env(i) => text(&i.env, &i.arguments, What::Env),
            Raw::Stopsignal(i) => text(&i.stopsignal, &i.arguments, What::StopSignal),
            Raw::Copy(i) => copy(&i.copy, &i.options, &i.src, &i.dest),
            Raw::Add(i) => copy(&i.add, &i.options, &i.src, &i.dest),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_and_what_it_is_built_from_decide() {
        let text = "ARG PY=3.12\nFROM python:${PY} AS base\nENTRYPOINT [\"tini\", \"--\"]\nUSER 1000\nFROM alpine AS other\nFROM base\nCMD [\"python\", \"a.py\"]\n";
        let file = Dockerfile::parse(text, &Limits::DEFAULT).unwrap();
        assert_eq!(file.final_stages().last().unwrap().base.text, "python:${PY}");
        assert_eq!(file.entrypoint().unwrap().words(), ["tini", "--"]);
        assert_eq!(file.cmd().unwrap().words(), ["python", "a.py"]);
        assert_eq!(&text[file.cmd().unwrap().span().range()], "[\"python\", \"a.py\"]");
    }

    /// Every place was three bytes early, and one of them within a character.
    #[test]
    fn a_byte_order_mark_moves_no_place() {
        let text = "\u{feff}FROM python AS base\nCOPY a.py /app/\nUSER 1000\nCMD python é";
        let file = Dockerfile::parse(text, &Limits::DEFAULT).unwrap();
        let stage = &file.stages[0];
        assert_eq!(&text[stage.base.span.range()], "python");
        let instructions: Vec<_> = stage.instructions.iter().map(|one| &text[one.span.range()]).collect();
        assert_eq!(instructions, ["COPY a.py /app/", "USER 1000", "CMD python é"]);
        assert_eq!(&text[file.cmd().unwrap().span().range()], "python é");
    }

    #[test]
    fn a_broken_dockerfile_is_one_error_with_its_place() {
        let error = Dockerfile::parse("FROM x\nENTRYPONT [\"a\"]\n", &Limits::DEFAULT).unwrap_err();
        assert!(error.message.starts_with("not a valid Dockerfile"), "{}", error.message);
        assert_eq!(error.span.start, 7);
    }
}
