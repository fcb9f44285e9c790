//! What can go wrong with a cluster, each as one clear sentence and what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::core::Status;

use crate::ownership::{self, Conflict};
use crate::rbac;
use crate::rights::{Right, Task};
use crate::{Asked, OLDEST_MINOR, Resource};

/// Why something could not be done on a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No way to a cluster is configured.
    #[error(
        "no cluster to talk to: {0}\nset KUBECONFIG or give --kubeconfig FILE; `kubectl config view` shows what kubectl uses"
    )]
    NoConfig(String),
    /// A configuration that cannot be used.
    #[error("{file}: {why}")]
    Config {
        /// The kubeconfig, or what stands for it.
        file: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
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
    /// The server takes too long.
    #[error(
        "the API server at {server} has not answered for {} s\nit may be overloaded: try again, or wait longer with --request-timeout SECONDS", waited.as_secs()
    )]
    Slow {
        /// Its address.
        server: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Its certificate is not to be trusted.
    #[error("the API server at {server} is not who the kubeconfig says it should be: {why}\n{help}")]
    Tls {
        /// Its address.
        server: String,
        /// What the TLS library says.
        why: String,
        /// What to look at.
        help: &'static str,
    },
    /// Something else answers there.
    #[error("what answers at {server} is no Kubernetes API server: {why}\ncheck the address in the kubeconfig")]
    NotKubernetes {
        /// Its address.
        server: String,
        /// Why it is none.
        why: String,
    },
    /// The server does not know who we are.
    #[error(
        "the API server at {server} does not take these credentials: {why}\nthey may have lapsed: log in again as you do for kubectl"
    )]
    Unauthorized {
        /// Its address.
        server: String,
        /// Its words.
        why: String,
    },
    /// The server is too old.
    #[error(
        "this API server is {version}; the guards need 1.{OLDEST_MINOR} or later (ValidatingAdmissionPolicy v1). `check`, `audit` and `impact` work here"
    )]
    TooOld {
        /// Its version.
        version: String,
    },
    /// The user may not do all that a command does.
    #[error("{}", missing(user, *task, rights))]
    Rights {
        /// Who.
        user: String,
        /// What was to be done.
        task: Task,
        /// Every right that is missing.
        rights: Vec<Right>,
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
    /// Other managers own fields that we set.
    #[error("{}", ownership::told(.0))]
    Conflict(Vec<Conflict>),
    /// Somebody wrote to the object, or made it, at the same time.
    #[error("{what}: {why}\nsomebody else writes to it now; try again")]
    Race {
        /// Which object.
        what: String,
        /// The server's words.
        why: String,
    },
    /// The server has no such resource.
    #[error("this cluster serves no `{0}`; `kubectl api-resources` lists what it serves")]
    NoSuchResource(String),
    /// No apply is on record.
    #[error("nothing to go back to: no apply has changed anything since the last rollback")]
    NothingBefore,
    /// A guard that stands in a file of the API server.
    #[error(
        "the guards are guarded by a file of the API server, which no request can remove; nothing more was removed\n\
         on every control-plane node take what `bedplate render --static` made (guards.bedplate.static.k8s.io) out of the folder \
         `staticManifestsDir` that --admission-control-config-file names, wait a minute, and run this again\n\
         the API server said: {0}"
    )]
    GuardedByFile(String),
    /// What would put everything back.
    #[error(
        "pods of the operator are still running in the namespace {0}, and would put back what is removed\n\
         see why with `kubectl get pods --namespace {0}`, and run this again: it goes on from here"
    )]
    Running(&'static str),
    /// There was nothing before.
    #[error(
        "the last apply was the first one: there is nothing to go back to. `bedplate uninstall` takes everything back"
    )]
    FirstOne,
    /// A page's token is too old; the new one goes on.
    #[error("the list has changed too much while it was read; try again")]
    Expired(String),
    /// CoreDNS, in a sentence.
    #[error("{0}")]
    Dns(String),
    /// The drill of training, in a sentence.
    #[error("{0}")]
    Training(String),
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

/// How a request ended that did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server's own word.
    Status(Box<Status>),
    /// No answer at all, or not to its end.
    Transport(Box<dyn std::error::Error + Send + Sync>),
    /// An answer that is not JSON.
    Garbled(String),
    /// Nothing came for this long.
    Slow(Duration),
}

impl Error {
    pub(crate) fn of_connection(server: &str, failure: Failure) -> Self {
        match failure {
            Failure::Status(status) if status.code == 401 => {
                Self::Unauthorized { server: server.to_owned(), why: status.message.clone() }
            }
            Failure::Status(status) if status.status.is_none() || status.reason == PLAIN => Self::NotKubernetes {
                server: server.to_owned(),
                why: format!("HTTP {}: {}", status.code, first_line(&status.message)),
            },
            Failure::Status(status) => Self::Server { what: server.to_owned(), why: status.message.clone() },
            other => Self::of_transport(server, other),
        }
    }

    fn of_transport(server: &str, failure: Failure) -> Self {
        let server = server.to_owned();
        match failure {
            Failure::Slow(waited) => Self::Slow { server, waited },
            Failure::Garbled(why) => Self::NotKubernetes { server, why },
            Failure::Status(status) => Self::Server { what: server, why: status.message.clone() },
            Failure::Transport(error) => {
                let why = chain(&*error);
                match certificate(&why) {
                    Some(help) => Self::Tls { server, why: innermost(&*error), help },
                    // Where a program that gives credentials fails, the words around the last say which.
                    None if why.contains("auth exec") || why.contains("token file") => {
                        Self::Unauthorized { server, why }
                    }
                    None => Self::Unreachable { server, why: innermost(&*error) },
                }
            }
        }
    }

    pub(crate) fn of_request(server: &str, user: &str, asked: Asked<'_>, failure: Failure) -> Self {
        let status = match failure {
            Failure::Status(status) => status,
            other => return Self::of_transport(server, other),
        };
        let what = asked.what();
        match (status.code, status.reason.as_str()) {
            // RBAC and admission both answer 403; only RBAC speaks of the user.
            (403, _) if status.message.contains("cannot ") && status.message.contains("User ") => {
                Self::Forbidden { user: user.to_owned(), verb: asked.verb.to_owned(), what, rule: asked.rule() }
            }
            (403, _) => Self::Refused(status.message.clone()),
            // A policy without a reason of its own, or one that could not be asked.
            (422, _) if status.message.contains("ValidatingAdmissionPolicy '") => Self::Refused(status.message.clone()),
            (404, _) => Self::NotFound(what),
            (409, _) => match ownership::owned_by_others(asked, &status) {
                conflicts if conflicts.is_empty() => Self::Race { what, why: status.message.clone() },
                conflicts => Self::Conflict(conflicts),
            },
            (410, _) => {
                let next = status.metadata.as_ref().and_then(|list| list.continue_.clone());
                Self::Expired(next.unwrap_or_default())
            }
            (401, _) => Self::Unauthorized { server: server.to_owned(), why: status.message.clone() },
            _ => Self::Server { what, why: status.message.clone() },
        }
    }

    /// Whether it is about one thing that was asked for, so that others may well go right.
    const fn is_of_one(&self) -> bool {
        matches!(
            self,
            Self::Server { .. } | Self::Forbidden { .. } | Self::NotFound(_) | Self::Expired(_) | Self::Race { .. }
        )
    }
}

/// A resource that cannot be listed (a conversion webhook that is gone, a definition that has just gone) is no reason to
/// leave the others out: it is noted.
pub(crate) fn note<T>(
    unread: &mut BTreeMap<String, String>,
    resource: &Resource,
    read: Result<T, Error>,
) -> Result<(), Error> {
    match read {
        Ok(_) => Ok(()),
        Err(error) if error.is_of_one() => {
            unread.insert(resource.full_name(), error.to_string());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The reason of a status that was made of an answer which was none.
pub(crate) const PLAIN: &str = "NoStatus";

fn missing(user: &str, task: Task, rights: &[Right]) -> String {
    let user = if user.is_empty() { "this user" } else { user };
    let word = task.name();
    let bind = match user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => format!("--serviceaccount={namespace}:{name}"),
        None => format!("--user={user}"),
    };
    let role = if crate::rights::are_in_role(task, rights) {
        "give them all:"
    } else {
        "for the usual kinds (add the rules above to it):"
    };
    format!(
        "{user} may not do all that `bedplate {word}` does; nothing was done. Missing, as rules of a ClusterRole:\n{}\
         {role}\n  bedplate rbac {word} | kubectl apply -f -\n  \
         kubectl create clusterrolebinding bedplate-{word} --clusterrole=bedplate-{word} {bind}",
        crate::rights::lines(rights).into_iter().map(|rule| format!("  - {rule}\n")).collect::<String>(),
    )
}

/// What to look at when a certificate is refused, by the words of rustls; nothing for another failure.
fn certificate(why: &str) -> Option<&'static str> {
    const OTHER_CA: &str =
        "its certificate is signed by another CA: compare `certificate-authority` in the kubeconfig with the cluster's";
    const ROWS: &[(&str, &str)] = &[
        ("UnknownIssuer", OTHER_CA),
        // Of the same name.
        ("BadSignature", OTHER_CA),
        (
            "not valid for name",
            "its certificate is for other names: use the address that it is for, or set `tls-server-name`",
        ),
        (
            "certificate expired",
            "its certificate has lapsed: renew it (`kubeadm certs renew`, or as your distribution does)",
        ),
        ("not valid yet", "its certificate is not valid yet: compare the clocks of both machines"),
        ("invalid peer certificate", "look at it with `openssl s_client -connect`"),
        ("InvalidContentType", "it speaks no TLS there: is it http:// rather than https://, or another port?"),
    ];
    ROWS.iter().find(|(words, _)| why.contains(words)).map(|(_, help)| *help)
}

pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut at = error.source();
    while let Some(error) = at {
        let text = error.to_string();
        // Many repeat what stands below them.
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        at = error.source();
    }
    texts.join(": ")
}

/// The cause at the bottom tells more than those that pass it on.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

impl Asked<'_> {
    fn what(&self) -> String {
        let mut what = self.resource.full_name();
        if !self.subresource.is_empty() {
            what.push('/');
            what.push_str(self.subresource);
        }
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
        let mut resource = self.resource.plural.clone();
        if !self.subresource.is_empty() {
            resource = format!("{resource}/{}", self.subresource);
        }
        rbac::line(&rbac::rule(&self.resource.group, &[resource], &[""; 0], &[self.verb]))
    }
}
