//! What Bedplate reasons about, as pure data: documents, objects, workloads, findings, profiles.
//!
//! Nothing here does I/O or reads a clock. A document keeps the bytes of every value; an
//! [`Object`] is one Kubernetes object in it; a [`Workload`] is an object that holds pods, read
//! through the one table of kinds in [`workload::kinds`]. Rules speak of them in field paths and
//! return [`Finding`]s; a [`Fix`] is edits on field paths.

pub mod accelerator;
pub mod checkpoint_report;
pub mod claim;
pub mod crd;
pub mod document;

pub mod edit;
pub mod exemption;
pub mod field;
pub mod finding;
pub mod guarantee;
pub mod image;
pub mod moment;
pub mod names;
pub mod object;
pub mod path;

pub mod profile;
pub mod quantity;
pub mod value;
pub mod workload;

pub use document::{Document, LineIndex, SyntaxError};
pub use exemption::Exemption;
pub use field::Field;
pub use finding::{Confidence, Edit, Finding, Fix, Place, Safety, Severity, SubjectRef};
pub use guarantee::Guarantee;
pub use image::ImageRef;
pub use object::Object;
pub use path::{FieldPath, Segment};

pub use profile::{Profile, Settings};
pub use value::{Entry, Node, Span, Style, Value};
pub use workload::{Container, PodSet, Purpose, Workload};
