//! Certificates from files that somebody else rotates, such as a mounted Secret of cert-manager.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::resolver::Resolver;
use super::{Error, Facts, issue};

/// A certificate and its key in files. Read again and again: a mounted Secret changes by a link, which not every
/// file system tells of.
#[derive(Debug)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    resolver: Arc<Resolver>,
    last: (String, String),
    facts: Option<Facts>,
}

/// How often the files are read, in seconds.
pub const INTERVAL: u64 = 10;

impl Files {
    /// Files that are to be shown by a resolver.
    #[must_use]
    pub fn new(certificate: PathBuf, key: PathBuf, resolver: Arc<Resolver>) -> Self {
        Self { certificate, key, resolver, last: Default::default(), facts: None }
    }

    /// Reads them, and shows what is new.
    ///
    /// # Errors
    /// What cannot be read, or does not belong together: half of a change, most often. What was shown before stays.
    pub fn look(&mut self) -> Result<Facts, Error> {
        let now = (read(&self.certificate)?, read(&self.key)?);
        if let Some(facts) = self.facts.as_ref().filter(|_| now == self.last) {
            return Ok(facts.clone());
        }
        let pair = issue::pair(now.0.clone(), now.1.clone(), &self.certificate.display().to_string())?;
        self.resolver.show(&pair)?;
        self.last = now;
        self.facts = Some(pair.facts.clone());
        Ok(pair.facts)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::Unreadable { what: path.display().to_string(), why: error.to_string() })
}
