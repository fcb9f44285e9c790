//! YAML and JSON into trees, with every value's bytes.
//!
//! The text is cut into documents at its `---` lines before anything is parsed, as kubectl
//! does (`k8s.io/apimachinery/pkg/util/yaml`), so that a broken document costs only itself.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, StructureStyle};
use memchr::memmem::Finder;

use super::{Limits, SyntaxError, block};
use crate::value::{Entry, Node, Span, Style, Value};
use crate::workload::strings;

/// One document of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Document<'t> {
    /// Its tree. Spans are offsets into the whole file.
    pub root: Node<'t>,
    /// Where the document stands in the file: from its `---` line to the next.
    pub span: Span,
}

/// A file's documents, and what could not be read of it.
#[derive(PartialEq, Debug, Default)]
pub struct Parsed<'t> {
    /// The documents that could be read, in order. Empty ones are left out.
    pub documents: Vec<Document<'t>>,
    /// At most one error for each document that could not.
    pub errors: Vec<SyntaxError>,
}

/// Reads a text of any number of YAML or JSON documents. Never fails as a whole: what could
/// not be read is in [`Parsed::errors`].
#[must_use]
pub fn parse<'t>(text: &'t str, limits: &Limits) -> Parsed<'t> {
    parse_some(text, limits, |_| true)
}

/// Reads of a text only the documents whose text is `wanted`.
#[must_use]
pub(super) fn parse_some<'t>(text: &'t str, limits: &Limits, wanted: impl Fn(&str) -> bool) -> Parsed<'t> {
    parse_with(text, limits, |range| {
        if !wanted(&text[range.clone()]) {
            return Ok(Vec::new());
        }
        match block::parse(text, range.clone(), limits) {
            Some(roots) => Ok(roots),
            None => Builder::new(text, range, limits).run(),
        }
    })
}

/// What [`parse`] gives, without its fast path: for the tests and the fuzzing that compare the two.
#[must_use]
pub fn parse_slowly<'t>(text: &'t str, limits: &Limits) -> Parsed<'t> {
    parse_with(text, limits, |range| Builder::new(text, range, limits).run())
}

fn parse_with<'t>(
    text: &'t str,
    limits: &Limits,
    document: impl Fn(Range<usize>) -> Result<Vec<Node<'t>>, SyntaxError>,
) -> Parsed<'t> {
    let mut parsed = Parsed::default();
    if text.len() > limits.bytes {
        parsed.errors.push(SyntaxError {
            message: format!("file is {}, more than the limit of {}", mib(text.len()), mib(limits.bytes)),
            span: Span::new(0, 0),
            help: Some("split it into smaller files".to_owned()),
        });
        return parsed;
    }
    for range in cut(text) {
        let span = Span::new(range.start, range.end);
        match document(range) {
            Ok(roots) => parsed.documents.extend(roots.into_iter().map(|mut root| {
                strings::unfold(&mut root, text);
                Document { root, span }
            })),
            Err(error) => parsed.errors.push(error),
        }
    }
    parsed
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The ranges of the documents. A `---` line at column 0 can only be a document marker: no
/// YAML scalar may contain one.
pub(super) fn cut(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut start = super::beginning(text);
    let mut ranges = Vec::new();
    static MARKER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\n---"));
    for at in MARKER.find_iter(bytes) {
        if matches!(bytes.get(at + 4), None | Some(b'\n' | b'\r' | b' ' | b'\t')) {
            ranges.push(start..at + 1);
            start = at + 1;
        }
    }
    ranges.push(start..text.len());
    ranges
}

/// Collections that are still open.
enum Open<'t> {
    Seq {
        items: Vec<Node<'t>>,
        start: usize,
        style: Style,
        anchor: usize,
    },
    Map {
        entries: Vec<Entry<'t>>,
        key: Option<(Cow<'t, str>, Span)>,
        start: usize,
        style: Style,
        anchor: usize,
        merge: bool,
    },
}

struct Builder<'a> {
    text: &'a str,
    range: Range<usize>,
    limits: Limits,
    stack: Vec<Open<'a>>,
    anchors: Vec<(usize, Node<'a>, usize)>,
    roots: Vec<Node<'a>>,
    nodes: usize,
    alias_nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(text: &'a str, range: Range<usize>, limits: &Limits) -> Self {
        Self {
            text,
            range,
            limits: *limits,
            stack: Vec::new(),
            anchors: Vec::new(),
            roots: Vec::new(),
            nodes: 0,
            alias_nodes: 0,
        }
    }

    fn run(mut self) -> Result<Vec<Node<'a>>, SyntaxError> {
        let mut options = Options::default();
        options.flow_nesting_limit = self.limits.depth;
        options.block_nesting_limit = self.limits.depth;
        options.set_emit_comments(false);
        let slice = &self.text[self.range.clone()];
        for event in Parser::new_from_str_with_options(slice, options) {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            let bytes = span.byte_range().unwrap_or(0..0);
            self.event(event, self.range.start + bytes.start, self.range.start + bytes.end)?;
        }
        Ok(self.roots)
    }

    fn event(&mut self, event: Event<'a>, start: usize, end: usize) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let (value, style) = scalar(text, style, tag.as_ref().map(|tag| tag.suffix()));
                // Nothing written, nothing to point at but the place.
                let end = if style == Style::Literal || style == Style::Folded {
                    start + self.text[start..end].trim_end().len()
                } else {
                    end
                };
                self.add(Node { value, span: Span::new(start, end), style }, anchor)
            }
            Event::SequenceStart(style, anchor, _) => {
                self.deep(start)?;
                self.stack.push(Open::Seq { items: Vec::new(), start, style: structure(style), anchor });
                Ok(())
            }
            Event::MappingStart(style, anchor, _) => {
                self.deep(start)?;
                self.stack.push(Open::Map {
                    entries: Vec::new(),
                    key: None,
                    start,
                    style: structure(style),
                    anchor,
                    merge: false,
                });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(end),
            Event::Alias(id) => self.alias(id, start, end),
            _ => Ok(()),
        }
    }

    fn deep(&self, at: usize) -> Result<(), SyntaxError> {
        if self.stack.len() < self.limits.depth {
            return Ok(());
        }
        Err(SyntaxError {
            message: format!("nested deeper than {} levels", self.limits.depth),
            span: Span::new(at, at),
            help: None,
        })
    }

    fn close(&mut self, end: usize) -> Result<(), SyntaxError> {
        match self.stack.pop() {
            Some(Open::Seq { items, start, style, anchor }) => {
                let end = if style == Style::Flow { end } else { items.last().map_or(start, |n| n.span.end as usize) };
                self.add(Node { value: Value::Seq(items), span: Span::new(start, end.max(start)), style }, anchor)
            }
            Some(Open::Map { mut entries, start, style, anchor, merge, .. }) => {
                let end = match entries.last() {
                    Some(last) if style != Style::Flow => last.value.span.end.max(last.key_span.end) as usize,
                    _ => end,
                };
                if merge {
                    merge_keys(&mut entries)?;
                }
                duplicates(&entries)?;
                self.add(Node { value: Value::Map(entries), span: Span::new(start, end.max(start)), style }, anchor)
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, node: Node<'a>, anchor: usize) -> Result<(), SyntaxError> {
        self.nodes += 1;
        if self.nodes + self.alias_nodes > self.limits.nodes {
            return Err(SyntaxError {
                message: format!("more than {} values in one document", self.limits.nodes),
                span: node.span,
                help: Some("split it into smaller documents".to_owned()),
            });
        }
        if anchor != 0 {
            let size = count(&node);
            self.anchors.push((anchor, node.clone(), size));
        }
        match self.stack.last_mut() {
            None => {
                if node.value != Value::Null {
                    self.roots.push(node);
                }
            }
            Some(Open::Seq { items, .. }) => items.push(node),
            Some(Open::Map { entries, key, merge, .. }) => match key.take() {
                None => {
                    let span = node.span;
                    let Some(text) = key_text(node.value) else {
                        return Err(SyntaxError {
                            message: "a key is a list or a mapping, Kubernetes takes strings only".to_owned(),
                            span,
                            help: Some("a value that starts with `{{` or `{` needs quotes".to_owned()),
                        });
                    };
                    *key = Some((text, span));
                }
                Some((key, key_span)) => {
                    *merge |= &*key == "<<";
                    // An empty value stands right behind its key, not on the next line.
                    let value = if node.span.start == node.span.end && node.value == Value::Null {
                        Node { span: Span { start: key_span.end, end: key_span.end }, ..node }
                    } else {
                        node
                    };
                    entries.push(Entry { key, key_span, value });
                }
            },
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, start: usize, end: usize) -> Result<(), SyntaxError> {
        let Some((_, node, size)) = self.anchors.iter().rev().find(|(anchor, ..)| *anchor == id) else {
            return Err(SyntaxError {
                message: "an alias refers to the value that it stands in".to_owned(),
                span: Span::new(start, end),
                help: Some("write the value out".to_owned()),
            });
        };
        self.alias_nodes += size;
        if self.alias_nodes > self.limits.alias_nodes {
            return Err(SyntaxError {
                message: format!("aliases expand to more than {} values (a YAML bomb)", self.limits.alias_nodes),
                span: Span::new(start, end),
                help: Some("write the values out, or use fewer nested aliases".to_owned()),
            });
        }
        let node = node.clone();
        self.add(node, 0)
    }

    fn syntax(&self, error: &ScanError) -> SyntaxError {
        let at = self.range.start + error.marker().byte_offset().unwrap_or(0);
        let at = at.min(self.range.end);
        let help = match error.kind() {
            ErrorKind::TabInBlockIndentation => "YAML indents with spaces, not with tabs",
            ErrorKind::MappingValueNotAllowed => {
                "check the indentation of this line, or put quotes round a value that has `: ` in it"
            }
            ErrorKind::UnclosedQuotedScalar => "close the quote that opens here",
            ErrorKind::UnexpectedCharacter { .. } => "put quotes round a value that starts with this character",
            ErrorKind::UnknownAnchor => "define the anchor with `&name` above, in the same document",
            _ => "",
        };
        let mut span = Span::new(at, at);
        if let Some(next) = self.text[at..].chars().next().filter(|c| *c != '\n' && *c != '\r') {
            span.end += next.len_utf8() as u32;
        }
        SyntaxError {
            message: format!("not valid YAML: {}", error.info()),
            span,
            help: (!help.is_empty()).then(|| help.to_owned()),
        }
    }
}

const fn structure(style: StructureStyle) -> Style {
    match style {
        StructureStyle::Block => Style::Block,
        StructureStyle::Flow => Style::Flow,
    }
}

fn count(node: &Node<'_>) -> usize {
    1 + match &node.value {
        Value::Seq(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
        _ => 0,
    }
}

pub(super) fn key_text(value: Value<'_>) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(b) => Some(b.to_string().into()),
        Value::Int(i) => Some(i.to_string().into()),
        Value::Float(f) => Some(f.to_string().into()),
        Value::Null => Some("null".into()),
        Value::Seq(_) | Value::Map(_) => None,
    }
}

/// `<<: *defaults` as `sigs.k8s.io/yaml` reads it: keys of the mapping itself win, then the
/// earlier of the merged ones.
fn merge_keys(entries: &mut Vec<Entry<'_>>) -> Result<(), SyntaxError> {
    let mut merged = Vec::new();
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        if &*entry.key != "<<" {
            kept.push(entry);
            continue;
        }
        let sources = match entry.value.value {
            Value::Map(entries) => vec![entries],
            Value::Seq(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => items
                .into_iter()
                .filter_map(|item| match item.value {
                    Value::Map(entries) => Some(entries),
                    _ => None,
                })
                .collect(),
            _ => {
                return Err(SyntaxError {
                    message: "a merge key (`<<`) needs a mapping or a list of mappings".to_owned(),
                    span: entry.key_span,
                    help: Some("refer to a mapping: `<<: *name`".to_owned()),
                });
            }
        };
        merged.extend(sources.into_iter().flatten());
    }
    let mut seen: HashSet<Cow<'_, str>> = kept.iter().map(|entry| entry.key.clone()).collect();
    kept.extend(merged.into_iter().filter(|entry| seen.insert(entry.key.clone())));
    *entries = kept;
    Ok(())
}

/// The API server refuses duplicate keys under strict validation and keeps the last otherwise;
/// both surprise.
pub(super) fn duplicates(entries: &[Entry<'_>]) -> Result<(), SyntaxError> {
    let twice = if entries.len() <= 16 {
        entries.iter().enumerate().find(|(i, entry)| entries[..*i].iter().any(|e| e.key == entry.key)).map(|(_, e)| e)
    } else {
        let mut seen = HashSet::with_capacity(entries.len());
        entries.iter().find(|entry| !seen.insert(&entry.key))
    };
    twice.map_or(Ok(()), |entry| {
        Err(SyntaxError {
            message: format!("duplicate key `{}`", entry.key),
            span: entry.key_span,
            help: Some("keep one of the two: which one counts depends on the reader".to_owned()),
        })
    })
}

/// A scalar by the rules of YAML 1.1 that `sigs.k8s.io/yaml` (and so kubectl) follows.
fn scalar<'t>(text: Cow<'t, str>, style: ScalarStyle, tag: Option<&str>) -> (Value<'t>, Style) {
    let style = match style {
        ScalarStyle::Plain => Style::Block,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
        _ => Style::Quoted,
    };
    let value = match (style, tag) {
        (Style::Block, None) | (_, Some("int" | "float" | "bool" | "null")) => plain(&text),
        _ => None,
    };
    (value.unwrap_or(Value::String(text)), style)
}

/// The value of a plain scalar that is not a string.
pub(super) fn plain(text: &str) -> Option<Value<'static>> {
    match text.as_bytes().first() {
        None => return Some(Value::Null),
        Some(b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'y' | b'Y' | b'o' | b'O') => {
            // The longest of the words has five letters.
            if text.len() > 5 {
                return None;
            }
            return match text {
                "~" | "null" | "Null" | "NULL" => Some(Value::Null),
                "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(Value::Bool(true)),
                "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(Value::Bool(false)),
                _ => None,
            };
        }
        Some(b'0'..=b'9' | b'+' | b'-' | b'.') => {}
        Some(_) => return None,
    }
    let digits = text.trim_start_matches(['+', '-']);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let radix = |prefix: &str, radix| {
        digits.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, radix).ok()).map(|n| Value::Int(sign * n))
    };
    if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)) {
        return Some(value);
    }
    if digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.starts_with('0') {
        return i64::from_str_radix(digits, 8).ok().map(|n| Value::Int(sign * n));
    }
    if let Ok(int) = text.parse::<i64>() {
        return Some(Value::Int(int));
    }
    match text {
        ".inf" | "+.inf" => return Some(Value::Float(f64::INFINITY)),
        "-.inf" => return Some(Value::Float(f64::NEG_INFINITY)),
        ".nan" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    // `parse` also takes words such as `infinity`; a number has only these bytes.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    (numeric && text.bytes().any(|b| b.is_ascii_digit())).then(|| text.parse().ok().map(Value::Float)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node<'_> {
        let parsed = parse(text, &Limits::DEFAULT);
        assert_eq!(parsed.errors, [], "{text}");
        parsed.documents.into_iter().next().unwrap().root
    }

    fn error(text: &str) -> SyntaxError {
        let mut parsed = parse(text, &Limits::DEFAULT);
        assert_eq!(parsed.errors.len(), 1, "{text:?}: {parsed:?}");
        parsed.errors.remove(0)
    }

    #[test]
    fn every_value_knows_its_bytes() {
        let text = "\u{feff}spec:\r\n  image: \"a:b\"\r\n  list: [1, x]\r\n";
        let root = one(text);
        let spec = root.get("spec").unwrap();
        assert_eq!(&text[spec.get("image").unwrap().span.range()], "\"a:b\"");
        assert_eq!(&text[spec.get("list").unwrap().span.range()], "[1, x]");
        assert_eq!(&text[spec.span.range()], "image: \"a:b\"\r\n  list: [1, x]");
    }

    #[test]
    fn a_broken_document_costs_only_itself() {
        let parsed = parse("a: 1\n---\nb: \"open\n---\nc: 3\n", &Limits::DEFAULT);
        assert_eq!(parsed.documents.len(), 2);
        assert_eq!(parsed.errors.len(), 1);
        assert_eq!(parsed.errors[0].span, Span::new(12, 13));
    }

    #[test]
    fn numbers_and_truth_values_are_read_as_kubectl_reads_them() {
        let root = one("a: yes\nb: 0644\nc: 1e3\nd: 1.2.3\ne: 12\nf: '12'\ng: ~\nh: -1\ni: infinity\nj: 1_000\n");
        let values: Vec<_> =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|k| root.get(k).unwrap().value.clone()).into();
        let string = |s: &'static str| Value::String(s.into());
        assert_eq!(
            values,
            [
                Value::Bool(true),
                Value::Int(420),
                Value::Float(1000.0),
                string("1.2.3"),
                Value::Int(12),
                string("12"),
                Value::Null,
                Value::Int(-1),
                string("infinity"),
            ]
        );
    }

    #[test]
    fn a_yaml_bomb_is_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..20 {
            let refs = vec![format!("*a{}", i - 1); 9].join(",");
            text.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(error(&text).message.contains("YAML bomb"));
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(!error(&deep).message.is_empty());
    }

    #[test]
    fn merge_keys_and_anchors_are_followed() {
        let root = one("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n");
        let used = root.get("use").unwrap();
        assert_eq!(used.get("x").unwrap().value, Value::Int(1));
        assert_eq!(used.get("y").unwrap().value, Value::Int(3));
        assert!(error("use:\n  <<: 3\n").message.contains("merge key"));
    }

    #[test]
    fn duplicate_keys_and_tabs_are_told_with_their_place() {
        let e = error("a: 1\nb: 2\na: 3\n");
        assert_eq!((e.message.as_str(), e.span), ("duplicate key `a`", Span::new(10, 11)));
        assert_eq!(error("a:\n\tb: 1\n").help.unwrap(), "YAML indents with spaces, not with tabs");
    }

    #[test]
    fn json_is_read_too() {
        let root = one("{\n\t\"a\": \"\\ud83d\\ude00\",\n\t\"b\": [1, null]\n}\n");
        assert_eq!(root.get("a").unwrap().as_str(), Some("😀"));
    }
}
