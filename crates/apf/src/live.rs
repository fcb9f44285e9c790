//! What a server tells of its lanes while it runs: its metrics (`pkg/util/flowcontrol/metrics/metrics.go`) and its dump of
//! requests (`apf_controller_debug.go`), read line by line; and what happened between two readings.

use std::collections::BTreeMap;

/// Paths of the API server that are read.
pub const METRICS: &str = "/metrics";
/// One line a request that waits or runs.
pub const REQUESTS: &str = "/debug/api_priority_and_fairness/dump_requests";

/// Every metric that is kept begins so.
const PREFIX: &str = "apiserver_flowcontrol_";

/// Users that are told apart; the requests of more are counted together.
const MOST_USERS: usize = 10_000;

/// Counters and gauges of a level, summed over its schemas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Level {
    /// Its part of the seats.
    pub nominal: f64,
    /// What it has by lending and borrowing.
    pub limit: f64,
    /// Seats that requests hold.
    pub seats: f64,
    /// Requests that wait.
    pub waiting: f64,
    /// Requests executed since the server started.
    pub dispatched: f64,
    /// Requests refused since then.
    pub rejected: f64,
    /// Waits since then, in seconds: how many were at most so long, by that bound as its text.
    waits: BTreeMap<Bound, f64>,
}

/// The upper bound of a bucket, in thousandths of a second; the last one is infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bound(u64);

/// A reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// By name.
    pub levels: BTreeMap<String, Level>,
    /// Who has requests in which level, and how many run and wait.
    pub users: BTreeMap<(String, String), (u32, u32)>,
    /// Requests of users who are not told apart any more.
    pub others: u32,
}

impl Reading {
    /// Takes a line of the metrics.
    pub fn metric(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix(PREFIX) else { return };
        let Some((name, rest)) = rest.split_once('{') else { return };
        let Some((labels, value)) = rest.rsplit_once('}') else { return };
        // A value may have a time behind it.
        let Some(value) = value.split_ascii_whitespace().next().and_then(|value| value.parse::<f64>().ok()) else {
            return;
        };
        let Some(level) = label(labels, "priority_level") else { return };
        let field = |level: &mut Level| match name {
            "nominal_limit_seats" => level.nominal = value,
            "current_limit_seats" => level.limit = value,
            "current_executing_seats" => level.seats += value,
            "current_inqueue_requests" => level.waiting += value,
            "dispatched_requests_total" => level.dispatched += value,
            "rejected_requests_total" => level.rejected += value,
            // Who finds no room has not waited.
            "request_wait_duration_seconds_bucket" if !labels.contains("execute=\"false\"") => {
                let bound = label(labels, "le").and_then(|bound| bound.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
                *level.waits.entry(Bound((bound * 1e3) as u64)).or_default() += value;
            }
            _ => {}
        };
        field(self.levels.entry(level).or_default());
    }

    /// Takes a line of the dump with details. The heading, and what does not read as a request, is passed over.
    pub fn request(&mut self, line: &str) {
        // Columns end with a comma and are padded with blanks.
        let columns: Vec<&str> = line.split(", ").map(str::trim).collect();
        let (Some(level), Some(place)) = (columns.first(), columns.get(3)) else { return };
        let Ok(place) = place.trim_end_matches(',').parse::<i64>() else { return };
        let user = match columns.len() {
            18 => columns[10],
            // A name with a comma and a blank in it, which the dump does not quote.
            _ => "?",
        };
        let key = ((*level).to_owned(), user.trim_end_matches(',').to_owned());
        if self.users.len() >= MOST_USERS && !self.users.contains_key(&key) {
            self.others += 1;
            return;
        }
        let (running, waiting) = self.users.entry(key).or_default();
        *(if place < 0 { running } else { waiting }) += 1;
    }
}

/// The value of a label, unescaped.
fn label(labels: &str, name: &str) -> Option<String> {
    let mut rest = labels;
    loop {
        let (key, value) = rest.split_once("=\"")?;
        let mut out = String::new();
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    c => out.push(c),
                },
                (_, c) => out.push(c),
            }
        };
        if key.trim_start_matches([',', ' ']) == name {
            return Some(out);
        }
        rest = &value[end + 1..];
    }
}

/// A lane between two readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// The level's name.
    pub name: String,
    /// The later reading.
    pub now: Level,
    /// Requests a second that began to be executed.
    pub dispatched: f64,
    /// Requests a second that were refused.
    pub rejected: f64,
    /// Median and 99th percentile of the waits that ended, in milliseconds; nothing where none did. The server counts waits
    /// in classes: 5, 20, 50, 100, 200, 500 ms and so on; between two of them it is a guess.
    pub waits: Option<(f64, f64)>,
}

/// What happened between two readings that lie so many seconds apart. A server that was started meanwhile, or another one
/// behind the same address, has lower counters: then what it has counted is all of it.
#[must_use]
pub fn lanes(before: &Reading, now: &Reading, seconds: f64) -> Vec<Lane> {
    let nothing = Level::default();
    let lane = |(name, level): (&String, &Level)| {
        let old = before.levels.get(name).unwrap_or(&nothing);
        let old = if old.dispatched > level.dispatched || old.rejected > level.rejected { &nothing } else { old };
        let rate = |old: f64, new: f64| (new - old).max(0.0) / seconds.max(1e-3);
        let waits: Vec<(Bound, f64)> = level
            .waits
            .iter()
            .map(|(bound, count)| (*bound, count - old.waits.get(bound).copied().unwrap_or_default()))
            .collect();
        Lane {
            name: name.clone(),
            dispatched: rate(old.dispatched, level.dispatched),
            rejected: rate(old.rejected, level.rejected),
            waits: quantile(&waits, 0.5).zip(quantile(&waits, 0.99)),
            now: level.clone(),
        }
    };
    now.levels.iter().map(lane).collect()
}

/// A quantile of cumulative counts, in milliseconds, straight between the bounds as `histogram_quantile` has it.
fn quantile(counts: &[(Bound, f64)], quantile: f64) -> Option<f64> {
    let total = counts.last()?.1;
    if total < 0.5 {
        return None;
    }
    let rank = total * quantile;
    let (mut low, mut under) = (0.0, 0.0);
    for (Bound(bound), count) in counts {
        let bound = if *bound == u64::MAX { low } else { *bound as f64 };
        if *count >= rank {
            return Some(if *count > under { low + (bound - low) * (rank - under) / (count - under) } else { bound });
        }
        (low, under) = (bound, *count);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
# TYPE apiserver_flowcontrol_current_limit_seats gauge
apiserver_flowcontrol_nominal_limit_seats{priority_level="workload-low"} 245
apiserver_flowcontrol_current_limit_seats{priority_level="workload-low"} 240
apiserver_flowcontrol_current_executing_seats{flow_schema="a",priority_level="workload-low"} 2
apiserver_flowcontrol_current_executing_seats{flow_schema="b \"}\\",priority_level="workload-low"} 3
apiserver_flowcontrol_dispatched_requests_total{flow_schema="a",priority_level="workload-low"} 100
apiserver_flowcontrol_request_wait_duration_seconds_bucket{execute="true",flow_schema="a",priority_level="workload-low",le="0"} 100
apiserver_flowcontrol_request_wait_duration_seconds_bucket{execute="true",flow_schema="a",priority_level="workload-low",le="0.1"} 100
apiserver_flowcontrol_request_wait_duration_seconds_bucket{execute="true",flow_schema="a",priority_level="workload-low",le="+Inf"} 100
apiserver_flowcontrol_request_wait_duration_seconds_bucket{execute="false",flow_schema="a",priority_level="workload-low",le="0.005"} 9
apiserver_request_total{priority_level="workload-low"} 7
apiserver_flowcontrol_current_limit_seats{priority_level="broken
apiserver_flowcontrol_seat_fair_frac 1.5
"#;

    fn read(text: &str) -> Reading {
        let mut reading = Reading::default();
        text.lines().for_each(|line| reading.metric(line));
        reading
    }

    #[test]
    fn what_happened_between_two_readings_is_told() {
        let before = read(BEFORE);
        let level = &before.levels["workload-low"];
        assert_eq!((level.nominal, level.limit, level.seats, before.levels.len()), (245.0, 240.0, 5.0, 1));
        let later = BEFORE
            .replace(
                "total{flow_schema=\"a\",priority_level=\"workload-low\"} 100",
                "total{flow_schema=\"a\",priority_level=\"workload-low\"} 120",
            )
            .replace("le=\"0\"} 100", "le=\"0\"} 105")
            .replace("le=\"0.1\"} 100", "le=\"0.1\"} 120")
            .replace("le=\"+Inf\"} 100", "le=\"+Inf\"} 120");
        let lanes = lanes(&before, &read(&later), 2.0);
        assert_eq!((lanes[0].dispatched, lanes[0].rejected), (10.0, 0.0));
        let (median, most) = lanes[0].waits.unwrap();
        assert!((median - 100.0 / 3.0).abs() < 0.01 && (most - 98.67).abs() < 0.01, "{median} {most}");
    }

    #[test]
    fn a_server_that_was_started_anew_counts_from_nothing() {
        let before = read("apiserver_flowcontrol_dispatched_requests_total{priority_level=\"x\"} 1000");
        let now = read("apiserver_flowcontrol_dispatched_requests_total{priority_level=\"x\"} 30");
        assert_eq!((lanes(&before, &now, 1.0)[0].dispatched, lanes(&before, &now, 1.0)[0].waits), (30.0, None));
    }

    #[test]
    fn who_has_requests_is_counted() {
        let mut reading = Reading::default();
        for line in [
            "PriorityLevelName, FlowSchemaName,   QueueIndex, RequestIndexInQueue, FlowDistingsher, ArriveTime, InitialSeats, FinalSeats, AdditionalLatency, StartTime, UserName, Verb, APIPath, Namespace, Name, APIVersion, Resource, SubResource",
            "workload-low,      service-accounts, 14,         0,                   ann,             2026-11-26T10:00:00Z,  1, 0, 0s, 0001-01-01T00:00:00Z, ann, create, /apis/batch/v1/jobs, team, , batch/v1, jobs, ",
            "workload-low,      service-accounts, 14,         -1,                  ann,             2026-11-26T10:00:00Z,  1, 0, 0s, 2026-11-26T10:00:00Z, ann, create, /apis/batch/v1/jobs, team, , batch/v1, jobs, ",
            "workload-low,      service-accounts, 14,         -1,                  CN=a, O=b,       2026-11-26T10:00:00Z,  1, 0, 0s, 2026-11-26T10:00:00Z, CN=a, O=b, get, /, , , , , ",
            "nonsense",
        ] {
            reading.request(line);
        }
        let count = |user: &str| reading.users.get(&("workload-low".to_owned(), user.to_owned())).copied();
        assert_eq!((count("ann"), count("?"), reading.users.len()), (Some((1, 1)), Some((1, 0)), 2));
    }
}
