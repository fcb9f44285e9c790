//! The time. The only place that reads the clock.

use bedplate_cluster::unlock;
use bedplate_model::moment::timestamp;

/// Now, as RFC 3339.
pub(crate) fn now() -> String {
    timestamp(unlock::now())
}

/// A moment in UTC, as `YYYY-MM-DD HH:MM:SS`.
pub(crate) fn moment(since_1970: u64) -> String {
    timestamp(since_1970).replace('T', " ").trim_end_matches('Z').to_owned()
}
