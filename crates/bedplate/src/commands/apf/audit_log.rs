//! Requests out of an audit log of the API server (`audit.k8s.io/v1`, Event; one a line).

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use bedplate_apf::matching::{Request, Target};
use serde::Deserialize;

use crate::commands::Error;

/// Requests of a log that are told one by one.
const MOST: usize = 20;
/// Bytes of a log that are read, and of one event: with bodies an event has up to a few MiB.
const BYTES: u64 = 1 << 30;
const LINE: u64 = 8 << 20;

/// What a log holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Requests that differ, in the log's order.
    pub(super) requests: Vec<Request>,
    /// Events that were read.
    events: usize,
    /// Others that differ, and are too many to tell.
    more: usize,
}

impl Recorded {
    /// What is said after the requests.
    pub(super) fn rest(&self) -> String {
        let told = self.requests.len();
        match self.more {
            0 if self.events == told => String::new(),
            0 => format!("{} events, {told} requests that differ\n", self.events),
            more => format!("{} events; {more} more that differ from these {told} are not told\n", self.events),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    user: User,
    impersonated_user: Option<User>,
    #[serde(default, rename = "requestURI")]
    uri: String,
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    api_group: String,
}

impl Event {
    /// The request as flow control saw it: after impersonation.
    fn request(self) -> Request {
        let user = self.impersonated_user.unwrap_or(self.user);
        let target = match self.object_ref.filter(|object| !object.resource.is_empty()) {
            Some(ObjectRef { resource, subresource, namespace, api_group }) => {
                let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
                Target::Resource(api_group, resource, namespace)
            }
            None => Target::Path(self.uri.split('?').next().unwrap_or_default().to_owned()),
        };
        Request { user: user.username, groups: user.groups, verb: self.verb, target }
    }
}

/// Reads a log; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<Recorded, Error> {
    let name = path.display();
    if path == Path::new("-") {
        return from(std::io::stdin().lock(), "standard input");
    }
    let file = std::fs::File::open(path).map_err(|error| Error::Other(format!("{name}: {error}")))?;
    from(BufReader::new(file), &name.to_string())
}

fn from(log: impl BufRead, name: &str) -> Result<Recorded, Error> {
    let mut log = log.take(BYTES);
    let mut recorded = Recorded::default();
    let mut known: Vec<Request> = Vec::new();
    let (mut line, mut number) = (Vec::new(), 0_usize);
    loop {
        line.clear();
        let read = (&mut log).take(LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Error::Other(format!("{name}: {error}")))?;
        if read == 0 {
            break;
        }
        number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let wrong = |why: String| {
            Error::Other(format!(
                "{name}:{number}: {why}; expected one event of an audit log a line (audit.k8s.io/v1, kind Event, as JSON)"
            ))
        };
        let event: Event = serde_json::from_slice(&line).map_err(|error| wrong(error.to_string()))?;
        if event.kind != "Event" || event.verb.is_empty() {
            return Err(wrong("no event with a verb".to_owned()));
        }
        recorded.events += 1;
        let request = event.request();
        if known.contains(&request) {
            continue;
        }
        if recorded.requests.len() < MOST {
            recorded.requests.push(request.clone());
        } else {
            recorded.more += 1;
        }
        // Enough to know most repetitions, and to stay small.
        if known.len() < 1000 {
            known.push(request);
        }
    }
    if recorded.events == 0 {
        return Err(Error::Other(format!("{name}: no event of an audit log is in it")));
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete","requestURI":"/apis/batch/v1/jobs?limit=500","verb":"list","user":{"username":"admin","groups":["system:masters"]},"impersonatedUser":{"username":"system:serviceaccount:a:b","groups":["system:serviceaccounts"]},"objectRef":{"resource":"jobs","apiGroup":"batch","apiVersion":"v1"}}"#;
    const PATH: &str = r#"{"kind":"Event","verb":"get","requestURI":"/healthz?verbose","user":{"username":"system:anonymous","groups":["system:unauthenticated"]}}"#;

    #[test]
    fn a_request_is_read_as_flow_control_saw_it() {
        let recorded = from(format!("{LIST}\n\n{PATH}\n{LIST}\n").as_bytes(), "log").unwrap();
        let [list, path] = &recorded.requests[..] else { panic!("{recorded:?}") };
        assert_eq!(list.user, "system:serviceaccount:a:b");
        assert_eq!(list.target, Target::Resource("batch".into(), "jobs".into(), String::new()));
        assert_eq!(path.target, Target::Path("/healthz".into()));
        assert_eq!(recorded.rest(), "3 events, 2 requests that differ\n");
    }

    #[test]
    fn what_is_no_event_is_told_with_its_line() {
        for (text, words) in [
            (format!("{LIST}\nnot json\n"), "log:2: "),
            (r#"{"kind":"Pod","verb":"get"}"#.to_owned(), "log:1: no event"),
            ("\n".to_owned(), "no event of an audit log"),
        ] {
            let told = from(text.as_bytes(), "log").unwrap_err().to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
