//! The requests of an audit log that differ, to be explained one by one.

use std::io::BufRead;
use std::ops::ControlFlow;

use bedplate_apf::matching::Request;

/// Requests of a log that are told one by one.
const MOST: usize = 20;
/// Requests that are known again.
const KNOWN: usize = 1000;

/// What a log holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Recorded {
    /// Requests that differ, in the log's order.
    pub(in super::super) requests: Vec<Request>,
    /// Events that were read.
    events: usize,
    /// Others that differ, and are too many to tell.
    more: usize,
}

impl Recorded {
    /// What is said after the requests.
    pub(in super::super) fn rest(&self) -> String {
        let told = self.requests.len();
        match self.more {
            0 if self.events == told => String::new(),
            0 => format!("{} events, {told} requests that differ\n", self.events),
            more => format!("{} events; {more} more that differ from these {told} are not told\n", self.events),
        }
    }
}

/// Reads a log.
///
/// # Errors
/// `LINE:COLUMN: what is wrong with it`.
pub(in super::super) fn read(log: impl BufRead) -> Result<Recorded, String> {
    let mut recorded = Recorded::default();
    let mut known: Vec<Request> = Vec::new();
    super::each(log, |event| {
        recorded.events += 1;
        let request = event.request();
        if known.contains(&request) {
            return Ok(ControlFlow::Continue(()));
        }
        if recorded.requests.len() < MOST {
            recorded.requests.push(request.clone());
        } else {
            recorded.more += 1;
        }
        if known.len() < KNOWN {
            known.push(request);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if recorded.events == 0 {
        return Err("no event of an audit log is in it".to_owned());
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use bedplate_apf::matching::Target;

    use super::*;

    const LIST: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","requestURI":"/apis/batch/v1/jobs?limit=500","verb":"list","user":{"username":"admin","groups":["system:masters"]},"impersonatedUser":{"username":"system:serviceaccount:a:b","groups":["system:serviceaccounts"]},"objectRef":{"resource":"jobs","apiGroup":"batch","apiVersion":"v1"}}"#;
    const PATH: &str = r#"{"kind":"Event","verb":"get","requestURI":"/healthz?verbose","user":{"username":"system:anonymous","groups":["system:unauthenticated"]}}"#;

    #[test]
    fn a_request_is_read_as_flow_control_saw_it() {
        let recorded = read(format!("{LIST}\n\n{PATH}\n{LIST}\n").as_bytes()).unwrap();
        let [list, path] = &recorded.requests[..] else { panic!("{recorded:?}") };
        assert_eq!(list.user, "system:serviceaccount:a:b");
        assert_eq!(list.target, Target::Resource("batch".into(), "jobs".into(), String::new()));
        assert_eq!(path.target, Target::Path("/healthz".into()));
        assert_eq!(recorded.rest(), "3 events, 2 requests that differ\n");
    }

    #[test]
    fn what_is_no_event_is_told_with_its_line() {
        for (text, words) in [
            (format!("{LIST}\nnot json\n"), "2:2: expected"),
            (r#"{"kind":"Pod","verb":"get"}"#.to_owned(), "1: a Pod; expected an Event"),
            ("\n".to_owned(), "no event of an audit log"),
        ] {
            let told = read(text.as_bytes()).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
    }
}
