//! The tree that every document becomes: values with the byte span of each one. A tree borrows its strings from the
//! text where they stand there as they read, which is nearly always.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Visitor};

/// A half-open range of byte offsets into the text of a source. Offsets always fall on
/// character boundaries. A live object has no text: its nodes carry [`Span::NONE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span of a value that was never text (a live object, an admission request).
    pub const NONE: Self = Self { start: u32::MAX, end: u32::MAX };

    /// A span from `start` to `end`, in bytes. Sources are limited to 4 GiB by [`crate::document::Limits`].
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The span as a range for slicing.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Whether there is text behind this span.
    #[must_use]
    pub const fn is_some(self) -> bool {
        self.start != u32::MAX
    }

    /// Whether `other` lies inside this span.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// How a value was written; an edit must keep it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A plain scalar, a block mapping or a block sequence.
    Block,
    /// A `{…}` or `[…]` collection, and everything in JSON.
    Flow,
    /// A scalar in single or double quotes.
    Quoted,
    /// A literal scalar (`|`): its lines are the text's lines, less the indentation.
    Literal,
    /// A folded scalar (`>`).
    Folded,
}

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Node<'t> {
    /// What it is.
    pub value: Value<'t>,
    /// Its bytes. For a block collection: from its first key or dash to the end of its last value.
    pub span: Span,
    /// How it was written.
    pub style: Style,
}

/// A YAML or JSON value, by the rules that Kubernetes reads YAML with (YAML 1.1 booleans and
/// octal integers, `sigs.k8s.io/yaml`).
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'t> {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Everything else that is one value.
    String(Cow<'t, str>),
    /// A sequence.
    Seq(Vec<Node<'t>>),
    /// A mapping, in the order of the text, without duplicates.
    Map(Vec<Entry<'t>>),
}

/// One key of a mapping and its value.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry<'t> {
    /// The key. Keys that are not strings are kept as they were written.
    pub key: Cow<'t, str>,
    /// The bytes of the key.
    pub key_span: Span,
    /// The value.
    pub value: Node<'t>,
}

impl<'t> Node<'t> {
    /// The entry under `key`, where this is a mapping that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// The value under `key`, where this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text, where this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The same value without spans, for typed decoding and for JSON output.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => Json::from(*i),
            Value::Float(f) => Json::from(*f),
            Value::String(text) => Json::String(text.to_string()),
            Value::Seq(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|e| (e.key.to_string(), e.value.to_json())).collect())
            }
        }
    }

    /// A node without text, from a live object or an admission request.
    #[must_use]
    pub fn from_json(json: &'t serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int),
            Json::String(text) => Value::String(text.as_str().into()),
            Json::Array(items) => Value::Seq(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => Value::Map(
                map.iter()
                    .map(|(key, value)| Entry {
                        key: key.as_str().into(),
                        key_span: Span::NONE,
                        value: Self::from_json(value),
                    })
                    .collect(),
            ),
        };
        Self { value, span: Span::NONE, style: Style::Flow }
    }

    /// A node without text, read straight from JSON with no other tree in between: an admission request may hold two
    /// objects of megabytes each. At most `limits.nodes` values, and as deep as `serde_json` goes (128).
    ///
    /// # Errors
    /// What is wrong with the JSON, as one sentence: its syntax, its depth, its size, a key that stands twice.
    pub fn read_json(text: &'t str, limits: &crate::document::Limits) -> Result<Self, String> {
        let left = std::cell::Cell::new(limits.nodes);
        let mut reader = serde_json::Deserializer::from_str(text);
        let node = Reader { left: &left }.deserialize(&mut reader).and_then(|node| reader.end().map(|()| node));
        node.map_err(|error| error.to_string())
    }
}

/// Makes a node of whatever JSON comes, and counts.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// How many values may still come.
    left: &'a std::cell::Cell<usize>,
}

impl Reader<'_> {
    fn node<E: de::Error>(self, value: Value<'_>) -> Result<Node<'_>, E> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| E::custom("more values than the limit"))?;
        self.left.set(left);
        Ok(Node { value, span: Span::NONE, style: Style::Flow })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node<'de>, E> {
        self.node(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node<'de>, E> {
        self.node(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node<'de>, E> {
        self.node(Value::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node<'de>, E> {
        self.node(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node<'de>, E> {
        self.node(Value::Float(value))
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Node<'de>, E> {
        self.node(Value::String(Cow::Borrowed(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node<'de>, E> {
        self.node(Value::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Node<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self)? {
            items.push(item);
        }
        self.node(Value::Seq(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let mut entries: Vec<Entry<'de>> = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let value = map.next_value_seed(self)?;
            entries.push(Entry { key, key_span: Span::NONE, value });
        }
        // Sorted, since a ConfigMap may have a hundred thousand keys.
        let mut keys: Vec<&str> = entries.iter().map(|entry| &*entry.key).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(de::Error::custom(format!("the key `{}` stands twice", twice[0])));
        }
        self.node(Value::Map(entries))
    }
}

/// A key, borrowed where it stands in the text as it reads.
#[derive(Deserialize)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Limits;

    fn read(text: &str) -> Result<Node<'_>, String> {
        Node::read_json(text, &Limits { nodes: 20, ..Limits::DEFAULT })
    }

    #[test]
    fn json_is_read_as_by_way_of_a_tree() {
        let text = r#"{"a": [1, -2, 1.5, 18446744073709551615, null, true, "x\u0041\n"], "b": {}, "c": []}"#;
        let tree: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(text).unwrap(), Node::from_json(&tree));
    }

    #[test]
    fn bombs_and_ambiguities_are_refused() {
        let deep = "[".repeat(100_000);
        for (text, why) in [
            (deep.as_str(), "recursion limit"),
            ("[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]", "more values than the limit"),
            (r#"{"a": 1, "b": 2, "a": 3}"#, "the key `a` stands twice"),
            ("{} x", "trailing"),
            ("{", "EOF"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
