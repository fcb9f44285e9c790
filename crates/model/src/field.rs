//! A cursor into an object: a node together with the path that leads to it.

use smallvec::SmallVec;

use crate::path::{FieldPath, Segment};
use crate::value::{Node, Value};

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// A place in an object. The place need not exist: rules speak of missing fields too.
#[derive(Debug)]
pub struct Field<'a> {
    node: Option<&'a Node<'a>>,
    steps: SmallVec<[Step<'a>; 10]>,
}

// Copies its steps as bytes, which the derived one does not: rules make many fields.
impl Clone for Field<'_> {
    fn clone(&self) -> Self {
        Self { node: self.node, steps: SmallVec::from_slice(&self.steps) }
    }
}

impl<'a> Field<'a> {
    /// The root of a document.
    #[must_use]
    pub fn root(node: &'a Node<'a>) -> Self {
        Self { node: Some(node), steps: SmallVec::new() }
    }

    /// The field under `key`.
    #[must_use]
    pub fn key(&self, key: &'a str) -> Self {
        self.step(self.node.and_then(|node| node.get(key)), Step::Key(key))
    }

    // Written so that the steps are copied once.
    fn step(&self, node: Option<&'a Node<'a>>, step: Step<'a>) -> Self {
        let mut next = Self { node, steps: SmallVec::new() };
        next.steps.extend_from_slice(&self.steps);
        next.steps.push(step);
        next
    }

    /// The item at `index`.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let node = match self.value() {
            Some(Value::Seq(items)) => items.get(index),
            _ => None,
        };
        self.step(node, Step::Index(index))
    }

    /// The field at a dotted path of plain keys, such as `spec.template.spec`. Keys that hold a
    /// dot are reached with [`Field::key`].
    #[must_use]
    pub fn at(&self, path: &'a str) -> Self {
        let mut next = self.clone();
        for key in path.split('.') {
            next.node = next.node.and_then(|node| node.get(key));
            next.steps.push(Step::Key(key));
        }
        next
    }

    /// Whether the field is there and not null (which Kubernetes reads as not there).
    #[must_use]
    pub fn exists(&self) -> bool {
        self.node.is_some_and(|node| node.value != Value::Null)
    }

    /// The node, where the field is there.
    #[must_use]
    pub const fn node(&self) -> Option<&'a Node<'a>> {
        self.node
    }

    /// The value, where the field is there.
    #[must_use]
    pub fn value(&self) -> Option<&'a Value<'a>> {
        self.node.map(|node| &node.value)
    }

    /// The text, where this is a string.
    #[must_use]
    pub fn str(&self) -> Option<&'a str> {
        self.node.and_then(Node::as_str)
    }

    /// The number, where this is a non-negative integer, or a string of one.
    #[must_use]
    pub fn u64(&self) -> Option<u64> {
        match self.value()? {
            Value::Int(i) => u64::try_from(*i).ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The number, where this is an integer.
    #[must_use]
    pub fn i64(&self) -> Option<i64> {
        match self.value()? {
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// The truth value, where this is one.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        match self.value()? {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A scalar as the text that a reader would see: numbers and truth values too.
    #[must_use]
    pub fn scalar(&self) -> Option<String> {
        match self.value()? {
            Value::String(text) => Some(text.to_string()),
            Value::Int(i) => Some(i.to_string()),
            Value::Float(f) => Some(f.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            _ => None,
        }
    }

    /// The items, where this is a sequence; nothing otherwise.
    pub fn items(&self) -> impl ExactSizeIterator<Item = Self> + use<'a> {
        let len = match self.value() {
            Some(Value::Seq(items)) => items.len(),
            _ => 0,
        };
        let list = self.clone();
        (0..len).map(move |i| list.index(i))
    }

    /// The entries, where this is a mapping; nothing otherwise.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&'a str, Self)> + use<'a> {
        let entries: &'a [_] = match self.value() {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        };
        let map = self.clone();
        entries.iter().map(move |entry| (&*entry.key, map.key(&entry.key)))
    }

    /// The strings of a sequence of strings; items of other types are passed over.
    pub fn strings(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let items: &'a [Node<'a>] = match self.value() {
            Some(Value::Seq(items)) => items,
            _ => &[],
        };
        items.iter().filter_map(Node::as_str)
    }

    /// The path from the root of the document.
    #[must_use]
    pub fn path(&self) -> FieldPath {
        FieldPath(
            self.steps
                .iter()
                .map(|step| match step {
                    Step::Key(key) => Segment::Key((*key).into()),
                    Step::Index(index) => Segment::Index(*index),
                })
                .collect(),
        )
    }

    /// The key or index that this field is reached by, as text: `Worker`, `0`.
    #[must_use]
    pub fn last(&self) -> String {
        match self.steps.last() {
            Some(Step::Key(key)) => (*key).to_owned(),
            Some(Step::Index(index)) => index.to_string(),
            None => String::new(),
        }
    }
}

impl From<&Field<'_>> for FieldPath {
    fn from(field: &Field<'_>) -> Self {
        field.path()
    }
}
