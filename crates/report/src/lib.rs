//! What `bedplate check` prints: one [`Report`] a format.
//!
//! A report never holds findings. Workers render files side by side with [`Report::file`]; the
//! caller writes the pieces in the order of the files:
//!
//! ```text
//!   begin  file ─ separator ─ file ─ separator ─ file  end
//! ```
//!
//! A file without anything to say gives an empty string, which takes no separator.

pub mod chart;
mod excerpt;
mod github;
mod html;
mod json;
mod junit;
pub mod policy;
mod sarif;
mod summary;
mod text;

use std::fmt;
use std::str::FromStr;

use bedplate_guarantees::Checked;

pub use html::{Section, page};
pub use json::json_schema;
pub use summary::{Counts, Summary};

/// How findings are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// For people at a terminal: excerpts as rustc shows them.
    #[default]
    Text,
    /// One object, as [`json_schema`] describes it.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit's XML.
    Junit,
    /// GitHub's workflow commands.
    Github,
    /// One page with everything in it.
    Html,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Text, Self::Json, Self::Sarif, Self::Junit, Self::Github, Self::Html];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Sarif => "sarif",
            Self::Junit => "junit",
            Self::Github => "github",
            Self::Html => "html",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What can be wrong with what a caller asks for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReportError {
    /// No format has this name.
    #[error("`{0}` is no format; use one of {list}", list = Format::ALL.map(Format::name).join(", "))]
    UnknownFormat(String),
}

impl FromStr for Format {
    type Err = ReportError;

    fn from_str(name: &str) -> Result<Self, ReportError> {
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| ReportError::UnknownFormat(name.to_owned()))
    }
}

/// A checked file, for as long as it takes to render it.
#[derive(Clone, Copy, Debug)]
pub struct FileView<'a> {
    /// The path as it is shown.
    pub path: &'a str,
    /// The text that was checked.
    pub text: &'a str,
    /// What came of it.
    pub checked: &'a Checked,
}

/// A format's writer. It has no state: the same input gives the same text in any thread.
pub trait Report: Sync {
    /// What stands before the first file.
    fn begin(&self) -> String;

    /// One file; empty where there is nothing to say about it.
    fn file(&self, file: &FileView<'_>) -> String;

    /// What stands between two files that were not empty.
    fn separator(&self) -> &'static str {
        ""
    }

    /// What stands after the last file.
    fn end(&self, summary: &Summary) -> String;
}

/// The writer of a format. `color` is for [`Format::Text`] only: whether to write ANSI escape
/// codes. `version` is the version of the program, for formats that name their producer.
#[must_use]
pub fn report(format: Format, color: bool, version: &'static str) -> Box<dyn Report> {
    match format {
        Format::Text => Box::new(text::Text::new(color)),
        Format::Json => Box::new(json::Json { version }),
        Format::Sarif => Box::new(sarif::Sarif::new(version)),
        Format::Junit => Box::new(junit::Junit),
        Format::Github => Box::new(github::Github),
        Format::Html => Box::new(html::Html { version }),
    }
}

#[cfg(test)]
mod tests;
