//! Field paths: how rules name a place in an object, in a file or live.

use std::fmt;

use crate::value::{Entry, Node, Span, Value};

/// One step of a [`FieldPath`].
#[derive(Clone, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// A key of a mapping.
    Key(Box<str>),
    /// A place in a sequence, from 0.
    Index(usize),
}

/// The way from the root of a document to a field, existing or missing:
/// `spec.template.spec.containers[0].image`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash, PartialOrd, Ord)]
pub struct FieldPath(pub Vec<Segment>);

impl FieldPath {
    /// The path with one more key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Box<str>>) -> Self {
        self.0.push(Segment::Key(key.into()));
        self
    }

    /// The path with one more index.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(Segment::Index(index));
        self
    }

    /// The node at this path, where the whole path exists.
    #[must_use]
    pub fn find<'a>(&self, root: &'a Node<'a>) -> Option<&'a Node<'a>> {
        let hit = self.locate(root);
        hit.complete.then_some(hit.node)
    }

    /// Follows the path as far as it exists.
    #[must_use]
    pub fn locate<'a>(&self, root: &'a Node<'a>) -> Located<'a> {
        let mut hit = Located { node: root, entry: None, depth: 0, complete: true };
        for segment in &self.0 {
            let next = match (segment, &hit.node.value) {
                (Segment::Key(key), Value::Map(_)) => hit.node.entry(key).map(|e| (&e.value, Some(e))),
                (Segment::Index(i), Value::Seq(items)) => items.get(*i).map(|node| (node, None)),
                _ => None,
            };
            let Some((node, entry)) = next else {
                hit.complete = false;
                return hit;
            };
            hit = Located { node, entry, depth: hit.depth + 1, complete: true };
        }
        hit
    }
}

/// How far a path could be followed.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    /// The deepest node on the path.
    pub node: &'a Node<'a>,
    /// The mapping entry that holds it, where it is not a sequence item or the root.
    pub entry: Option<&'a Entry<'a>>,
    /// How many segments were followed.
    pub depth: usize,
    /// Whether that was the whole path.
    pub complete: bool,
}

impl Located<'_> {
    /// The bytes to show for this place: the value where it is a scalar that exists, the key
    /// that is nearest otherwise. A whole mapping is never shown: its first key is.
    #[must_use]
    pub fn span(&self) -> Span {
        match &self.node.value {
            Value::Map(entries) => match (self.entry, entries.first()) {
                (Some(entry), _) => entry.key_span,
                // A list item is best recognised by its name.
                (None, Some(first)) => match self.node.entry("name") {
                    Some(name) => Span { start: name.key_span.start, end: name.value.span.end },
                    None => first.key_span,
                },
                (None, None) => self.node.span,
            },
            Value::Seq(_) => self.entry.map_or(self.node.span, |entry| entry.key_span),
            Value::Null => self.entry.map_or(self.node.span, |entry| entry.key_span),
            Value::String(_)
                if matches!(self.node.style, crate::value::Style::Literal | crate::value::Style::Folded) =>
            {
                self.entry.map_or(self.node.span, |entry| entry.key_span)
            }
            _ => self.node.span,
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_plain(key) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

/// Keys like `nvidia.com/gpu` would be misread in a dotted path.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
