//! Where findings stand in a text, and the few lines around them. Every format gets its
//! positions and excerpts here.

use std::borrow::Cow;
use std::ops::Range;

use bedplate_guarantees::Located;
use bedplate_model::document::Position;
use bedplate_model::{FieldPath, LineIndex, Place, Span};

/// A line longer than this, in bytes, is shown in part: minified JSON is one line of megabytes.
const LONGEST_LINE: usize = 240;
/// How many bytes of a long line stand before the marked ones.
const BEFORE: usize = 60;

/// A text whose places are looked up.
pub(crate) struct Text<'a> {
    text: &'a str,
    lines: LineIndex<'a>,
}

/// A few lines with a mark in them.
#[derive(Debug)]
pub(crate) struct Excerpt<'a> {
    /// The number of the first line, from 1.
    pub(crate) first_line: usize,
    /// The lines.
    pub(crate) text: Cow<'a, str>,
    /// The bytes of `text` that are marked.
    pub(crate) mark: Range<usize>,
    /// Which bytes of the whole text it shows, unless it is part of a long line.
    pub(crate) source: Option<Range<usize>>,
}

impl Excerpt<'_> {
    /// Each line with its number and the bytes of it that are marked.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str, Option<Range<usize>>)> {
        let mut start = 0;
        self.text.split_inclusive('\n').zip(self.first_line..).map(move |(whole, number)| {
            let line = whole.trim_end_matches(['\n', '\r']);
            let Range { start: from, end: to } = self.mark;
            let marked = start <= from && to <= start + line.len();
            let mark = marked.then(|| from - start..to - start);
            start += whole.len();
            (number, line, mark)
        })
    }

    /// Where bytes of the whole text stand in the excerpt, when it shows them.
    pub(crate) fn find(&self, bytes: &Range<usize>) -> Option<Range<usize>> {
        let source = self.source.as_ref()?;
        (source.start <= bytes.start && bytes.end <= source.end)
            .then(|| bytes.start - source.start..bytes.end - source.start)
    }
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, lines: LineIndex::new(text) }
    }

    /// A span as bytes that are there and fall on characters.
    pub(crate) fn clamp(&self, span: Span) -> Range<usize> {
        if !span.is_some() {
            return 0..0;
        }
        let down = |offset: u32| {
            let mut offset = (offset as usize).min(self.text.len());
            while !self.text.is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        let start = down(span.start);
        start..down(span.end).max(start)
    }

    /// Where a span starts and ends, in characters.
    pub(crate) fn positions(&self, span: Span) -> (Position, Position) {
        let bytes = self.clamp(span);
        (self.lines.position(bytes.start as u32), self.lines.position(bytes.end as u32))
    }

    /// Where a span starts and ends, in UTF-16 code units.
    pub(crate) fn utf16(&self, span: Span) -> [Position; 2] {
        let bytes = self.clamp(span);
        [bytes.start, bytes.end].map(|offset| {
            let at = self.lines.position(offset as u32);
            // A character of four bytes is two code units.
            let before = &self.text.as_bytes()[self.lines.start(at.line).min(offset)..offset];
            Position { column: at.column + before.iter().filter(|byte| **byte >= 0xf0).count(), ..at }
        })
    }

    /// The line that a span starts in.
    pub(crate) fn line(&self, span: Span) -> &'a str {
        self.lines.text(self.lines.line(self.clamp(span).start as u32))
    }

    /// The lines of a span and one on either side. Where the span has many lines, the first is
    /// enough to find it by.
    pub(crate) fn excerpt(&self, span: Span) -> Excerpt<'a> {
        let bytes = self.clamp(span);
        let line = self.lines.line(bytes.start as u32);
        let (mut start, mut end) = self.bounds(line);
        let mark = bytes.start.clamp(start, end)..bytes.end.clamp(start, end);
        if end - start > LONGEST_LINE {
            return self.part(line, start..end, mark);
        }
        let mut first_line = line;
        if line > 1 {
            let before = self.bounds(line - 1);
            if shown(&self.text[before.0..before.1]) {
                (first_line, start) = (line - 1, before.0);
            }
        }
        if line < self.lines.count() {
            let after = self.bounds(line + 1);
            if shown(&self.text[after.0..after.1]) {
                end = after.1;
            }
        }
        Excerpt {
            first_line,
            text: Cow::Borrowed(&self.text[start..end]),
            mark: mark.start - start..mark.end - start,
            source: Some(start..end),
        }
    }

    /// The piece of a long line around its mark.
    fn part(&self, line: usize, whole: Range<usize>, mark: Range<usize>) -> Excerpt<'a> {
        let down = |mut offset: usize| {
            while !self.text.is_char_boundary(offset) {
                offset -= 1;
            }
            offset
        };
        let start = down(mark.start.saturating_sub(BEFORE).max(whole.start));
        let end = down((start + LONGEST_LINE).min(whole.end));
        let mut text = String::with_capacity(end - start + 6);
        let cut = if start > whole.start { "..." } else { "" };
        text.push_str(cut);
        text.push_str(&self.text[start..end]);
        if end < whole.end {
            text.push_str("...");
        }
        let shift = |offset: usize| offset.min(end) - start + cut.len();
        Excerpt { first_line: line, text: Cow::Owned(text), mark: shift(mark.start)..shift(mark.end), source: None }
    }

    /// The bytes of a line without its line end and without a byte-order mark.
    fn bounds(&self, line: usize) -> (usize, usize) {
        let text = self.lines.text(line);
        let start = self.lines.start(line);
        let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        (start + mark, start + text.len())
    }
}

/// Whether a line helps to recognise the one beside it.
fn shown(line: &str) -> bool {
    !line.trim().is_empty() && line.len() <= LONGEST_LINE && line != "---"
}

/// A character, or what stands for it where it is a control character: XML 1.0 cannot hold it,
/// and nobody can read it.
pub(crate) const fn visible(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        _ => c,
    }
}

/// The field that a finding is about, where it is about one.
pub(crate) fn field(located: &Located) -> Option<&FieldPath> {
    match &located.finding.place {
        Place::Path(path) | Place::Inside(path, _) if !path.0.is_empty() => Some(path),
        _ => None,
    }
}

/// The subject and the field, as people name them: `PyTorchJob research/x, spec.a.b`.
pub(crate) fn whereabouts(located: &Located) -> String {
    let subject = located.finding.subject.to_string();
    match field(located) {
        Some(path) if subject.is_empty() => path.to_string(),
        Some(path) => format!("{subject}, {path}"),
        None => subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, marked: &str) -> (usize, String, String) {
        let start = text.find(marked).unwrap();
        let excerpt = Text::new(text).excerpt(Span::new(start, start + marked.len()));
        (excerpt.first_line, excerpt.text.to_string(), excerpt.text[excerpt.mark.clone()].to_owned())
    }

    #[test]
    fn an_excerpt_has_a_line_on_either_side() {
        assert_eq!(excerpt("a: 1\nb: 2\nc: 3\nd: 4\n", "3"), (2, "b: 2\nc: 3\nd: 4".to_owned(), "3".to_owned()));
        assert_eq!(excerpt("a: 1\r\nb: 2\r\n", "1"), (1, "a: 1\r\nb: 2".to_owned(), "1".to_owned()));
        assert_eq!(excerpt("a: 1\n---\n\u{feff}b: 2\n---\n", "2"), (3, "b: 2".to_owned(), "2".to_owned()));
    }

    #[test]
    fn many_lines_are_marked_by_their_first() {
        assert_eq!(excerpt("a:\n  b: 1\n  c: 2\n", "b: 1\n  c: 2").2, "b: 1");
    }

    #[test]
    fn minified_json_is_not_shown_whole() {
        let text = format!("{{\"a\":\"{}\",\"gpu\":64,\"b\":\"{}\"}}", "é".repeat(500_000), "é".repeat(500_000));
        let (line, shown, marked) = excerpt(&text, "64");
        assert_eq!((line, marked.as_str()), (1, "64"));
        assert!(shown.len() < 300 && shown.starts_with("...") && shown.ends_with("..."), "{shown}");
    }

    #[test]
    fn a_span_that_is_not_there_is_not_an_index() {
        for text in ["", "é", "a\n"] {
            for span in [Span::NONE, Span::new(0, 0), Span::new(1, 1), Span::new(7, 9), Span::new(1, 0)] {
                let excerpt = Text::new(text).excerpt(span);
                assert!(excerpt.text.get(excerpt.mark.clone()).is_some(), "{text:?} {span:?} {excerpt:?}");
            }
        }
    }
}
