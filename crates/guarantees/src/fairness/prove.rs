//! The drill of fairness: what a flood beside a probe has shown, and when it has to stop.

use bedplate_apf::distribution::Distribution;

/// Most that a flood may be told to do: a mistyped number must not be an attack.
pub const MOST_REQUESTS: u32 = 20_000;
/// Longest flood, in seconds.
pub const MOST_SECONDS: u64 = 120;
/// Most clients of a flood.
pub const MOST_CLIENTS: u32 = 200;

/// What some clients have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// From sending to answer, in microseconds, in the order of the answers.
    pub latency: Vec<u32>,
    /// Requests that flow control refused (429).
    pub refused: u64,
    /// Requests that the server failed (5xx), or did not answer.
    pub failed: u64,
    /// The last words of one that failed.
    pub words: String,
}

impl Tally {
    /// A quantile of the latencies, in milliseconds; 0 where nothing was answered.
    #[must_use]
    pub fn milliseconds(&self, quantile: f64) -> f64 {
        let mut all = Distribution::default();
        self.latency.iter().for_each(|micros| all.add(*micros));
        all.quantile(quantile)
    }

    /// Requests, whatever became of them.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.latency.len() as u64 + self.refused + self.failed
    }
}

/// How a server answers that it is ready: the time that it took, or what it said.
pub type Ready = Result<f64, String>;

/// Probes that are looked at to see whether the server suffers now.
const RECENT: usize = 20;
/// Milliseconds within which a server that is well says that it is ready.
const READY_WITHIN: f64 = 5000.0;

/// Why a flood has to stop at once; nothing while the server bears it. `limit`: milliseconds of a probe's p99 that are fine.
#[must_use]
pub fn suffers(ready: &Ready, probe: &Tally, flood: &Tally, limit: f64) -> Option<String> {
    match ready {
        Err(why) => return Some(format!("the server says that it is not ready: {why}")),
        Ok(took) if *took > READY_WITHIN => {
            return Some(format!("the server took {took:.0} ms to say that it is ready"));
        }
        Ok(_) => {}
    }
    let bad = probe.refused + probe.failed;
    if bad >= 3 {
        return Some(format!("{bad} requests of the controller's probe failed"));
    }
    let recent = &probe.latency[probe.latency.len().saturating_sub(RECENT)..];
    let slow = recent.iter().filter(|micros| f64::from(**micros) / 1e3 > 2.0 * limit).count();
    if slow * 4 >= RECENT {
        return Some(format!(
            "{slow} of the controller's last {} requests took more than {:.0} ms",
            recent.len(),
            2.0 * limit
        ));
    }
    if flood.failed >= 10 && flood.failed * 20 > flood.requests() {
        return Some(format!("the server fails {} requests of the flood: {}", flood.failed, flood.words));
    }
    None
}

/// What a drill has shown: whether the guarantee holds, and in a sentence. `stopped`: why the flood was stopped, if it was.
#[must_use]
pub fn verdict(quiet: &Tally, flooded: &Tally, flood: &Tally, limit: f64, stopped: Option<&str>) -> (bool, String) {
    let p99 = flooded.milliseconds(0.99);
    let numbers = format!(
        "controller's p99 {p99:.0} ms beside a flood of {} requests, {:.0} ms without; {} of {} failed",
        flood.requests(),
        quiet.milliseconds(0.99),
        flooded.failed + flooded.refused,
        flooded.requests(),
    );
    match () {
        () if stopped.is_some() => {
            (false, format!("stopped before its end, {}; {numbers}", stopped.unwrap_or_default()))
        }
        () if flooded.latency.len() < RECENT => (false, format!("too few probes to tell; {numbers}")),
        () if flooded.failed + flooded.refused > 0 => (false, format!("requests of the controller failed; {numbers}")),
        () if p99 > limit => (false, format!("the controller waited longer than {limit:.0} ms; {numbers}")),
        () => (true, numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(milliseconds: u32, count: usize) -> Tally {
        Tally { latency: vec![milliseconds * 1000; count], ..Tally::default() }
    }

    /// A drill that takes the API server down proves the opposite of what it should.
    #[test]
    fn a_flood_stops_when_the_server_suffers_and_not_because_users_are_refused() {
        let (fine, refused) = (tally(10, 100), Tally { refused: 5000, ..tally(30, 100) });
        assert_eq!(suffers(&Ok(3.0), &fine, &refused, 1000.0), None);
        assert!(suffers(&Err("500".to_owned()), &fine, &refused, 1000.0).is_some());
        assert!(suffers(&Ok(6000.0), &fine, &refused, 1000.0).is_some());
        assert!(suffers(&Ok(3.0), &Tally { failed: 3, ..fine.clone() }, &refused, 1000.0).is_some());
        let mut slow = fine.clone();
        slow.latency.extend([3_000_000; 5]);
        assert!(suffers(&Ok(3.0), &slow, &refused, 1000.0).unwrap().contains("5 of the controller's last 20"));
        let failing = Tally { failed: 30, words: "503".to_owned(), ..tally(30, 100) };
        assert!(suffers(&Ok(3.0), &fine, &failing, 1000.0).is_some());
    }

    #[test]
    fn the_guarantee_holds_where_no_controller_failed_or_waited() {
        let (quiet, flood) = (tally(3, 50), Tally { refused: 40, ..tally(200, 900) });
        assert!(verdict(&quiet, &tally(30, 200), &flood, 1000.0, None).0);
        for (flooded, stopped, words) in [
            (tally(1500, 200), None, "longer than 1000 ms"),
            (Tally { refused: 1, ..tally(30, 200) }, None, "failed"),
            (tally(30, 3), None, "too few"),
            (tally(30, 200), Some("because"), "stopped before its end, because"),
        ] {
            let (holds, told) = verdict(&quiet, &flooded, &flood, 1000.0, stopped);
            assert!(!holds && told.contains(words), "{told}");
        }
    }
}
