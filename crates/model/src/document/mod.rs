//! Documents: text that people wrote, as trees in which every value knows its bytes.
//!
//! ```text
//!   bytes ─▶ Source (text, line index) ─▶ kind of file ─▶ Yaml | Dockerfile | Corefile
//!                                                          │
//!                                    Document (tree + span) ─▶ Object ─▶ Workload
//! ```

mod block;
pub mod dockerfile;
mod kind;
mod lines;
pub mod suppression;
mod template;
pub mod yaml;

pub use kind::{FileKind, file_kind};
pub use lines::{LineIndex, Position};
pub use template::{Unrendered, read, read_some};
pub use yaml::{Document, Parsed, parse, parse_slowly};

use crate::value::Span;

/// Where a text begins: behind a byte order mark, where it has one.
pub(crate) fn beginning(text: &str) -> usize {
    let mark = '\u{feff}';
    if text.starts_with(mark) { mark.len_utf8() } else { 0 }
}

/// Bounds on what one file may ask of us. They hold for every kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest file, in bytes. The API server refuses objects over 3 MiB; a dump of a
    /// namespace is larger, a data file by mistake larger still.
    pub bytes: usize,
    /// Deepest nesting of mappings and sequences.
    pub depth: usize,
    /// Most values in one document, after aliases are expanded.
    pub nodes: usize,
    /// Most values that aliases may add to one document ("a YAML bomb").
    pub alias_nodes: usize,
}

impl Limits {
    /// What `bedplate check` uses.
    pub const DEFAULT: Self = Self { bytes: 16 << 20, depth: 100, nodes: 1_000_000, alias_nodes: 100_000 };
}

/// Why a document could not be read, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyntaxError {
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// The bytes that are wrong.
    pub span: Span,
    /// What to do about it, where that can be said.
    pub help: Option<String>,
}
