//! One Kubernetes object of a document.

use crate::document::Document;
use crate::field::Field;
use crate::finding::SubjectRef;
use crate::path::FieldPath;
use crate::value::{Node, Value};

/// A Kubernetes object: anything with `apiVersion` and `kind`. Paths of its fields start at the
/// root of the document, so an item of a `List` has `items[3].` before its own.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    /// The object itself.
    pub root: Field<'a>,
    /// `apiVersion`, such as `batch/v1`.
    pub api_version: &'a str,
    /// `kind`, such as `Job`.
    pub kind: &'a str,
    group: &'a str,
    version: &'a str,
}

impl<'a> Object<'a> {
    /// Reads a field as an object; nothing where `apiVersion` or `kind` is missing.
    #[must_use]
    pub fn new(root: Field<'a>) -> Option<Self> {
        let api_version = root.key("apiVersion").str()?;
        let kind = root.key("kind").str()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Some(Self { root, api_version, kind, group, version })
    }

    /// The objects of a document: itself, or the items of a `List` (`List`, `PodList`, …),
    /// nested lists too.
    #[must_use]
    pub fn of(document: &'a Document<'a>) -> Vec<Self> {
        let mut found = Vec::new();
        Self::collect(Field::root(&document.root), &mut found);
        found
    }

    /// The object of a tree without a document, such as a live object.
    #[must_use]
    pub fn of_node(node: &'a Node<'a>) -> Option<Self> {
        Self::new(Field::root(node))
    }

    fn collect(root: Field<'a>, found: &mut Vec<Self>) {
        let Some(object) = Self::new(root) else { return };
        if object.kind.ends_with("List") && matches!(object.root.key("items").value(), Some(Value::Seq(_))) {
            for item in object.root.key("items").items() {
                Self::collect(item, found);
            }
        } else {
            found.push(object);
        }
    }

    /// The API group: empty for the core group.
    #[must_use]
    pub const fn group(&self) -> &'a str {
        self.group
    }

    /// The version, such as `v1beta1`.
    #[must_use]
    pub const fn version(&self) -> &'a str {
        self.version
    }

    /// Whether this is a kind of a group, in any version.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group() == group
    }

    /// `metadata.name`, or `metadata.generateName` with a star, or nothing.
    #[must_use]
    pub fn name(&self) -> String {
        let metadata = self.root.key("metadata");
        metadata
            .key("name")
            .scalar()
            .or_else(|| metadata.key("generateName").str().map(|p| format!("{p}*")))
            .unwrap_or_default()
    }

    /// `metadata.namespace`, where it is given.
    #[must_use]
    pub fn namespace(&self) -> Option<&'a str> {
        self.root.key("metadata").key("namespace").str()
    }

    /// The reference to what controls it, where something does.
    #[must_use]
    pub fn controller(&self) -> Option<Field<'a>> {
        self.at("metadata.ownerReferences").items().find(|owner| owner.key("controller").bool() == Some(true))
    }

    /// A label of the object.
    #[must_use]
    pub fn label(&self, name: &'a str) -> Field<'a> {
        self.root.at("metadata.labels").key(name)
    }

    /// An annotation of the object.
    #[must_use]
    pub fn annotation(&self, name: &'a str) -> Field<'a> {
        self.root.at("metadata.annotations").key(name)
    }

    /// A field of the object at a dotted path of plain keys.
    #[must_use]
    pub fn at(&self, path: &'a str) -> Field<'a> {
        self.root.at(path)
    }

    /// The path of the object's name (or of the object), to point at the object as a whole.
    #[must_use]
    pub fn name_path(&self) -> FieldPath {
        self.root.at("metadata.name").path()
    }

    /// How findings name this object.
    #[must_use]
    pub fn subject(&self) -> SubjectRef {
        SubjectRef {
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            namespace: self.namespace().map(str::to_owned),
            name: self.name(),
        }
    }
}
