//! `bedplate apf explain`: which lane a request rides in, and why.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use bedplate_apf::matching::{
    Miss, Request, Target as Asked, Verdict, flow, implied_groups, is_dangling, sorted, verdict,
};
use bedplate_apf::types::{FlowSchema, PriorityLevel};
use bedplate_apf::{concurrency, shares::Part};
use bedplate_cluster::lanes::{FlowControl, Seen};
use bedplate_cluster::{Cluster, Resource};

use super::{Seats, audit_log, controllers, load};
use crate::commands::{Error, print};

/// A request.
#[derive(clap::Args, Debug)]
pub(super) struct Explain {
    /// Who sends it: a user, or `system:serviceaccount:NAMESPACE:NAME` [default: you]
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// A group of that user, besides those that every server gives
    #[arg(long = "as-group", value_name = "GROUP", requires = "user")]
    groups: Vec<String>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`
    #[arg(long, default_value = "list")]
    verb: String,
    /// What is asked for: `pods`, `deploy`, `pytorchjobs.kubeflow.org`, `pods/exec`
    #[arg(long, conflicts_with = "path", required_unless_present_any = ["path", "kubectl", "all_controllers", "audit_log"])]
    resource: Option<String>,
    /// A path that is no resource: `/healthz`
    #[arg(long)]
    path: Option<String>,
    /// The namespace [default: none: all of them, or what has none]
    #[arg(long, short)]
    namespace: Option<String>,
    /// Every controller of the platform that is found in the cluster, and its leases: who rides where today
    #[arg(long, conflicts_with_all = ["resource", "path", "kubectl", "audit_log", "user", "namespace"])]
    pub(super) all_controllers: bool,
    /// The requests of an audit log (audit.k8s.io/v1, one event a line); `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resource", "path", "kubectl", "user", "namespace"])]
    audit_log: Option<PathBuf>,
    /// Do not ask the server where it puts such a request
    #[arg(long)]
    pub(super) offline: bool,
    #[command(flatten)]
    seats: Seats,
    /// A command of kubectl, whose requests are worked out: -- kubectl get pods -A
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["resource", "path", "namespace"])]
    kubectl: Vec<String>,
}

pub(super) async fn run(explain: &Explain, cluster: &Cluster, flow_control: &FlowControl) -> Result<ExitCode, Error> {
    if explain.all_controllers {
        return controllers::run(explain.offline, cluster, flow_control).await;
    }
    if let Some(path) = &explain.audit_log {
        let wrong = |why: String| Error::Other(format!("{}:{why}", load::shown(path)));
        let recorded = audit_log::distinct::read(audit_log::open(path)?).map_err(wrong)?;
        let mut same = true;
        for request in &recorded.requests {
            let resource = served(cluster, &request.target);
            let seen = if explain.offline {
                None
            } else {
                Some(cluster.seen_lane(flow_control, request, resource, request.user != cluster.user).await?)
            };
            let (text, agrees) = told(flow_control, request, seen.as_ref(), explain.seats.server_concurrency);
            same &= agrees;
            print(&text)?;
        }
        print(&recorded.rest())?;
        return Ok(ExitCode::from(u8::from(!same)));
    }
    let (user, groups) = match &explain.user {
        Some(user) => {
            let given = explain.groups.iter().filter(|group| !implied_groups(user).contains(group));
            (user.clone(), given.cloned().chain(implied_groups(user)).collect())
        }
        None => cluster.identity().await?,
    };
    let mut same = true;
    for (verb, target, resource) in explain.requests(cluster)? {
        let request = Request { user: user.clone(), groups: groups.clone(), verb, target };
        let own = explain.user.as_ref().is_none_or(|user| *user == cluster.user);
        let seen =
            if explain.offline { None } else { Some(cluster.seen_lane(flow_control, &request, resource, !own).await?) };
        let (text, agrees) = told(flow_control, &request, seen.as_ref(), explain.seats.server_concurrency);
        same &= agrees;
        print(&text)?;
    }
    Ok(ExitCode::from(u8::from(!same)))
}

/// The resource that a request is for, where the server has it.
pub(super) fn served<'c>(cluster: &'c Cluster, target: &Asked) -> Option<&'c Resource> {
    let Asked::Resource(group, resource, _) = target else { return None };
    let plural = resource.split('/').next()?;
    cluster.resources().iter().find(|known| known.group == *group && known.plural == plural)
}

type Wanted<'c> = (String, Asked, Option<&'c Resource>);

impl Explain {
    /// The requests that are meant.
    fn requests<'c>(&self, cluster: &'c Cluster) -> Result<Vec<Wanted<'c>>, Error> {
        if let Some(path) = &self.path {
            let verb = if self.verb == "list" { "get".to_owned() } else { self.verb.clone() };
            return Ok(vec![(verb, Asked::Path(path.clone()), None)]);
        }
        let namespace = self.namespace.clone().unwrap_or_default();
        match &self.resource {
            Some(name) => Ok(vec![wanted(cluster, &self.verb, name, &namespace)?]),
            None => kubectl(cluster, &self.kubectl),
        }
    }
}

/// A request for a resource, which may be named as `kubectl` does and have a subresource.
fn wanted<'c>(cluster: &'c Cluster, verb: &str, name: &str, namespace: &str) -> Result<Wanted<'c>, Error> {
    let (name, sub) = name.split_once('/').map_or((name, ""), |(name, sub)| (name, sub));
    let resource = cluster.named(name)?;
    let shown = if sub.is_empty() { resource.plural.clone() } else { format!("{}/{sub}", resource.plural) };
    // What has no namespace is asked for without one; one Namespace is asked for in itself (`requestinfo.go`).
    let namespace = if resource.namespaced || resource.is_namespaces() { namespace } else { "" };
    Ok((verb.to_owned(), Asked::Resource(resource.group.clone(), shown, namespace.to_owned()), Some(resource)))
}

/// Commands of `kubectl`, and the requests of each for the resource that it names: verbs with a subresource.
/// Sources: `k8s.io/kubectl/pkg/cmd`.
const KUBECTL: &[(&str, &[(&str, &str)])] = &[
    ("get", &[("get", "")]),
    ("describe", &[("get", ""), ("list", "events")]),
    ("delete", &[("delete", ""), ("get", "")]),
    ("edit", &[("get", ""), ("patch", "")]),
    ("patch", &[("get", ""), ("patch", "")]),
    ("label", &[("get", ""), ("patch", "")]),
    ("annotate", &[("get", ""), ("patch", "")]),
    ("scale", &[("get", ""), ("patch", "/scale")]),
    ("wait", &[("list", ""), ("watch", "")]),
];
/// Those that are about pods, whatever they name.
const OF_PODS: &[(&str, &[(&str, &str)])] = &[
    ("logs", &[("get", ""), ("get", "/log")]),
    ("exec", &[("get", ""), ("create", "/exec")]),
    ("attach", &[("get", ""), ("create", "/attach")]),
    ("port-forward", &[("get", ""), ("create", "/portforward")]),
    ("run", &[("create", "")]),
];

/// The requests of a command of `kubectl`.
fn kubectl<'c>(cluster: &'c Cluster, words: &[String]) -> Result<Vec<Wanted<'c>>, Error> {
    let known = || KUBECTL.iter().chain(OF_PODS).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let unknown =
        |why: String| Error::Other(format!("{why}\n  known: kubectl {}; others: name --verb and --resource", known()));
    let mut words = words.iter().map(String::as_str).peekable();
    words.next_if(|word| word.rsplit('/').next() == Some("kubectl"));
    let (mut plain, mut namespace, mut all, mut watch) = (Vec::new(), "default", false, false);
    while let Some(word) = words.next() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("-n" | "--namespace", "") => namespace = words.next().unwrap_or_default(),
            ("-n" | "--namespace", value) => namespace = value,
            ("-A" | "--all-namespaces", _) => all = true,
            ("-w" | "--watch", _) => watch = true,
            // A value may stand in a word of its own.
            (
                "-o" | "-l" | "-f" | "--output" | "--selector" | "--field-selector" | "--replicas" | "-p" | "--patch"
                | "--type",
                "",
            ) => {
                words.next();
            }
            (flag, _) if flag.starts_with('-') => {}
            _ => plain.push(word),
        }
    }
    let (command, rest) = plain.split_first().ok_or_else(|| unknown("no command of kubectl".to_owned()))?;
    let namespace = if all { "" } else { namespace };
    if let Some((_, requests)) = OF_PODS.iter().find(|(name, _)| name == command) {
        return requests.iter().map(|(verb, sub)| wanted(cluster, verb, &format!("pods{sub}"), namespace)).collect();
    }
    let Some((_, requests)) = KUBECTL.iter().find(|(name, _)| name == command) else {
        return Err(unknown(format!("what `kubectl {command}` asks for is not known here")));
    };
    let what = *rest.first().ok_or_else(|| unknown(format!("`kubectl {command}` names no resource")))?;
    // `pods/a` names an object.
    let (what, object) = what.split_once('/').map_or((what, rest.get(1).copied()), |(what, name)| (what, Some(name)));
    let named = object.is_some();
    let mut found = Vec::new();
    for what in what.split(',') {
        for (verb, sub) in *requests {
            let listed = *verb == "get" && (!named || watch);
            let verb = if listed { "list" } else { verb };
            let name = if *sub == "events" { "events".to_owned() } else { format!("{what}{sub}") };
            let of_namespace = *sub != "events" && cluster.named(what)?.is_namespaces();
            let namespace = if of_namespace { object.filter(|_| !listed).unwrap_or_default() } else { namespace };
            found.push(wanted(cluster, verb, &name, namespace)?);
            if listed && watch {
                found.push(wanted(cluster, "watch", &name, namespace)?);
            }
        }
    }
    Ok(found)
}

/// Subresources whose requests run long (`--min-request-timeout`; `pkg/controlplane/apiserver/config.go`,
/// `NewConfig`): flow control lets them pass. A watch is only held until its first events are sent.
const LONG_RUNNING: &[&str] = &["attach", "exec", "proxy", "log", "portforward"];

/// What is said of a request, and whether the server agrees.
fn told(flow_control: &FlowControl, request: &Request, seen: Option<&Seen>, seats: u32) -> (String, bool) {
    let color = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let bold = if color { Style::new().bold().fg_color(Some(AnsiColor::Green.into())) } else { Style::new() };
    let mut text = format!("{} as {}\n  groups: {}\n", shown(request), request.user, request.groups.join(", "));
    if let Asked::Resource(_, resource, _) = &request.target
        && let Some((_, sub)) = resource.split_once('/')
        && LONG_RUNNING.contains(&sub)
    {
        let _ = writeln!(text, "  rides in no lane: {sub} runs long, and is neither queued nor counted");
        return (text, true);
    }
    let order = sorted(&flow_control.schemas);
    let dangling = |schema: &FlowSchema| is_dangling(schema, &flow_control.levels);
    let taken =
        order.iter().position(|schema| matches!(verdict(schema, request), Verdict::Takes(_)) && !dangling(schema));
    let width = order.iter().map(|schema| schema.metadata.name.len()).max().unwrap_or(0);
    for schema in &order[..taken.map_or(order.len(), |at| at + 1)] {
        let (style, why) = match verdict(schema, request) {
            Verdict::Takes(_) if dangling(schema) => {
                let level = &schema.spec.priority_level_configuration.name;
                (Style::new(), format!("passed over: there is no level {level} (Dangling)"))
            }
            Verdict::Takes(rule) => (bold, format!("takes it, by its rule {rule}")),
            Verdict::NotThis(miss) => {
                (Style::new(), format!("passed over: means this user, but {}", missed(miss, request)))
            }
            Verdict::NotThem => (Style::new(), "passed over: means others".to_owned()),
        };
        let (precedence, name) = (schema.spec.matching_precedence, &schema.metadata.name);
        let _ = writeln!(text, "  {precedence:>5}  {style}{name:<width$}  {why}{style:#}");
    }
    let Some(schema) = taken.map(|at| order[at]) else {
        text.push_str("  no schema takes it: the server puts it into catch-all\n");
        return (text, true);
    };
    let level = &schema.spec.priority_level_configuration.name;
    text.push_str(&lane(flow_control, schema, level, request, seats));
    let mut agrees = true;
    match seen {
        None => {}
        Some(Seen::Lane(s, l)) if (s, l) == (&schema.metadata.name, level) => {
            text.push_str("  seen: the server put such a request there\n");
        }
        Some(Seen::Lane(s, l)) => {
            agrees = false;
            let _ = writeln!(
                text,
                "  seen: the server put such a request into {s} of {l}: it has not read its objects yet, or does it otherwise"
            );
        }
        Some(Seen::Unknown(why)) => _ = writeln!(text, "  not seen: {why}"),
    }
    (text, agrees)
}

fn shown(request: &Request) -> String {
    match &request.target {
        Asked::Path(path) => format!("{} {path}", request.verb),
        Asked::Resource(group, resource, namespace) => {
            let dot = if group.is_empty() { "" } else { "." };
            let place = if namespace.is_empty() { "cluster-wide".to_owned() } else { format!("in {namespace}") };
            format!("{} {resource}{dot}{group} {place}", request.verb)
        }
    }
}

fn missed(miss: Miss, request: &Request) -> String {
    match (miss, &request.target) {
        (Miss::Verb, _) => format!("not to {}", request.verb),
        (Miss::Group, Asked::Resource(group, ..)) if group.is_empty() => "not the core API group".to_owned(),
        (Miss::Group, Asked::Resource(group, ..)) => format!("not the API group {group}"),
        (Miss::Resource, Asked::Resource(_, resource, _)) => format!("not {resource}"),
        (Miss::Scope, Asked::Resource(.., namespace)) if namespace.is_empty() => {
            "not cluster-wide (clusterScope)".to_owned()
        }
        (Miss::Scope, Asked::Resource(.., namespace)) => format!("not in {namespace}"),
        (Miss::Form, Asked::Path(_)) => "no paths".to_owned(),
        (Miss::Form, _) => "no resources".to_owned(),
        (Miss::Path, Asked::Path(path)) => format!("not {path}"),
        _ => "not this".to_owned(),
    }
}

/// What a level gives to the requests of a schema.
fn lane(flow_control: &FlowControl, schema: &FlowSchema, name: &str, request: &Request, seats: u32) -> String {
    let Some(at) = flow_control.levels.iter().position(|level| level.metadata.name == *name) else {
        // The mandatory ones are there without an object.
        return format!("  lane {name}: as the server makes it\n");
    };
    let level = &flow_control.levels[at];
    if level.is_exempt() {
        return format!("  lane {name}: exempt, never waits\n");
    }
    let parts: Vec<Part> = flow_control.levels.iter().map(PriorityLevel::part).collect();
    let Some(own) = concurrency(i64::from(seats), &parts).into_iter().nth(at) else { return String::new() };
    let most = own.max.map_or_else(|| format!("{seats}"), |max| max.min(i64::from(seats)).to_string());
    let mut text =
        format!("  lane {name}: {} of {seats} seats, {} to {most} as levels lend and borrow; ", own.nominal, own.min);
    let flow = match (flow(schema, request), schema.spec.distinguisher_method.as_ref()) {
        (_, None) => "all requests of the schema are one flow".to_owned(),
        ("", Some(method)) => format!("its flow, {}, is that of no namespace", method.kind),
        (flow, Some(method)) => format!("its flow, {}: {flow}", method.kind),
    };
    match level.queuing() {
        None => text.push_str("who finds no free seat is refused (429)\n"),
        Some(queues) => {
            let _ = writeln!(
                text,
                "{} queues of {}, {} of them for a flow\n  {flow}",
                queues.queues, queues.queue_length_limit, queues.hand_size
            );
        }
    }
    text
}
