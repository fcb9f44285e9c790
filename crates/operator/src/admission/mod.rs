//! Admission: from the bytes of an AdmissionReview to the bytes of its answer, without I/O and without a clock.

pub mod decide;
pub mod patch;
pub mod review;

pub use decide::{Answer, Outcome, ask, explain, judge};
pub(crate) use review::cut;
pub use review::{Malformed, Request, read};

#[cfg(test)]
mod tests;
