//! Replicas: evaluating a row's counts, and remembering how the number came about.

use super::kinds::Count;
use crate::field::Field;
use crate::path::FieldPath;

/// How many pods a set has at its largest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replicas {
    /// The number. One where nothing says more.
    pub count: u64,
    /// One pod for every node: the number is not in the file.
    pub per_node: bool,
    /// The field that would bound them, where nothing does: `count` is the least then.
    pub unbounded: Option<FieldPath>,
    /// The factors that are not one, for the reckoning in messages.
    pub factors: Vec<Factor>,
}

/// A factor of a number of replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Factor {
    /// Its value.
    pub value: u64,
    /// What it counts: `replicas`, `trials`.
    pub what: String,
    /// The field that says so.
    pub path: FieldPath,
}

impl Replicas {
    /// One pod.
    pub(super) const fn one() -> Self {
        Self { count: 1, per_node: false, unbounded: None, factors: Vec::new() }
    }

    pub(super) fn times(&mut self, factor: Factor) {
        self.count = self.count.saturating_mul(factor.value);
        if factor.value != 1 {
            self.factors.push(factor);
        }
    }

    /// The factors as a reader would multiply them: `8 replicas x 2 numOfHosts`.
    #[must_use]
    pub fn reckoning(&self) -> String {
        if self.per_node {
            return "one for every node".to_owned();
        }
        if self.factors.is_empty() {
            return if self.unbounded.is_some() { "1 pod or more, nothing bounds them" } else { "1 pod" }.to_owned();
        }
        let product = self.factors.iter().map(|f| format!("{} {}", f.value, f.what)).collect::<Vec<_>>().join(" x ");
        if self.unbounded.is_some() { format!("{product} or more, nothing bounds them") } else { product }
    }
}

/// The keys and items that a pods' path went through, in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wild<'a> {
    Key(&'a str),
    Index(usize),
}

/// Every field that a path with `*` and `[]` leads to, with what the wildcards stood for.
pub(super) fn expand<'a>(root: &Field<'a>, path: &'static str) -> Vec<(Field<'a>, Vec<Wild<'a>>)> {
    let mut fields = vec![(root.clone(), Vec::new())];
    if path.is_empty() {
        return fields;
    }
    for part in path.split('.') {
        let mut next = Vec::with_capacity(fields.len());
        for (field, wild) in fields {
            if part == "*" {
                for (key, value) in field.entries() {
                    let mut wild: Vec<_> = wild.clone();
                    wild.push(Wild::Key(key));
                    next.push((value, wild));
                }
            } else if let Some(key) = part.strip_suffix("[]") {
                for (index, item) in field.key(key).items().enumerate() {
                    let mut wild: Vec<_> = wild.clone();
                    wild.push(Wild::Index(index));
                    next.push((item, wild));
                }
            } else {
                next.push((field.key(part), wild));
            }
        }
        fields = next;
    }
    fields
}

/// The one field that a path leads to when its wildcards stand for `wild`.
pub(super) fn resolve<'a>(root: &Field<'a>, path: &'static str, wild: &[Wild<'a>]) -> Field<'a> {
    let mut wild = wild.iter();
    path.split('.').fold(root.clone(), |field, part| {
        if part == "*" {
            match wild.next() {
                Some(Wild::Key(key)) => field.key(key),
                _ => field,
            }
        } else if let Some(key) = part.strip_suffix("[]") {
            match wild.next() {
                Some(Wild::Index(index)) => field.key(key).index(*index),
                _ => field.key(key),
            }
        } else {
            field.key(part)
        }
    })
}

/// A count's value and the field that decided it.
fn value<'a>(root: &Field<'a>, count: &Count, wild: &[Wild<'a>]) -> (u64, Option<Field<'a>>) {
    let field = |path: &'static str| resolve(root, path, wild);
    match count {
        Count::One | Count::PerNode => (1, None),
        Count::Field(path, default) => {
            let field = field(path);
            (field.u64().unwrap_or(*default), Some(field))
        }
        Count::LessOne(path, default) => {
            let field = field(path);
            (field.u64().unwrap_or(*default).saturating_sub(1), Some(field))
        }
        Count::AtLeast(inner, path) | Count::UpTo(inner, path) => {
            let (low, from) = value(root, inner, wild);
            match field(path).u64() {
                Some(high) if high > low && high < NO_MAXIMUM => (high, Some(field(path))),
                _ => (low, from),
            }
        }
        Count::When(flag, one, other) => value(root, if field(flag).bool() == Some(true) { one } else { other }, wild),
        Count::Lower(inner, path) => {
            let (high, from) = value(root, inner, wild);
            match field(path).u64() {
                Some(low) if low < high => (low, Some(field(path))),
                _ => (high, from),
            }
        }
    }
}

/// KubeRay writes the largest int32 where nobody set a maximum.
const NO_MAXIMUM: u64 = i32::MAX as u64;

/// The field that would bound a count, where nothing does.
fn unbounded<'a>(root: &Field<'a>, count: &Count, wild: &[Wild<'a>]) -> Option<Field<'a>> {
    match count {
        Count::UpTo(_, path) => {
            let field = resolve(root, path, wild);
            field.u64().is_none_or(|most| most >= NO_MAXIMUM).then_some(field)
        }
        Count::When(flag, one, other) => {
            let count = if resolve(root, flag, wild).bool() == Some(true) { one } else { other };
            unbounded(root, count, wild)
        }
        _ => None,
    }
}

/// Multiplies a row's counts.
pub(super) fn replicas<'a>(root: &Field<'a>, counts: &[Count], wild: &[Wild<'a>]) -> Replicas {
    let mut replicas = Replicas::one();
    for count in counts {
        replicas.per_node |= matches!(count, Count::PerNode);
        replicas.unbounded = replicas.unbounded.or_else(|| Some(unbounded(root, count, wild)?.path()));
        if let (value, Some(field)) = value(root, count, wild) {
            replicas.times(Factor { value, what: field.last(), path: field.path() });
        }
    }
    replicas
}
