//! What a service says, in a sentence of ours. Never a secret: those are in headers, and in URLs that are not shown.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::time::Duration;

use object_store::Error;

/// A service, for messages.
pub(super) struct Service {
    /// Who answers: an address, or the name of the service.
    pub(super) name: String,
    /// The bucket.
    pub(super) bucket: String,
    /// What gives it credentials.
    pub(super) credentials: &'static str,
    /// What sets its address, where that can be set.
    pub(super) endpoint: &'static str,
    /// How long it is asked again.
    pub(super) patience: Duration,
}

/// Codes of an answer that tell of the bucket.
const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"];

/// Answers to who may not do that, where the library has no error of its own for it: of a list.
const REFUSED: [&str; 2] = ["401 Unauthorized", "403 Forbidden"];

/// Where instances of the clouds ask for credentials.
const METADATA: [&str; 3] = ["169.254.", "metadata.google.internal", "metadata/identity"];

/// That there is no such object.
pub(super) fn none() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "there is no such object")
}

impl Service {
    pub(super) fn told(&self, error: &Error) -> io::Error {
        let Self { name, bucket, credentials, endpoint, patience } = self;
        let texts = chain(error);
        let has = |some: &[&str]| texts.iter().any(|text| some.iter().any(|one| text.contains(one)));
        let new = |kind, text: String| io::Error::new(kind, text);
        let code = || texts.iter().find_map(|text| code(text)).map_or(String::new(), |code| format!(" ({code})"));
        if has(&NO_BUCKET) {
            return new(ErrorKind::Other, format!("{name} has no bucket `{bucket}`: create it, or correct the URL"));
        }
        match error {
            Error::NotFound { .. } => return none(),
            Error::AlreadyExists { .. } | Error::Precondition { .. } => {
                return new(ErrorKind::AlreadyExists, "there is such an object".to_owned());
            }
            _ => {}
        }
        if matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) || has(&REFUSED) {
            let code = code();
            let text =
                format!("{name} refuses the credentials{code}: check {credentials}, and their rights to `{bucket}`");
            return new(ErrorKind::PermissionDenied, text);
        }
        if has(&METADATA) {
            return new(ErrorKind::PermissionDenied, format!("there are no credentials for {name}: set {credentials}"));
        }
        if has(&["URL scheme is not allowed"]) {
            let text = format!("{name} has no TLS: give an https:// address, or allow that with AWS_ALLOW_HTTP=true");
            return new(ErrorKind::InvalidInput, text);
        }
        let last = texts.last().map_or("", String::as_str).trim_end();
        let kind = network(error);
        if kind.is_some() || has(&["timed out", "dns error"]) {
            let seconds = patience.as_secs();
            let text = format!("no answer from {name} in {seconds} s ({last}): see that it runs, and check {endpoint}");
            return new(kind.filter(|kind| *kind != ErrorKind::NotFound).unwrap_or(ErrorKind::TimedOut), text);
        }
        new(ErrorKind::Other, format!("{name} says: {}", code_or(last)))
    }
}

impl Service {
    /// That whoever writes here cannot be fenced.
    pub(super) fn ignores_conditions(&self) -> io::Error {
        let text = format!(
            "{} ignores the condition of a put (If-None-Match), so a stale writer could publish over a newer one: use a \
             service that knows it, or a folder",
            self.name
        );
        io::Error::new(ErrorKind::Unsupported, text)
    }
}

/// What each error in a chain says.
fn chain(error: &Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

/// The kind of the system's error at the end of a chain.
fn network(error: &Error) -> Option<ErrorKind> {
    let mut next = error.source();
    let mut kind = None;
    while let Some(error) = next {
        kind = error.downcast_ref::<io::Error>().map(io::Error::kind).or(kind);
        next = error.source();
    }
    kind
}

/// The code of an answer in XML.
fn code(text: &str) -> Option<&str> {
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    (code.len() < 64).then_some(code)
}

/// An answer on one line.
fn code_or(text: &str) -> String {
    let line = || text.lines().next().unwrap_or_default().chars().take(300).collect();
    code(text).map_or_else(line, str::to_owned)
}
