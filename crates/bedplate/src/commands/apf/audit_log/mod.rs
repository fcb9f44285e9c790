//! Audit logs of the API server (`audit.k8s.io/v1`, one event a line). Bodies, names and addresses are not read.

pub(super) mod distinct;
pub(super) mod played;

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::Path;

use bedplate_apf::matching::{Request, Target};
use serde::Deserialize;

use crate::commands::Error;

/// Bytes of an event: one with bodies has some megabytes.
const MOST_BYTES: u64 = 8 << 20;

/// What happened to a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    kind: String,
    verb: String,
    #[serde(default)]
    stage: String,
    #[serde(rename = "requestURI", default)]
    request_uri: String,
    #[serde(default)]
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    request_received_timestamp: String,
    #[serde(default)]
    stage_timestamp: String,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    api_group: String,
    subresource: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotations {
    /// There where a request took over half a second (`endpoints/request/webhook_duration.go`).
    #[serde(rename = "apiserver.latency.k8s.io/apf-queue-wait")]
    queued: String,
}

impl Event {
    /// The request as flow control saw it: after impersonation.
    fn request(self) -> Request {
        let ObjectRef { resource, namespace, api_group, subresource } = self.object_ref;
        let target = if resource.is_empty() {
            Target::Path(self.request_uri.split('?').next().unwrap_or_default().to_owned())
        } else {
            let slash = if subresource.is_empty() { "" } else { "/" };
            Target::Resource(api_group, format!("{resource}{slash}{subresource}"), namespace)
        };
        let user = self.impersonated_user.unwrap_or(self.user);
        Request { user: user.username, groups: user.groups, verb: self.verb, target }
    }
}

/// Opens a log; `-` is standard input.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| Error::Other(format!("{}: {error}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Goes through the events of a log, one in memory at a time.
///
/// # Errors
/// `LINE:COLUMN: what is wrong with it`.
fn each(mut log: impl BufRead, mut with: impl FnMut(Event) -> Result<ControlFlow<()>, String>) -> Result<(), String> {
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        number += 1;
        let wrong = |why: String| format!("{number}: {why}");
        let read = log.by_ref().take(MOST_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|error| wrong(error.to_string()))? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MOST_BYTES && line.last() != Some(&b'\n') {
            return Err(wrong(format!("an event of more than {} MiB; expected one event a line", MOST_BYTES >> 20)));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let event: Event = serde_json::from_slice(&line).map_err(|error| {
            let why = error.to_string();
            let why = why.split(" at line ").next().unwrap_or_default();
            format!(
                "{number}:{}: {why}; expected an event of audit.k8s.io/v1 as JSON, one a line",
                error.column().max(1)
            )
        })?;
        if event.kind != "Event" {
            return Err(wrong(format!("a {}; expected an Event of audit.k8s.io/v1", event.kind)));
        }
        if with(event).map_err(wrong)?.is_break() {
            return Ok(());
        }
    }
}
