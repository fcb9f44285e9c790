//! The load of a simulation from an audit log: who sent what when, and how long it was executed.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::ControlFlow;

use bedplate_apf::matching::{Request, Target};
use bedplate_apf::simulate::{Pace, Recorded, Source, Takes};
use bedplate_apf::width::Asks;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Event;

/// Requests that are played: 16 bytes each.
const MOST_REQUESTS: usize = 2_000_000;
/// Kinds of requests, by user, verb, resource and namespace.
const MOST_SOURCES: usize = 8_192;
/// What an audit log says.
#[derive(Debug)]
pub(in super::super) struct Log {
    /// Who sent what.
    pub(in super::super) sources: Vec<Source>,
    /// From the first request to the last, in seconds.
    pub(in super::super) seconds: u64,
    /// What is not in it, in sentences.
    pub(in super::super) notes: Vec<String>,
}

/// Streams that no lane takes (`BasicLongRunningRequestCheck` of the API server).
const STREAMS: &[&str] = &["attach", "exec", "proxy", "log", "portforward"];

/// The request of an event, when it came, and how long it was executed, both in nanoseconds; nothing for an event that tells
/// of no end, and for streams.
fn request(event: Event) -> Result<Option<(Request, i128, u64)>, String> {
    // A watch has its seat until it is answered first.
    if event.stage != if event.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" } {
        return Ok(None);
    }
    if STREAMS.contains(&event.object_ref.subresource.as_str()) || event.verb == "proxy" {
        return Ok(None);
    }
    let time = |text: &str| {
        let parsed = OffsetDateTime::parse(text, &Rfc3339);
        parsed.map(OffsetDateTime::unix_timestamp_nanos).map_err(|error| format!("{text}: {error}"))
    };
    let (received, ended) = (time(&event.request_received_timestamp)?, time(&event.stage_timestamp)?);
    let took = u64::try_from(ended - received).unwrap_or(0).saturating_sub(duration(&event.annotations.queued));
    Ok(Some((event.request(), received, took)))
}

/// What Go writes for a duration, in nanoseconds: `1m2.5s`, `812.3ms`; 0 where it is none.
fn duration(text: &str) -> u64 {
    const UNITS: &[(&str, f64)] =
        &[("h", 3600e9), ("ms", 1e6), ("m", 60e9), ("µs", 1e3), ("us", 1e3), ("ns", 1.0), ("s", 1e9)];
    let (mut rest, mut sum) = (text, 0.0);
    while let Some(end) = rest.find(|c: char| c != '.' && !c.is_ascii_digit()) {
        let (number, unit) = rest.split_at(end);
        let (Ok(number), Some((name, size))) =
            (number.parse::<f64>(), UNITS.iter().find(|(name, _)| unit.starts_with(name)))
        else {
            return 0;
        };
        sum += number * size;
        rest = &unit[name.len()..];
    }
    sum as u64
}

/// One source while the log is read.
struct Growing {
    request: Request,
    times: Vec<(i128, u64)>,
}

/// Reads a log up to its end, or as much as is played.
///
/// # Errors
/// `LINE:COLUMN: what is wrong with it`.
pub(in super::super) fn read(log: impl BufRead) -> Result<Log, String> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut sources: Vec<Growing> = Vec::new();
    let (mut count, mut left_out) = (0, 0_u64);
    super::each(log, |event| {
        let Some((request, at, took)) = request(event)? else { return Ok(ControlFlow::Continue(())) };
        let key = format!("{request:?}");
        let place = match places.get(&key) {
            Some(place) => *place,
            None if sources.len() == MOST_SOURCES => {
                left_out += 1;
                return Ok(ControlFlow::Continue(()));
            }
            None => {
                places.insert(key, sources.len());
                sources.push(Growing { request, times: Vec::new() });
                sources.len() - 1
            }
        };
        sources[place].times.push((at, took));
        count += 1;
        Ok(if count == MOST_REQUESTS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let times = || sources.iter().flat_map(|source| &source.times).map(|(at, _)| *at);
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        return Err("no request in it has ended; expected events of the stage ResponseComplete".to_owned());
    };
    let mut notes = Vec::new();
    if count == MOST_REQUESTS {
        notes.push(format!("the first {MOST_REQUESTS} requests are played; what follows in the log is not"));
    }
    if left_out > 0 {
        notes.push(format!("{left_out} requests are left out: more than {MOST_SOURCES} kinds of requests"));
    }
    let seconds = u64::try_from((last - first) / 1_000_000_000).unwrap_or(u64::MAX);
    Ok(Log { sources: sources.into_iter().map(|source| source.played(first)).collect(), seconds, notes })
}

impl Growing {
    fn played(mut self, first: i128) -> Source {
        self.times.sort_unstable();
        let played = |(at, took): &(i128, u64)| Recorded { at: u64::try_from(at - first).unwrap_or(0), took: *took };
        let what = match &self.request.target {
            Target::Resource(_, resource, _) => resource.as_str(),
            Target::Path(path) => path.as_str(),
        };
        Source {
            name: format!("{} {} {what}", self.request.user, self.request.verb),
            flows: 1,
            pace: Pace::Recorded(self.times.iter().map(played).collect()),
            active: (0, u64::MAX),
            total: None,
            takes: Takes::Exactly(0),
            asks: Asks::Seats(1),
            // What came again is in the log already.
            retries: 0,
            request: self.request,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(stage: &str, verb: &str, at: &str, ended: &str) -> Value {
        json!({ "kind": "Event", "apiVersion": "audit.k8s.io/v1", "stage": stage, "verb": verb, "requestURI": "/apis/batch/v1/jobs?limit=1",
            "user": { "username": "ann", "groups": ["system:authenticated"] },
            "objectRef": { "resource": "jobs", "namespace": "team-a", "apiGroup": "batch", "apiVersion": "v1" },
            "requestReceivedTimestamp": format!("2026-11-20T10:00:{at}Z"), "stageTimestamp": format!("2026-11-20T10:00:{ended}Z") })
    }

    fn log(events: &[Value]) -> String {
        events.iter().map(|event| format!("{event}\n")).collect()
    }

    #[test]
    fn a_log_is_who_sent_what_when() {
        let mut queued = event("ResponseComplete", "create", "03.000000", "04.500000");
        queued["annotations"] = json!({ "apiserver.latency.k8s.io/apf-queue-wait": "1.4s" });
        let mut as_another = event("ResponseComplete", "create", "02.000000", "02.001000");
        as_another["impersonatedUser"] = json!({ "username": "bob", "groups": ["team"] });
        let mut stream = event("ResponseComplete", "get", "01.0", "59.0");
        stream["objectRef"]["subresource"] = "exec".into();
        let told = read(
            log(&[
                event("RequestReceived", "create", "01.000000", "01.000000"),
                queued,
                event("ResponseComplete", "create", "01.000000", "01.020000"),
                event("ResponseStarted", "watch", "01.500000", "01.510000"),
                event("ResponseComplete", "watch", "01.500000", "50.000000"),
                as_another,
                stream,
            ])
            .as_bytes(),
        )
        .unwrap();
        assert_eq!((told.sources.len(), told.seconds, told.notes.len()), (3, 2, 0));
        let Pace::Recorded(creates) = &told.sources[0].pace else { panic!("recorded") };
        let played: Vec<_> = creates.iter().map(|request| (request.at / 1_000_000, request.took / 1_000_000)).collect();
        assert_eq!(played, [(0, 20), (2000, 100)]);
        assert_eq!(told.sources[0].request.target, Target::Resource("batch".into(), "jobs".into(), "team-a".into()));
        assert_eq!((told.sources[2].request.user.as_str(), told.sources[2].request.groups.len()), ("bob", 1));
    }

    #[test]
    fn what_is_no_log_is_told_at_its_line() {
        let good = log(&[event("ResponseComplete", "create", "01.0", "01.1")]);
        for (wrong, words) in [
            (format!("{good}{{\"stage\": 3}}\n"), "2:11: invalid type: integer `3`"),
            (format!("{good}\nhello\n"), "3:1: expected value"),
            (log(&[event("ResponseComplete", "create", "01.0", "1:1")]), "1: 2026-11-20T10:00:1:1Z"),
            (log(&[event("RequestReceived", "create", "01.0", "01.0")]), "no request in it has ended"),
            (String::new(), "no request in it has ended"),
        ] {
            let told = read(wrong.as_bytes()).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        assert!(read(&vec![b' '; 9 << 20][..]).unwrap_err().contains("more than 8 MiB"));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let read: Vec<u64> = ["1m2.5s", "812.3ms", "3µs", "", "nonsense"].into_iter().map(duration).collect();
        assert_eq!(read, [62_500_000_000, 812_300_000, 3000, 0, 0]);
    }
}
