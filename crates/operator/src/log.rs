//! The log: text for people, JSON for programs; one line a decision.

use std::io;

use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{self, time::FormatTime};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::traces::Tracer;

/// Time as RFC 3339, in seconds.
struct Rfc3339;

impl FormatTime for Rfc3339 {
    fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        out.write_str(&bedplate_cluster::clock::timestamp())
    }
}

/// Writes what happens to standard error from now on; panics too. Makes spans where there is a tracer.
pub fn start(json: bool, level: Level, tracer: Option<Tracer>) {
    let lines = fmt::layer().with_timer(Rfc3339).with_ansi(false).with_target(false).with_writer(io::stderr);
    let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    // Spans are for traces: a line says everything by itself.
    let events =
        filter_fn(move |metadata| metadata.is_event() && *metadata.level() <= level).with_max_level_hint(level);
    tracing_subscriber::registry().with(lines.with_filter(events)).with(tracer.map(Tracer::layer)).init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or_default();
        tracing::error!(place, text, "a mistake in Bedplate; please report it");
    }));
}
