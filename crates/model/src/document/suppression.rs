//! `# bedplate: ignore[rule] reason` in any file whose comments start with `#`.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::LineIndex;
use crate::value::{Node, Span, Value};

/// One rule that a comment asks to ignore.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppression {
    /// The rule's name as it is written.
    pub rule: String,
    /// Why; empty where nothing was given, which is an error of its own.
    pub reason: String,
    /// The comment.
    pub span: Span,
    /// The line (from 1) that it speaks of: its own, or the next one with text for a comment
    /// that has a line to itself.
    pub line: usize,
}

const MARKER: &str = "bedplate: ignore[";

/// Every suppression of a text. Costs one search where there is none.
#[must_use]
pub fn find(text: &str) -> Vec<Suppression> {
    let mut found = Vec::new();
    static FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(MARKER));
    let mut hits = FINDER.find_iter(text.as_bytes()).peekable();
    if hits.peek().is_none() {
        return found;
    }
    let lines = LineIndex::new(text);
    for at in hits {
        let number = lines.line(at as u32);
        let start = lines.start(number);
        let line = lines.text(number);
        let Some(hash) = text[start..at].rfind('#').filter(|hash| text[start + hash + 1..at].trim().is_empty()) else {
            continue;
        };
        let after = &line[at - start + MARKER.len()..];
        let Some((rules, reason)) = after.split_once(']') else { continue };
        let alone = line[..hash].trim().is_empty();
        let target = if alone {
            (number + 1..=lines.count())
                .find(|n| !matches!(lines.text(*n).trim(), "") && !lines.text(*n).trim().starts_with('#'))
                .unwrap_or(number)
        } else {
            number
        };
        let span = Span::new(start + hash, start + line.len());
        let reason = reason.trim_start_matches([':', '-', ' ']).trim();
        found.extend(rules.split(',').map(|rule| Suppression {
            rule: rule.trim().to_owned(),
            reason: reason.to_owned(),
            span,
            line: target,
        }));
    }
    found
}

/// The bytes of the outermost value that starts on a line: the key and its value, the item of
/// a list, or the whole document where its first line is meant.
#[must_use]
pub fn scope(root: &Node<'_>, lines: &LineIndex<'_>, line: usize) -> Option<Span> {
    let starts = |span: Span| span.is_some() && lines.line(span.start) == line;
    if starts(root.span) {
        return Some(root.span);
    }
    match &root.value {
        Value::Map(entries) => entries.iter().find_map(|entry| {
            if starts(entry.key_span) {
                Some(Span { start: entry.key_span.start, end: entry.value.span.end.max(entry.key_span.end) })
            } else {
                scope(&entry.value, lines, line)
            }
        }),
        Value::Seq(items) => items.iter().find_map(|item| scope(item, lines, line)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, parse};
    use super::*;

    #[test]
    fn a_comment_speaks_of_its_own_line_or_of_the_next() {
        let text = "kind: Job # bedplate: ignore[a, b] nightly test\nspec:\n  # bedplate: ignore[c]\n\n  # why\n  x:\n    y: 1\n";
        let found = find(text);
        let short: Vec<_> = found.iter().map(|s| (s.rule.as_str(), s.reason.as_str(), s.line)).collect();
        assert_eq!(short, [("a", "nightly test", 1), ("b", "nightly test", 1), ("c", "", 6)]);
        let parsed = parse(text, &Limits::DEFAULT);
        let span = scope(&parsed.documents[0].root, &LineIndex::new(text), 6).unwrap();
        assert_eq!(&text[span.range()], "x:\n    y: 1");
    }

    #[test]
    fn the_marker_in_a_value_is_no_comment() {
        assert_eq!(find("a: \"bedplate: ignore[x] y\"\n"), []);
    }
}
