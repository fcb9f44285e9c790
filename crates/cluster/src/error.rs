//! What can go wrong with a cluster, each as one clear sentence and what to do.

use crate::{Asked, OLDEST_MINOR};

/// Why something could not be done on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to a cluster is configured.
    #[error("no cluster to talk to: {0}\nset KUBECONFIG, or name a context with --context")]
    Config(String),
    /// The server does not answer.
    #[error(
        "the API server at {server} does not answer: {why}\ncheck the address and the network; `kubectl version` asks the same server"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// The transport's own words.
        why: String,
    },
    /// The server does not know who we are.
    #[error("the API server at {server} does not take these credentials: {why}")]
    Unauthorized {
        /// Its address.
        server: String,
        /// Its words.
        why: String,
    },
    /// The server is too old.
    #[error(
        "this API server is {version}; the guards need 1.{OLDEST_MINOR} or later (ValidatingAdmissionPolicy v1). `audit`, `impact` and `check` work here"
    )]
    TooOld {
        /// Its version.
        version: String,
    },
    /// The user may not do this.
    #[error("{user} may not {verb} {what}\ngive it, in a ClusterRole: {rule}")]
    Forbidden {
        /// Who.
        user: String,
        /// What was asked: `list`.
        verb: String,
        /// Of what.
        what: String,
        /// The RBAC rule that is missing.
        rule: String,
    },
    /// A guard or another admission plugin said no.
    #[error("refused: {0}")]
    Refused(String),
    /// There is no such object.
    #[error("{0} is not there")]
    NotFound(String),
    /// Another manager owns fields that we set.
    #[error(
        "{what}: {why}\nsomeone else sets these fields; leave them to them, or take them over with --force-conflicts"
    )]
    Conflict {
        /// Which object.
        what: String,
        /// The server's words: managers and fields.
        why: String,
    },
    /// The server has no such resource.
    #[error("this cluster serves no `{0}`; `kubectl api-resources` lists what it serves")]
    NoSuchResource(String),
    /// A page's token is too old; the new one goes on.
    #[error("the list has changed too much while it was read; try again")]
    Expired(String),
    /// Anything else that the server says.
    #[error("{what}: {why}")]
    Server {
        /// What was asked.
        what: String,
        /// Its words.
        why: String,
    },
    /// A request that cannot be written down.
    #[error("request: {0}")]
    Request(String),
    /// An object in the cluster that cannot be read.
    #[error("{0}")]
    Object(String),
}

impl Error {
    pub(crate) fn of_connection(server: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.code == 401 => {
                Self::Unauthorized { server: server.to_owned(), why: status.message.clone() }
            }
            kube::Error::Api(status) => Self::Server { what: server.to_owned(), why: status.message.clone() },
            other => Self::Unreachable { server: server.to_owned(), why: innermost(&other) },
        }
    }

    pub(crate) fn of_request(server: &str, user: &str, asked: Asked<'_>, error: kube::Error) -> Self {
        let status = match error {
            kube::Error::Api(status) => status,
            other => return Self::Unreachable { server: server.to_owned(), why: innermost(&other) },
        };
        let what = asked.what();
        match (status.code, status.reason.as_str()) {
            // RBAC and admission both answer 403; only RBAC speaks of the user.
            (403, _) if status.message.contains("cannot ") && status.message.contains("User ") => {
                Self::Forbidden { user: user.to_owned(), verb: asked.verb.to_owned(), what, rule: asked.rule() }
            }
            (403, _) => Self::Refused(status.message.clone()),
            (404, _) => Self::NotFound(what),
            (409, _) => Self::Conflict { what, why: status.message.clone() },
            (410, _) => {
                let next = status.metadata.as_ref().and_then(|list| list.continue_.clone());
                Self::Expired(next.unwrap_or_default())
            }
            (401, _) => Self::Unauthorized { server: server.to_owned(), why: status.message.clone() },
            _ => Self::Server { what, why: status.message.clone() },
        }
    }
}

/// The cause at the bottom tells more than those that pass it on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Asked<'_> {
    fn what(&self) -> String {
        let mut what = self.resource.full_name();
        if let Some(name) = self.name {
            what.push(' ');
            what.push_str(name);
        }
        if let Some(namespace) = self.namespace {
            what.push_str(" in ");
            what.push_str(namespace);
        }
        what
    }

    fn rule(&self) -> String {
        format!(
            "{{apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [\"{}\"]}}",
            self.resource.group, self.resource.plural, self.verb
        )
    }
}
