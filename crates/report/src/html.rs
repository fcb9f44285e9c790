//! One page that needs nothing else: no script, no font, no image. The numbers come last, when
//! they are known, and are shown first.

use bedplate_guarantees::{Located, find};
use bedplate_model::{Confidence, Guarantee, Safety, Span};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::excerpt::{Text, visible, whereabouts};
use crate::{FileView, Report, Summary, text};

const STYLE: &str = include_str!("html.css");
/// Nothing is loaded and nothing runs, whatever the files say.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(crate) struct Html {
    pub(crate) version: &'static str,
}

/// A part of a page: what it is about, its tables (rows of cells, of which the first is the heading), and what is to be
/// known of them.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// What it is about; none for the only part of a page.
    pub heading: String,
    /// Tables, one below the other.
    pub tables: Vec<Vec<Vec<String>>>,
    /// A sentence each.
    pub notes: Vec<String>,
}

/// A page of tables below a picture, which needs nothing else either. `picture`: [`crate::chart::Chart::svg`].
#[must_use]
pub fn page(title: &str, version: &str, picture: &str, sections: &[Section]) -> String {
    let markup = html! {
        (head(title, version))
        body {
            header { h1 { (title) } }
            figure { (PreEscaped(picture)) }
            @for Section { heading, tables, notes } in sections {
                section {
                    @if !heading.is_empty() { h2 { (shown(heading)) } }
                    @for rows in tables {
                        @if let Some((names, rows)) = rows.split_first() {
                            table {
                                thead { tr { @for name in names { th { (shown(name)) } } } }
                                tbody {
                                    @for row in rows {
                                        tr {
                                            @for (at, cell) in row.iter().enumerate() {
                                                @if at == 0 { th scope="row" { (shown(cell)) } } @else { td { (shown(cell)) } }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    @for note in notes { p { (shown(note)) } }
                }
            }
        }
    };
    markup.into_string() + "\n"
}

fn head(title: &str, version: &str) -> Markup {
    html! {
        (DOCTYPE)
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="generator" content={ "bedplate " (version) };
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

impl Report for Html {
    fn begin(&self) -> String {
        // The body stays open until the end.
        format!("{}\n<body>\n", head("bedplate check", self.version).into_string())
    }

    fn file(&self, file: &FileView<'_>) -> String {
        if file.checked.findings.is_empty() && file.checked.skipped.is_none() {
            return String::new();
        }
        let text = Text::new(file.text);
        let markup = html! {
            section {
                h2 { (shown(file.path)) }
                @if let Some(why) = file.checked.skipped {
                    p { "Skipped: " (text::skipped(why)) }
                }
                @for located in &file.checked.findings {
                    (finding(file.path, &text, located))
                }
            }
        };
        markup.into_string() + "\n"
    }

    fn end(&self, summary: &Summary) -> String {
        let markup = html! {
            header {
                h1 { "bedplate check" }
                p { (summary.line()) }
                table {
                    thead {
                        tr { th { "Guarantee" } th { "Errors" } th { "Warnings" } th { "Infos" } }
                    }
                    tbody {
                        @for (guarantee, counts) in Guarantee::ALL.into_iter().zip(&summary.guarantees) {
                            tr.clean[counts.total() == 0] {
                                th scope="row" { (guarantee.name()) small { (guarantee.sentence()) } }
                                td { (counts.errors) }
                                td { (counts.warnings) }
                                td { (counts.infos) }
                            }
                        }
                    }
                }
                p.show {
                    @for severity in ["error", "warning", "info"] {
                        label { input id={ "show-" (severity) } type="checkbox" checked; " " (severity) "s" }
                    }
                }
            }
        };
        format!("{}\n</body>\n</html>\n", markup.into_string())
    }
}

fn finding(path: &str, text: &Text<'_>, located: &Located) -> Markup {
    let finding = &located.finding;
    let guarantee = find(finding.rule).map(|rule| rule.guarantee);
    html! {
        article class={ (finding.severity) } {
            h3 {
                span.severity { (finding.severity) } " " code { (finding.rule) } " "
                (shown(&finding.message))
            }
            (place(path, text, located.span, finding.label.as_deref()))
            @for (span, label) in &located.related {
                (place(path, text, *span, Some(label)))
            }
            dl {
                @let whereabouts = whereabouts(located);
                @if !whereabouts.is_empty() { dt { "in" } dd { (shown(&whereabouts)) } }
                @if let Some(guarantee) = guarantee { dt { "guarantee" } dd { (guarantee.sentence()) } }
                @if finding.confidence != Confidence::High { dt { "confidence" } dd { (finding.confidence) } }
                @for note in &finding.notes { dt { "note" } dd { (shown(note)) } }
                @if let Some(fix) = &finding.fix {
                    dt { "help" }
                    dd {
                        (shown(&fix.help))
                        @if !fix.edits.is_empty() {
                            @match fix.safety {
                                Safety::Safe => small { "bedplate check --fix does it" },
                                Safety::Unsafe => small { "bedplate check --fix --unsafe-fixes does it" },
                                Safety::Manual => {}
                            }
                        }
                    }
                }
            }
        }
    }
}

fn place(path: &str, text: &Text<'_>, span: Span, label: Option<&str>) -> Markup {
    let (start, _) = text.positions(span);
    let excerpt = text.excerpt(span);
    html! {
        figure {
            figcaption { (shown(path)) ":" (start.line) ":" (start.column) }
            pre {
                @for (number, line, mark) in excerpt.lines() {
                    span.line { (number) }
                    @if let Some(mark) = mark {
                        (shown(&line[..mark.start])) mark { (shown(&line[mark.clone()])) } (shown(&line[mark.end..]))
                        @if let Some(label) = label { span.label { (shown(label)) } }
                    } @else {
                        (shown(line))
                    }
                    "\n"
                }
            }
        }
    }
}

/// Text of a file, for maud to escape.
fn shown(text: &str) -> String {
    text.chars().map(visible).collect()
}
