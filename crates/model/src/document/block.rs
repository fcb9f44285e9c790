//! The YAML of every day, fast: block mappings and sequences, scalars and flow collections on one line, literal
//! blocks. It gives exactly the tree that the YAML library gives, or nothing: whatever is unusual, and
//! whatever could be wrong, is left to the library, so that there is one judge of what is valid and one wording of
//! each error. `fuzz/fuzz_targets/documents.rs` and the tests below hold the two against each other.
//!
//! Most of the time of `check` went into scanning text one character at a time; this reads it by lines.

use std::borrow::Cow;
use std::ops::Range;

use super::Limits;
use super::yaml::{duplicates, key_text, plain};
use crate::value::{Entry, Node, Span, Style, Value};

/// Deeper than any manifest. What is deeper costs only the library's time.
const DEPTH: usize = 64;

/// A longer key is no simple key (YAML 1.2.2, section 7.4.2, allows 1,024).
const KEY: usize = 512;

/// The root of the document at `range`, or no root where it is empty; `None` where the library has to read it.
pub(super) fn parse<'t>(text: &'t str, range: Range<usize>, limits: &Limits) -> Option<Vec<Node<'t>>> {
    let bytes = text.as_bytes().get(..range.end)?;
    // Tabs, carriage returns and control characters have rules of their own. Without an early end, many bytes are
    // looked at at once.
    let usual = |all: bool, byte: &u8| all & matches!(byte, b' '..=b'~' | b'\n');
    if !bytes[range.start..].iter().fold(true, usual) && !text[range.clone()].chars().all(is_usual) {
        return None;
    }
    let at = range.start;
    let mut reader =
        Reader { text, bytes, at, line: at, nodes: 0, limits: *limits, items: Vec::new(), entries: Vec::new() };
    if bytes[range.start..].starts_with(b"---") {
        reader.at += 3;
        reader.end_of_line()?;
    }
    let Some(first) = reader.next_line()? else { return Some(Vec::new()) };
    let root = reader.block(first, DEPTH)?;
    // Something at a column where nothing can go on.
    reader.next_line()?.is_none().then(|| vec![root])
}

struct Reader<'t> {
    text: &'t str,
    /// The text up to the end of the document.
    bytes: &'t [u8],
    /// Where the next byte is. Between collections: at a line's beginning, or at the first character of its content.
    at: usize,
    /// Where the line of the next byte begins.
    line: usize,
    nodes: usize,
    limits: Limits,
    /// What the open sequences hold so far, the innermost's last: each is cut off once its length is known.
    items: Vec<Node<'t>>,
    /// The same of the open mappings.
    entries: Vec<Entry<'t>>,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn peek_second(&self) -> Option<u8> {
        self.bytes.get(self.at + 1).copied()
    }

    fn blank_ahead(&self, offset: usize) -> bool {
        matches!(self.bytes.get(self.at + offset), None | Some(b' ' | b'\n'))
    }

    fn spaces(&mut self) {
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    }

    /// Past the spaces and the comment that may end a line, and the line's end. `None`: something else is there.
    fn end_of_line(&mut self) -> Option<()> {
        self.spaces();
        match self.peek() {
            None => {}
            Some(b'\n') => self.at += 1,
            // A comment needs a space in front, but at the beginning of a line.
            Some(b'#') if self.at == self.line || self.bytes[self.at - 1] == b' ' => {
                self.at = (self.line_end(self.at) + 1).min(self.bytes.len());
            }
            Some(_) => return None,
        }
        self.line = self.at;
        Some(())
    }

    fn line_end(&self, from: usize) -> usize {
        memchr::memchr(b'\n', &self.bytes[from..]).map_or(self.bytes.len(), |found| from + found)
    }

    /// Goes to the content of the next line that has any, from a line's beginning or from such content, and gives
    /// its column; no column at the end of the document. `None`: a document marker.
    fn next_line(&mut self) -> Option<Option<usize>> {
        loop {
            self.spaces();
            match self.peek() {
                None => return Some(None),
                Some(b'\n' | b'#') => self.end_of_line()?,
                Some(first) => {
                    let marker = self.at == self.line
                        && matches!(first, b'.' | b'-')
                        && (self.bytes[self.at..].starts_with(b"...") || self.bytes[self.at..].starts_with(b"---"));
                    return if marker { None } else { Some(Some(self.at - self.line)) };
                }
            }
        }
    }

    fn node(&mut self, value: Value<'t>, start: usize, end: usize, style: Style) -> Option<Node<'t>> {
        self.nodes += 1;
        (self.nodes <= self.limits.nodes).then(|| Node { value, span: Span::new(start, end), style })
    }

    /// A block collection whose first key or dash is here, at `column`.
    fn block(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        let depth = depth.checked_sub(1)?;
        if self.peek() == Some(b'-') && self.blank_ahead(1) {
            self.sequence(column, depth)
        } else {
            let key = self.key()?;
            self.mapping(column, key, depth)
        }
    }

    fn sequence(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        let start = self.at;
        let first = self.items.len();
        loop {
            let dash = self.at;
            self.at += 1;
            self.spaces();
            let inner = column + (self.at - dash);
            let item = match self.peek()? {
                b'\n' | b'#' => {
                    self.end_of_line()?;
                    match self.next_line()? {
                        Some(deeper) if deeper > column => self.block(deeper, depth)?,
                        _ => return None,
                    }
                }
                b'-' if self.blank_ahead(1) => self.block(inner, depth)?,
                _ => {
                    let before = self.at;
                    match self.key() {
                        Some(key) => self.mapping(inner, key, depth.checked_sub(1)?)?,
                        None => {
                            self.at = before;
                            self.scalar(column, depth)?
                        }
                    }
                }
            };
            self.items.push(item);
            match self.next_line()? {
                Some(next) if next > column => return None,
                Some(next) if next == column && self.peek() == Some(b'-') && self.blank_ahead(1) => {}
                _ => break,
            }
        }
        let items = self.items.split_off(first);
        let end = items.last()?.span.end as usize;
        self.node(Value::Seq(items), start, end, Style::Block)
    }

    /// A mapping whose first key has been read.
    fn mapping(&mut self, column: usize, first: (Cow<'t, str>, Span), depth: usize) -> Option<Node<'t>> {
        let start = first.1.start as usize;
        let first_entry = self.entries.len();
        let mut next = Some(first);
        while let Some((key, key_span)) = next {
            // The library counts keys as values.
            self.nodes += 1;
            self.spaces();
            let value = match self.peek() {
                None | Some(b'\n' | b'#') => {
                    self.end_of_line()?;
                    match self.next_line()? {
                        Some(deeper) if deeper > column => self.block(deeper, depth)?,
                        Some(same) if same == column && self.peek() == Some(b'-') && self.blank_ahead(1) => {
                            let mut list = self.sequence(column, depth.checked_sub(1)?)?;
                            // The library says that a list at its key's column starts behind its dash.
                            if let Value::Seq(items) = &list.value {
                                let item = items.first()?.span.start;
                                if self.bytes[list.span.start as usize..item as usize].contains(&b'\n') {
                                    return None;
                                }
                                list.span.start = item;
                            }
                            list
                        }
                        _ => {
                            let end = key_span.end as usize;
                            self.node(Value::Null, end, end, Style::Block)?
                        }
                    }
                }
                Some(_) => self.scalar(column, depth)?,
            };
            self.entries.push(Entry { key, key_span, value });
            next = match self.next_line()? {
                Some(next) if next > column => return None,
                Some(next) if next == column => {
                    // A dash here belongs to an outer sequence only where that is less deep.
                    Some(self.key()?)
                }
                _ => None,
            };
        }
        let entries = self.entries.split_off(first_entry);
        duplicates(&entries).ok()?;
        let last = entries.last()?;
        let end = last.value.span.end.max(last.key_span.end) as usize;
        self.node(Value::Map(entries), start, end, Style::Block)
    }

    /// A key and its colon, where one is here. `None` leaves `at` anywhere on the line.
    fn key(&mut self) -> Option<(Cow<'t, str>, Span)> {
        let start = self.at;
        let key = match self.peek()? {
            quote @ (b'"' | b'\'') => key_text(self.quoted(quote)?.value)?,
            byte if is_key(byte) && byte != b'-' => {
                self.at += self.bytes[start..].iter().position(|byte| !KEY_BYTES[*byte as usize])?;
                let written = &self.text[start..self.at];
                match plain(written) {
                    Some(value) => key_text(value)?,
                    None => Cow::Borrowed(written),
                }
            }
            _ => return None,
        };
        let span = Span::new(start, self.at);
        if self.peek() != Some(b':') || !self.blank_ahead(1) || self.at - start > KEY {
            return None;
        }
        self.at += 1;
        Some((key, span))
    }

    /// A value that begins on this line, behind a key or a dash at `column`, up to the end of its last line.
    fn scalar(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        let node = match self.peek()? {
            b'|' => return self.literal(column),
            b'[' | b'{' => self.flow(depth)?,
            quote @ (b'"' | b'\'') => {
                self.nodes += 1;
                self.quoted(quote)?
            }
            b'-' if !self.blank_ahead(1) => self.plain()?,
            byte if may_begin_plain(byte) => self.plain()?,
            _ => return None,
        };
        self.end_of_line()?;
        Some(node)
    }

    fn plain(&mut self) -> Option<Node<'t>> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let mut end = rest.len();
        for found in memchr::memchr3_iter(b'\n', b':', b'#', rest) {
            match rest[found] {
                b':' if matches!(rest.get(found + 1), None | Some(b' ' | b'\n')) => return None,
                b'#' if rest[found - 1] != b' ' => {}
                b'\n' | b'#' => {
                    end = found;
                    break;
                }
                _ => {}
            }
        }
        let node = self.plain_value(start, start + end);
        self.at = node.span.end as usize;
        Some(node)
    }

    /// What is written between two places, as a scalar without quotes.
    fn plain_value(&mut self, start: usize, mut end: usize) -> Node<'t> {
        self.nodes += 1;
        while end > start && self.bytes[end - 1] == b' ' {
            end -= 1;
        }
        let written = &self.text[start..end];
        let value = plain(written).unwrap_or(Value::String(Cow::Borrowed(written)));
        Node { value, span: Span::new(start, end), style: Style::Block }
    }

    /// A scalar in quotes that begins and ends on this line.
    fn quoted(&mut self, quote: u8) -> Option<Node<'t>> {
        let start = self.at;
        let rest = &self.bytes[start + 1..];
        let length = memchr::memchr3(quote, b'\\', b'\n', rest)?;
        // Escapes are the library's, and so is `''`; a backslash in single quotes is rare enough.
        if rest[length] != quote || (quote == b'\'' && rest.get(length + 1) == Some(&b'\'')) {
            return None;
        }
        let content = Cow::Borrowed(&self.text[start + 1..start + 1 + length]);
        self.at = start + length + 2;
        Some(Node { value: Value::String(content), span: Span::new(start, self.at), style: Style::Quoted })
    }

    /// A `[…]` or `{…}` that ends on this line.
    fn flow(&mut self, depth: usize) -> Option<Node<'t>> {
        let depth = depth.checked_sub(1)?;
        let start = self.at;
        let list = self.peek() == Some(b'[');
        let close = if list { b']' } else { b'}' };
        let mut items = Vec::new();
        let mut entries = Vec::new();
        self.at += 1;
        self.spaces();
        if self.peek() == Some(close) {
            self.at += 1;
        } else {
            loop {
                if list {
                    items.push(self.flow_value(depth)?);
                } else {
                    let (key, key_span) = self.key()?;
                    self.nodes += 1;
                    self.spaces();
                    let value = self.flow_value(depth)?;
                    entries.push(Entry { key, key_span, value });
                }
                self.spaces();
                let byte = self.peek()?;
                self.at += 1;
                if byte == close {
                    break;
                }
                if byte != b',' {
                    return None;
                }
                self.spaces();
            }
        }
        duplicates(&entries).ok()?;
        let value = if list { Value::Seq(items) } else { Value::Map(entries) };
        self.node(value, start, self.at, Style::Flow)
    }

    fn flow_value(&mut self, depth: usize) -> Option<Node<'t>> {
        let start = self.at;
        match self.peek()? {
            b'[' | b'{' => return self.flow(depth),
            quote @ (b'"' | b'\'') => {
                self.nodes += 1;
                return self.quoted(quote);
            }
            b'-' if !self.blank_ahead(1) && !matches!(self.peek_second(), Some(b',' | b']' | b'}')) => {}
            byte if may_begin_plain(byte) => {}
            _ => return None,
        }
        while let Some(byte) = self.peek() {
            match byte {
                b',' | b']' | b'}' => break,
                b'[' | b'{' | b'\n' | b'#' => return None,
                // Also `a:b` and `:]`, whose rules in flow differ between readers.
                b':' if !self.bytes.get(self.at + 1).is_some_and(|byte| is_key(*byte)) => return None,
                _ => self.at += 1,
            }
        }
        Some(self.plain_value(start, self.at))
    }

    /// A literal block scalar behind a key or a dash at `column`.
    fn literal(&mut self, column: usize) -> Option<Node<'t>> {
        // The library says that it starts where its text does.
        let mut start = self.at;
        self.at += 1;
        let chomp = match self.peek() {
            Some(byte @ (b'-' | b'+')) => {
                self.at += 1;
                Some(byte)
            }
            _ => None,
        };
        self.end_of_line()?;
        if self.bytes.get(self.at - 1) != Some(&b'\n') {
            return None;
        }
        let mut content = String::new();
        let mut indent = None;
        let mut end = start;
        // Line ends that are content only where a line of content follows.
        let mut breaks = 0;
        while self.at < self.bytes.len() {
            let line_end = self.line_end(self.at);
            let line = &self.text[self.at..line_end];
            let column_here = line.len() - line.trim_start_matches(' ').len();
            let blank = column_here == line.len();
            match indent {
                // The first line with content sets the indentation; more space above it is an error.
                None if blank && !line.is_empty() => return None,
                None if !blank && column_here <= column => return None,
                None if !blank => {
                    indent = Some(column_here);
                    start = self.at + column_here;
                }
                Some(indent) if blank && column_here > indent => {}
                Some(indent) if !blank && column_here < indent => break,
                _ => {}
            }
            match indent {
                Some(indent) if column_here >= indent && line.len() > indent => {
                    content.extend(std::iter::repeat_n('\n', breaks));
                    breaks = 1;
                    content.push_str(&line[indent..]);
                    if !blank {
                        end = line_end;
                    }
                }
                _ => breaks += 1,
            }
            // A last line without its end has no line end to keep.
            if line_end == self.bytes.len() {
                self.at = line_end;
                return None;
            }
            self.at = line_end + 1;
        }
        self.line = self.at;
        indent?;
        match chomp {
            Some(b'-') => {}
            Some(_) => content.extend(std::iter::repeat_n('\n', breaks)),
            None => content.push('\n'),
        }
        let end = start + self.text[start..end].trim_end().len();
        self.node(Value::String(content.into()), start, end, Style::Literal)
    }
}

/// Printable (YAML 1.2.2, `c-printable`), and no line end nor blank to anyone.
const fn is_usual(c: char) -> bool {
    matches!(c, ' '..='~' | '\n' | '\u{a1}'..='\u{1fff}' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}'
        | '\u{2070}'..='\u{2fff}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdff}' | '\u{1f000}'..='\u{1faff}')
}

/// The bytes of a key without quotes: names, labels, resource names.
const fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

/// [`is_key`] of every byte.
const KEY_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_key(byte as u8);
        byte += 1;
    }
    table
};

/// What has a meaning of its own at the beginning of a value (YAML 1.2.2, `c-indicator`) is not read here.
const fn may_begin_plain(byte: u8) -> bool {
    byte >= 0x80
        || byte.is_ascii_alphanumeric()
        || matches!(byte, b'/' | b'.' | b'_' | b'~' | b'$' | b'+' | b'(' | b'<' | b'=' | b'^')
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{cut, parse, parse_slowly};
    use super::Limits;
    use proptest::prelude::*;

    /// Whether a text is read here, whole; where any of it is, as the library reads it.
    fn read(text: &str) -> bool {
        assert_eq!(parse(text, &Limits::DEFAULT), parse_slowly(text, &Limits::DEFAULT), "{text:?}");
        cut(text).into_iter().all(|range| super::parse(text, range, &Limits::DEFAULT).is_some())
    }

    fn is_read(text: &str) {
        assert!(read(text), "not read here: {text:?}");
    }

    #[test]
    fn the_yaml_of_every_day_is_read() {
        is_read("a: 1\nb:\n  c: x y # z\n  d: 'q'\n\n# end\n");
        is_read("---\na:\n- x\n-   b: 1\n    c: 2\n- - y\n  - z\nd:\n");
        is_read("a: |\n  x\n\n   y\n\n# c\nb: |-\n\n  z\n\nc: |+\n  k\n\n");
        is_read("- name: \"a: b\"\n  v: [a, \"b\", 1, {c: d}, []]\n- {}\n");
        is_read("on: yes\n1: 2\nurl: http://x:80/#y\ncmd: --flag=a:b\n");
        is_read("a:\n  -\n    x: 1\n");
        is_read("a:\n  # why\n  b: 1\n    # whose\n  c:\n  # what\n  - d # e\n  # f\n");
    }

    #[test]
    fn what_is_unusual_is_left_to_the_library() {
        for text in [
            "a: &b 1\n",
            "a: *b\n",
            "a: >\n  x\n",
            "a: x\n  y\n",
            "a: 'it''s'\n",
            "a: \"\\n\"\n",
            "a:\tb\n",
            "a: !t b\n",
            "? a\n: b\n",
            "a: b: c\n",
            "a: {b, c}\n",
            "{\"a\":1}\n",
            "a: |2\n  x\n",
            "a: 1\na: 2\n",
            "<<: *a\n",
            "a: [b\n]\n",
        ] {
            assert!(!read(text), "{text:?}");
        }
    }

    #[test]
    fn the_examples_are_read_as_the_library_reads_them() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/kinds"));
        let (mut fast, mut all) = (0, 0);
        for entry in std::fs::read_dir(root).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            all += 1;
            fast += usize::from(read(&text));
        }
        assert!(fast * 10 >= all * 8, "{fast} of {all} examples are everyday YAML");
    }

    /// Lines of pieces that mean something to YAML, indented at random.
    fn document() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a", "b", "c", "k: ", ":", ": ", "- ", "-", "#", " #", " ", "'", "\"", "|", "|-", "|+", ">", "[", "]", "{",
            "}", ", ", ",", "1", "0x1", "yes", "~", "null", "a: b", "a: 1", "- a", "k:", "...", "---", "x:y", "&", "*",
            "!", "%", "@", "?", "",
        ]);
        let good = prop::sample::select(vec![
            "a:",
            "b:",
            "b: 1",
            "c: x # y",
            "-",
            "- a",
            "- k: v",
            "- - a",
            "- c:",
            "k: |",
            "l: |-",
            "m: |+",
            "- |",
            "x",
            "",
            "",
            "# c",
            "k: [a, {b: c}, 1]",
            "\"q\": 'r'",
            "d: {}",
            "- {a: \"b\"}",
            "#",
            "n: -1",
            "- --flag=x",
        ]);
        let content = prop_oneof![
            4 => good.prop_map(str::to_owned),
            1 => prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat()),
        ];
        let line = (0..5usize, content).prop_map(|(indent, content)| format!("{}{content}", " ".repeat(indent)));
        (prop::collection::vec(line, 0..8), any::<bool>())
            .prop_map(|(lines, end)| lines.join("\n") + if end { "\n" } else { "" })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_lines_are_read_as_the_library_reads_them_or_not_at_all(text in document()) {
            read(&text);
        }
    }
}
