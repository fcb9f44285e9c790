//! Certificates of the webhook: made and rotated by ourselves, or read from files that somebody else rotates.
//!
//! ```text
//!   Secret ─▶ Held ─▶ next (pure) ─▶ Action ─▶ Held ─▶ Secret          one write a step, with its resourceVersion
//!     │                  ▲                       └──▶ caBundle of the webhook configurations
//!     │                  └── is that known there, and since when?
//!     └────▶ Resolver: what the next handshake is answered with
//! ```

pub mod files;
pub mod issue;
pub mod resolver;
pub mod rotation;
pub mod store;

/// Seconds since 1970.
pub type Time = u64;

/// What a certificate says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its subject's common name; unique for authorities.
    pub id: String,
    /// Its issuer's common name.
    pub issuer: String,
    /// The first second in which it is valid.
    pub from: Time,
    /// The last.
    pub until: Time,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
}

impl Facts {
    /// Whether it is valid.
    #[must_use]
    pub const fn valid(&self, now: Time) -> bool {
        self.from <= now && now < self.until
    }

    /// When it should be followed by another: at two thirds of its life.
    #[must_use]
    pub const fn due(&self) -> Time {
        self.until - self.until.saturating_sub(self.from) / 3
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key; empty where it was thrown away.
    pub key: String,
    /// What the certificate says.
    pub facts: Facts,
}

impl std::fmt::Debug for Pair {
    // A key has no place in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pair").field(&self.facts).finish()
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PEM or DER that is none, or a key that does not belong to it.
    #[error("{what}: {why}")]
    Unreadable {
        /// Which: a file, a key of the Secret.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no certificate can have.
    #[error("a certificate for {names}: {why}")]
    Issue {
        /// For what.
        names: String,
        /// The library's words.
        why: String,
    },
    /// The API server.
    #[error(transparent)]
    Cluster(#[from] Box<kube::Error>),
}

impl From<kube::Error> for Error {
    fn from(error: kube::Error) -> Self {
        Self::Cluster(Box::new(error))
    }
}
