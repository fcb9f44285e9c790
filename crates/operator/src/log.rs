//! The log: text for people, JSON for programs; one line a decision.

use std::io;

use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Time as RFC 3339, in seconds.
struct Rfc3339;

impl FormatTime for Rfc3339 {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        out.write_str(&bedplate_cluster::unlock::timestamp(bedplate_cluster::unlock::now()))
    }
}

/// Writes what happens to standard error from now on; panics too.
pub fn start(json: bool, level: Level) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_timer(Rfc3339)
        .with_ansi(false)
        .with_target(false)
        .with_writer(io::stderr);
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.init();
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, text, "a mistake in Bedplate; please report it");
    }));
}
