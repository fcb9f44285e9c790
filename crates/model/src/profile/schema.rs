//! Holds a document against the JSON Schema of its type, to name each mistake at its place.
//! Covers the part of JSON Schema that `schemars` makes of our own types.

use regex::Regex;
use serde_json::Value as Schema;

use super::{PATTERNS, nearest};
use crate::document::SyntaxError;
use crate::value::{Node, Span, Value};

/// Every mistake of `node`, held against the schema of a type of ours.
#[must_use]
pub fn check(node: &Node<'_>, schema: &Schema) -> Vec<SyntaxError> {
    let mut errors = Vec::new();
    walk(node, node.span, schema, schema, &mut errors);
    errors
}

fn walk(node: &Node<'_>, at: Span, schema: &Schema, root: &Schema, errors: &mut Vec<SyntaxError>) {
    let schema = resolve(schema, root);
    // An optional field: whatever else it may be, it may be null.
    if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Schema::as_array) {
        // A documented enum is a list of constants.
        let constants: Vec<&str> = options.iter().filter_map(|option| option.get("const")?.as_str()).collect();
        if constants.len() == options.len() {
            one_of(node, at, &constants, errors);
        } else if let Some(option) = options.iter().find(|option| option.get("type").is_none_or(|t| t != "null"))
            && node.value != Value::Null
        {
            walk(node, at, option, root, errors);
        }
        return;
    }
    if let Some(values) = schema.get("enum").and_then(Schema::as_array) {
        one_of(node, at, &values.iter().filter_map(Schema::as_str).collect::<Vec<_>>(), errors);
        return;
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Schema::String(one)) => vec![one],
        Some(Schema::Array(many)) => many.iter().filter_map(Schema::as_str).collect(),
        _ => Vec::new(),
    };
    let found = match &node.value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Int(_) => "integer",
        Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Seq(_) => "array",
        Value::Map(_) => "object",
    };
    // `spec:` with nothing behind it is an empty mapping to people.
    let empty_object = found == "null" && types.contains(&"object");
    let whole_number = found == "integer" && types.contains(&"number");
    if !(types.is_empty() || types.contains(&found) || empty_object || whole_number) {
        let expected = types.first().copied().unwrap_or_default();
        errors.push(error(format!("expected {}, found {}", words(expected), words(found)), at));
        return;
    }
    bounds(node, at, schema, errors);
    match &node.value {
        Value::Seq(items) => {
            if let Some(item_schema) = schema.get("items") {
                for item in items {
                    walk(item, item.span, item_schema, root, errors);
                }
            }
        }
        Value::Map(entries) => {
            let properties = schema.get("properties").and_then(Schema::as_object);
            let more = schema.get("additionalProperties");
            let open = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
            for entry in entries {
                if let Some(known) = properties.and_then(|properties| properties.get(&*entry.key)) {
                    walk(&entry.value, entry.value.span, known, root, errors);
                } else if let Some(more) = more.filter(|more| more.is_object()) {
                    walk(&entry.value, entry.value.span, more, root, errors);
                } else if let (Some(properties), false) = (properties, open) {
                    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                    errors.push(SyntaxError {
                        message: format!("unknown key `{}`", entry.key),
                        span: entry.key_span,
                        help: Some(match nearest(&entry.key, &names) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => format!("known here: {}", names.join(", ")),
                        }),
                    });
                }
            }
            for name in
                schema.get("required").and_then(Schema::as_array).into_iter().flatten().filter_map(Schema::as_str)
            {
                if !entries.iter().any(|entry| &*entry.key == name) {
                    let at = entries.first().map_or(at, |entry| entry.key_span);
                    errors.push(error(format!("missing key `{name}`"), at));
                }
            }
        }
        _ => {}
    }
}

/// How large, long or many, and the pattern of a text.
fn bounds(node: &Node, at: Span, schema: &Schema, errors: &mut Vec<SyntaxError>) {
    let (keys, size, of): ([&str; 2], usize, [&str; 2]) = match &node.value {
        Value::Int(number) => {
            if let Some(minimum) = schema.get("minimum").and_then(Schema::as_i64).filter(|minimum| number < minimum) {
                errors.push(error(format!("expected at least {minimum}, found {number}"), at));
            }
            if let Some(maximum) = schema.get("maximum").and_then(Schema::as_i64).filter(|maximum| number > maximum) {
                errors.push(error(format!("expected at most {maximum}, found {number}"), at));
            }
            return;
        }
        Value::String(text) => {
            if let Some(pattern) = schema.get("pattern").and_then(Schema::as_str)
                && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
            {
                let what = PATTERNS.iter().find(|(known, _)| *known == pattern).map_or(pattern, |(_, what)| what);
                errors.push(error(format!("expected {what}; found `{text}`"), at));
            }
            (["minLength", "maxLength"], text.chars().count(), ["character", "characters"])
        }
        Value::Seq(items) => (["minItems", "maxItems"], items.len(), ["item", "items"]),
        Value::Map(entries) => (["minProperties", "maxProperties"], entries.len(), ["key", "keys"]),
        _ => return,
    };
    let bound = |key: &str| schema.get(key).and_then(Schema::as_u64).and_then(|bound| usize::try_from(bound).ok());
    let of = |bound: usize| of[usize::from(bound != 1)];
    if let Some(least) = bound(keys[0]).filter(|least| size < *least) {
        errors.push(error(format!("expected at least {least} {}, found {size}", of(least)), at));
    }
    if let Some(most) = bound(keys[1]).filter(|most| size > *most) {
        errors.push(error(format!("expected at most {most} {}, found {size}", of(most)), at));
    }
}

fn resolve<'a>(schema: &'a Schema, root: &'a Schema) -> &'a Schema {
    let pointer = schema.get("$ref").and_then(Schema::as_str).and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// `off` without quotes is a truth value to YAML 1.1; here it is the word.
fn one_of(node: &Node<'_>, at: Span, values: &[&str], errors: &mut Vec<SyntaxError>) {
    let text = match &node.value {
        Value::String(text) => text.to_string(),
        Value::Bool(false) if values.contains(&"off") => return,
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        _ => "something else".to_owned(),
    };
    if !values.contains(&text.as_str()) {
        let all = values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
        errors.push(error(format!("expected one of {all}, found `{text}`"), at));
    }
}

const fn error(message: String, span: Span) -> SyntaxError {
    SyntaxError { message, span, help: None }
}

fn words(kind: &str) -> &'static str {
    match kind {
        "null" => "nothing",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string",
        "array" => "a list",
        _ => "a mapping",
    }
}
