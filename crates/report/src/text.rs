//! For people at a terminal: excerpts as rustc shows them.

use std::fmt::Write;

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Message, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use bedplate_guarantees::Located;
use bedplate_model::document::Unrendered;
use bedplate_model::{Confidence, Severity, Span};

use crate::excerpt::{self, Excerpt, whereabouts};
use crate::{FileView, Report, Summary};

pub(crate) struct Text {
    renderer: Renderer,
}

impl Text {
    pub(crate) const fn new(color: bool) -> Self {
        Self { renderer: if color { Renderer::styled() } else { Renderer::plain() } }
    }

    fn finding(&self, path: &str, text: &excerpt::Text<'_>, located: &Located, out: &mut String) {
        let finding = &located.finding;
        let level = match finding.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Info => Level::INFO,
        };
        let title = level.primary_title(finding.message.as_str()).id(finding.rule);
        let mut group = Group::with_title(title);
        group = places(group, path, text, located);
        let whereabouts = whereabouts(located);
        if !whereabouts.is_empty() {
            group = group.element(named("in", &whereabouts));
        }
        match finding.confidence {
            Confidence::High => {}
            Confidence::Medium => {
                group = group.element(named("confidence", "medium, unless something outside the files says otherwise"));
            }
            Confidence::Low => group = group.element(named("confidence", "low, it rests on a guess")),
        }
        for note in &finding.notes {
            group = group.element(named("note", note));
        }
        if let Some(fix) = &finding.fix {
            group = group.element(Level::HELP.message(normalize_untrusted_str(&fix.help)));
        }
        out.push_str(&self.renderer.render(&[group]));
        out.push_str("\n\n");
    }
}

/// The places of a finding with their excerpts. The renderer gets a few lines, never the whole
/// text. Another place that is among the lines of the finding is marked there.
fn places<'a>(mut group: Group<'a>, path: &'a str, text: &excerpt::Text<'a>, located: &'a Located) -> Group<'a> {
    let excerpt = text.excerpt(located.span);
    // A file that could not be read has nothing to show.
    if excerpt.text.is_empty() && located.span == Span::new(0, 0) {
        return group.element(Origin::path(path));
    }
    let mut rest = Vec::new();
    let mut marks = vec![AnnotationKind::Primary.span(excerpt.mark.clone()).label(located.finding.label.as_deref())];
    for (span, label) in &located.related {
        match excerpt.find(&text.clamp(*span)) {
            Some(mark) => marks.push(AnnotationKind::Context.span(mark).label(label.as_str())),
            None => rest.push((*span, label)),
        }
    }
    group = snippet(group, path, text, located.span, located.finding.label.as_deref(), excerpt, marks);
    for (span, label) in rest {
        let excerpt = text.excerpt(span);
        let mark = AnnotationKind::Context.span(excerpt.mark.clone()).label(label.as_str());
        group = snippet(group, path, text, span, Some(label), excerpt, vec![mark]);
    }
    group
}

fn snippet<'a>(
    group: Group<'a>,
    path: &'a str,
    text: &excerpt::Text<'a>,
    span: Span,
    label: Option<&str>,
    excerpt: Excerpt<'a>,
    marks: Vec<Annotation<'a>>,
) -> Group<'a> {
    if excerpt.source.is_some() {
        let snippet = Snippet::source(excerpt.text).path(path).line_start(excerpt.first_line).fold(false);
        return group.element(snippet.annotations(marks));
    }
    // The renderer would count columns from where the long line was cut.
    let (start, _) = text.positions(span);
    let label = label.map(|label| format!(" ({label})")).unwrap_or_default();
    group
        .element(Origin::path(path).line(start.line).char_column(start.column))
        .element(named("part of a long line", &format!("{}{label}", excerpt.text)))
}

/// `= name: message`, where the message may come from a file.
fn named(name: &'static str, message: &str) -> Message<'static> {
    Level::NOTE.with_name(name).message(normalize_untrusted_str(message))
}

impl Report for Text {
    fn begin(&self) -> String {
        String::new()
    }

    fn file(&self, file: &FileView<'_>) -> String {
        let mut out = String::new();
        if let Some(why) = file.checked.skipped {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "note: {} was skipped: {}\n", normalize_untrusted_str(file.path), skipped(why));
        }
        if file.checked.findings.is_empty() {
            return out;
        }
        let text = excerpt::Text::new(file.text);
        // The renderer means to, but writes the escape codes of a path.
        let path = normalize_untrusted_str(file.path);
        for located in &file.checked.findings {
            self.finding(&path, &text, located, &mut out);
        }
        out
    }

    fn end(&self, summary: &Summary) -> String {
        format!("{}\n", summary.line())
    }
}

/// Why a file was not checked, and what to do.
pub(crate) const fn skipped(why: Unrendered) -> &'static str {
    match why {
        Unrendered::HelmTemplate => {
            "it is a Helm template; check what it renders to: `helm template CHART | bedplate check -`"
        }
    }
}
