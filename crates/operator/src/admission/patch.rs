//! Fixes as JSON Patch (RFC 6902), from the same edits that `check --fix` makes in a file.

use bedplate_model::edit::change;
use bedplate_model::{Edit, FieldPath, Segment};
use serde_json::{Value, json};

/// `object` with the edits, and the operations that do the same on the API server; nothing where one of them has no
/// place in it: its path leads through a string, or to bytes of a text.
#[must_use]
pub fn apply(object: &Value, edits: &[Edit]) -> Option<(Value, Vec<Value>)> {
    let mut edited = object.clone();
    let mut operations = Vec::with_capacity(edits.len());
    for edit in edits {
        let (path, value) = match edit {
            Edit::Set(path, value) => (path, Some(value)),
            Edit::Remove(path) => (path, None),
            Edit::Replace(..) => return None,
        };
        operations.push(operation(&edited, path, value)?);
        change(&mut edited, &path.0, value)?;
    }
    Some((edited, operations))
}

/// One edit as an operation: what is missing above the place comes along in its value.
fn operation(object: &Value, path: &FieldPath, value: Option<&Value>) -> Option<Value> {
    let mut at = object;
    let mut pointer = String::new();
    for (depth, segment) in path.0.iter().enumerate() {
        let (token, next) = match segment {
            Segment::Key(key) => (escape(key), at.as_object()?.get(&**key).filter(|next| !next.is_null())),
            Segment::Index(index) => {
                let items = at.as_array()?;
                // One past the end appends.
                (*index <= items.len()).then_some(())?;
                (index.to_string(), items.get(*index))
            }
        };
        pointer.push('/');
        pointer.push_str(&token);
        match next {
            Some(next) => at = next,
            None => {
                let value = value?;
                let inner = nest(&path.0[depth + 1..], value)?;
                return Some(json!({ "op": "add", "path": pointer, "value": inner }));
            }
        }
    }
    Some(match value {
        Some(value) => json!({ "op": "replace", "path": pointer, "value": value }),
        None => json!({ "op": "remove", "path": pointer }),
    })
}

/// A value with the mappings above it that are missing. Lists are not made.
fn nest(path: &[Segment], value: &Value) -> Option<Value> {
    path.iter().rev().try_fold(value.clone(), |inner, segment| match segment {
        Segment::Key(key) => Some(json!({ (key.to_string()): inner })),
        Segment::Index(_) => None,
    })
}

/// RFC 6901.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        text.split('|').fold(FieldPath::default(), |path, part| match part.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(part),
        })
    }

    #[test]
    fn what_is_missing_above_a_field_comes_along() {
        let object = json!({ "spec": { "containers": [{ "name": "a", "resources": { "requests": { "x/y": 1 } } }] } });
        let edits = [
            Edit::Set(path("spec|containers|0|resources|limits|x/y"), json!(1)),
            Edit::Set(path("spec|containers|0|resources|limits|a~b"), json!(2)),
            Edit::Set(path("spec|containers|0|name"), json!("b")),
            Edit::Remove(path("spec|containers|0|resources|requests")),
        ];
        let (_, operations) = apply(&object, &edits).unwrap();
        assert_eq!(
            operations,
            [
                json!({ "op": "add", "path": "/spec/containers/0/resources/limits", "value": { "x/y": 1 } }),
                json!({ "op": "add", "path": "/spec/containers/0/resources/limits/a~0b", "value": 2 }),
                json!({ "op": "replace", "path": "/spec/containers/0/name", "value": "b" }),
                json!({ "op": "remove", "path": "/spec/containers/0/resources/requests" }),
            ]
        );
    }

    #[test]
    fn an_edit_that_has_no_place_is_none() {
        let object = json!({ "a": "text", "l": [1], "n": null });
        for edit in [
            Edit::Set(path("a|b"), json!(1)),
            Edit::Remove(path("b")),
            Edit::Set(path("l|5"), json!(1)),
            Edit::Replace(bedplate_model::Span::new(0, 1), String::new()),
        ] {
            let good = Edit::Set(path("c"), json!(1));
            assert_eq!(apply(&object, &[good, edit.clone()]), None, "{edit:?}");
        }
    }

    proptest::proptest! {
        /// What the API server makes of the patch is what we judged.
        #[test]
        fn the_patch_does_what_the_edit_does(keys in proptest::collection::vec("[a-c~/]{1,2}|[0-2]", 1..4), remove in proptest::bool::ANY) {
            let before = json!({ "a": { "b": { "c": 1 }, "~/": [1, { "a": 2 }] }, "b": [0, [1], { "c": null }], "c": "text" });
            let at = path(&keys.join("|"));
            let edit = if remove { Edit::Remove(at) } else { Edit::Set(at, json!({ "new": true })) };
            if let Some((ours, operations)) = apply(&before, &[edit]) {
                let mut theirs = before;
                let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations)).unwrap();
                json_patch::patch(&mut theirs, &patch).unwrap();
                proptest::prop_assert_eq!(ours, theirs);
            }
        }
    }
}
