//! The clock of the machine. What decides takes its time as an argument; what acts reads it here.

use std::time::{SystemTime, UNIX_EPOCH};

use bedplate_model::moment;

/// Now, in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Now, as RFC 3339.
#[must_use]
pub fn timestamp() -> String {
    moment::timestamp(now())
}
