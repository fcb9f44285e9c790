//! Objects that stand in strings: Katib's old trial templates, Argo's patches of pods.
//!
//! Such a string is replaced by its tree, with spans into the file's own bytes, so that rules
//! and edits see it like any other part of the object. A string whose text is not written as it
//! reads (escapes in double quotes) stays a string.

use std::borrow::Cow;

use super::kinds;
use crate::document::{Limits, parse};
use crate::value::{Entry, Node, Span, Style, Value};

/// Puts trees in the place of the strings of an object that its kind's row names. `text` is the
/// whole file's, of which the spans tell.
pub(crate) fn unfold(root: &mut Node<'_>, text: &str) {
    let word = |key: &str| root.get(key).and_then(Node::as_str).unwrap_or_default();
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    if kind.ends_with("List") {
        if let Some(Value::Seq(items)) = child(root, "items").map(|node| &mut node.value) {
            items.iter_mut().for_each(|item| unfold(item, text));
        }
        return;
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(row) = kinds::find(group, version, kind) else { return };
    for path in row.strings {
        each(root, path, &mut |node| {
            if let Some(tree) = tree(node, text) {
                *node = tree;
            }
        });
    }
}

/// The same for an object that has no text, such as that of an admission request. The trees have no spans.
pub fn unfold_live(root: &mut Node<'_>) {
    let word = |key: &str| root.get(key).and_then(Node::as_str).unwrap_or_default();
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(row) = kinds::find(group, version, kind) else { return };
    for path in row.strings {
        each(root, path, &mut |node| {
            if let Some(tree) = node.as_str().and_then(|text| mapping(text, &|_| Span::NONE)) {
                *node = tree;
            }
        });
    }
}

fn child<'n, 't>(node: &'n mut Node<'t>, key: &str) -> Option<&'n mut Node<'t>> {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|entry| &*entry.key == key).map(|entry| &mut entry.value),
        _ => None,
    }
}

/// Every node that a path with `[]` leads to.
fn each<'t>(node: &mut Node<'t>, path: &str, act: &mut dyn FnMut(&mut Node<'t>)) {
    let (part, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(next) = child(node, part.trim_end_matches("[]")) else { return };
    let mut go = |node: &mut Node<'t>| if rest.is_empty() { act(node) } else { each(node, rest, act) };
    match &mut next.value {
        Value::Seq(items) if part.ends_with("[]") => items.iter_mut().for_each(go),
        _ => go(next),
    }
}

fn tree(node: &Node<'_>, text: &str) -> Option<Node<'static>> {
    let value = node.as_str()?;
    let span = node.span.range();
    let (start, end) = match node.style {
        // The first line's indentation belongs to it: the others have it too.
        Style::Literal | Style::Folded => (text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1), span.end),
        Style::Quoted => (span.start + 1, span.end.checked_sub(1)?),
        Style::Block | Style::Flow => return None,
    };
    let written = text.get(start..end)?;
    if node.style == Style::Quoted && written != value {
        return None;
    }
    let start = start as u32;
    mapping(written, &|span| Span { start: span.start + start, end: span.end + start })
}

/// The mapping that a text is, where it is one and nothing else. `place`: where a span of the text stands in the file.
fn mapping(text: &str, place: &dyn Fn(Span) -> Span) -> Option<Node<'static>> {
    let readable = without_actions(text);
    let parsed = parse(&readable, &Limits::DEFAULT);
    let [document] = <[_; 1]>::try_from(parsed.documents).ok().filter(|_| parsed.errors.is_empty())?;
    matches!(document.root.value, Value::Map(_)).then(|| settle(document.root, place))
}

/// The text without its `{{…}}`, every byte in its place: lines of nothing else become blank,
/// other actions a word.
fn without_actions(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if bare.starts_with("{{") && bare.ends_with("}}") {
            out.extend(line.chars().flat_map(|c| {
                let blank = if matches!(c, '\n' | '\r') { c } else { ' ' };
                std::iter::repeat_n(blank, c.len_utf8())
            }));
            continue;
        }
        let mut rest = line;
        while let Some((before, (action, after))) =
            rest.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
        {
            out.push_str(before);
            out.extend(std::iter::repeat_n('x', action.len() + 4));
            rest = after;
        }
        out.push_str(rest);
    }
    out
}

/// A tree that was read from another text, as if it had been read from the file.
fn settle(node: Node<'_>, place: &dyn Fn(Span) -> Span) -> Node<'static> {
    let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
    let value = match node.value {
        Value::Null => Value::Null,
        Value::Bool(b) => Value::Bool(b),
        Value::Int(i) => Value::Int(i),
        Value::Float(f) => Value::Float(f),
        Value::String(text) => Value::String(own(text)),
        Value::Seq(items) => Value::Seq(items.into_iter().map(|item| settle(item, place)).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|entry| Entry {
                    key: own(entry.key),
                    key_span: place(entry.key_span),
                    value: settle(entry.value, place),
                })
                .collect(),
        ),
    };
    Node { value, span: place(node.span), style: node.style }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;

    #[test]
    fn every_byte_of_a_template_in_a_string_keeps_its_place() {
        let text = "apiVersion: kubeflow.org/v1alpha3\nkind: Experiment\nspec:\n  trialTemplate:\n    goTemplate:\n      rawTemplate: |-\n        apiVersion: batch/v1\n        kind: Job\n        metadata: {name: \"{{.Trial}}\"}\n        spec:\n        {{- with .é}}\n          parallelism: 4\n        {{- end}}\n";
        let parsed = parse(text, &Limits::DEFAULT);
        let root = Field::root(&parsed.documents[0].root);
        let job = root.at("spec.trialTemplate.goTemplate.rawTemplate");
        assert_eq!(job.key("kind").str(), Some("Job"));
        assert_eq!(job.at("metadata.name").str(), Some("xxxxxxxxxx"));
        let four = job.at("spec.parallelism").node().unwrap();
        assert_eq!(&text[four.span.range()], "4");
    }

    #[test]
    fn a_string_that_is_no_object_stays_a_string() {
        for patch in ["'{\"a\": '", "hello", "\"{\\\"a\\\": 1}\"", "|\n    - 1\n"] {
            let text = format!("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec:\n  podSpecPatch: {patch}\n");
            let parsed = parse(&text, &Limits::DEFAULT);
            let root = Field::root(&parsed.documents[0].root);
            assert!(root.at("spec.podSpecPatch").str().is_some(), "{patch}");
        }
    }
}
