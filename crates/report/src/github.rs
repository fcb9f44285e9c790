//! GitHub's workflow commands: each finding becomes an annotation of the change
//! ("Workflow commands for GitHub Actions", `actions/toolkit` `packages/core/src/command.ts`).

use std::fmt::Write;

use bedplate_model::Severity;

use crate::excerpt::{Text, visible, whereabouts};
use crate::{FileView, Report, Summary, text};

pub(crate) struct Github;

impl Report for Github {
    fn begin(&self) -> String {
        String::new()
    }

    fn file(&self, file: &FileView<'_>) -> String {
        let mut out = String::new();
        let path = property(file.path);
        if let Some(why) = file.checked.skipped {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "::notice file={path},title=skipped::{}", data(text::skipped(why)));
        }
        if file.checked.findings.is_empty() {
            return out;
        }
        let text = Text::new(file.text);
        for located in &file.checked.findings {
            let finding = &located.finding;
            let command = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Info => "notice",
            };
            let (start, end) = text.positions(located.span);
            let _ =
                write!(out, "::{command} file={path},line={},endLine={},col={}", start.line, end.line, start.column);
            // Columns of more than one line are refused.
            if start.line == end.line {
                let _ = write!(out, ",endColumn={}", end.column);
            }
            let mut message = finding.message.clone();
            let whereabouts = whereabouts(located);
            if !whereabouts.is_empty() {
                let _ = write!(message, "\nin {whereabouts}");
            }
            for note in &finding.notes {
                let _ = write!(message, "\nnote: {note}");
            }
            if let Some(fix) = &finding.fix {
                let _ = write!(message, "\nhelp: {}", fix.help);
            }
            let _ = writeln!(out, ",title={}::{}", property(finding.rule), data(&message));
        }
        out
    }

    fn end(&self, summary: &Summary) -> String {
        format!("{}\n", summary.line())
    }
}

fn data(text: &str) -> String {
    let text: String = text.chars().map(visible).collect();
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
