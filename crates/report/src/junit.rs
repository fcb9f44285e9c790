//! JUnit's XML, for continuous integration that knows nothing else: a suite a file, a failing
//! case a finding.

use std::fmt::Write;

use bedplate_guarantees::Located;

use crate::excerpt::{Text, visible, whereabouts};
use crate::{FileView, Report, Summary, text};

pub(crate) struct Junit;

impl Report for Junit {
    fn begin(&self) -> String {
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"bedplate\">\n".to_owned()
    }

    fn file(&self, file: &FileView<'_>) -> String {
        let path = escape(file.path);
        let failures = file.checked.findings.len();
        let skipped = usize::from(file.checked.skipped.is_some());
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<testsuite name=\"{path}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">",
            failures.max(1)
        );
        if failures == 0 {
            let _ = write!(out, "  <testcase name=\"bedplate check\" classname=\"{path}\" file=\"{path}\"");
            let _ = match file.checked.skipped {
                Some(why) => writeln!(out, "><skipped message=\"{}\"/></testcase>", escape(text::skipped(why))),
                None => writeln!(out, "/>"),
            };
        } else {
            let text = Text::new(file.text);
            for located in &file.checked.findings {
                case(&path, &text, located, &mut out);
            }
        }
        out.push_str("</testsuite>\n");
        out
    }

    fn end(&self, _: &Summary) -> String {
        "</testsuites>\n".to_owned()
    }
}

fn case(path: &str, text: &Text<'_>, located: &Located, out: &mut String) {
    let finding = &located.finding;
    let (start, _) = text.positions(located.span);
    let whereabouts = whereabouts(located);
    let name =
        if whereabouts.is_empty() { finding.rule.to_owned() } else { format!("{}: {whereabouts}", finding.rule) };
    let mut body = String::new();
    for note in &finding.notes {
        let _ = write!(body, "\nnote: {}", escape(note));
    }
    if let Some(fix) = &finding.fix {
        let _ = write!(body, "\nhelp: {}", escape(&fix.help));
    }
    let _ = writeln!(
        out,
        "  <testcase name=\"{}\" classname=\"{path}\" file=\"{path}\" line=\"{}\">\n    \
         <failure type=\"{}\" message=\"{}\">{path}:{}:{}{body}</failure>\n  </testcase>",
        escape(&name),
        start.line,
        finding.severity,
        escape(&finding.message),
        start.line,
        start.column,
    );
}

/// Text as XML, in attributes too. XML 1.0 has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(visible) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            _ => out.push(c),
        }
    }
    out
}
