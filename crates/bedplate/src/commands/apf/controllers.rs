//! `bedplate apf explain --all-controllers`: who rides where today.

use std::process::ExitCode;

use bedplate_apf::first_match;
use bedplate_apf::matching::{Request, Target, implied_groups};
use bedplate_cluster::Cluster;
use bedplate_cluster::lanes::{FlowControl, Seen};

use super::explain::served;
use crate::commands::cluster::profile;
use crate::commands::{Error, print, table};

/// Namespaces of users that are told one by one.
const MANY: usize = 5;

pub(super) async fn run(offline: bool, cluster: &Cluster, flow_control: &FlowControl) -> Result<ExitCode, Error> {
    let profile = profile(cluster).await?;
    let detected = cluster.lanes(profile.settings(None)).await?.detected;
    let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
    let mut who: Vec<(String, String, String)> = Vec::new();
    for one in &detected.controllers {
        who.push((one.what.clone(), account(&one.namespace, &one.account), one.namespace.clone()));
    }
    for (namespace, name) in &detected.runners {
        who.push(("what users asked for".to_owned(), account(namespace, name), namespace.clone()));
    }
    for namespace in detected.users.iter().take(MANY) {
        who.push(("a user's notebook".to_owned(), account(namespace, "default-editor"), namespace.clone()));
    }
    who.push(("a person".to_owned(), "someone@example.com".to_owned(), "default".to_owned()));

    let mut rows = vec![["who", "account", "its requests ride in", "its leases ride in"].map(str::to_owned).to_vec()];
    let (mut told, mut same, mut differ, mut unknown) = (0, 0, Vec::new(), None);
    for (what, user, namespace) in who {
        let request = |verb: &str, group: &str, resource: &str, namespace: &str| Request {
            user: user.clone(),
            groups: implied_groups(&user),
            verb: verb.to_owned(),
            target: Target::Resource(group.to_owned(), resource.to_owned(), namespace.to_owned()),
        };
        let mut lanes = Vec::new();
        for request in [request("list", "", "pods", ""), request("update", "coordination.k8s.io", "leases", &namespace)]
        {
            let modelled = first_match(&flow_control.schemas, &flow_control.levels, &request)
                .map(|schema| (schema.metadata.name.clone(), schema.spec.priority_level_configuration.name.clone()));
            lanes.push(modelled.as_ref().map_or_else(
                || "catch-all".to_owned(),
                |(schema, level)| if schema == level { level.clone() } else { format!("{level} (by {schema})") },
            ));
            told += 1;
            if offline || unknown.is_some() {
                continue;
            }
            match cluster.seen_lane(flow_control, &request, served(cluster, &request.target), true).await? {
                Seen::Lane(schema, level) if modelled.as_ref() == Some(&(schema.clone(), level.clone())) => same += 1,
                Seen::Lane(schema, level) => differ.push(format!("{user}, {}: {level} (by {schema})", request.verb)),
                Seen::Unknown(why) => unknown = Some(why),
            }
        }
        rows.push([vec![what, user.trim_start_matches("system:serviceaccount:").to_owned()], lanes].concat());
    }
    print(&table(&rows))?;
    let rest = detected.users.len().saturating_sub(MANY);
    if rest > 0 {
        print(&format!("and {rest} more namespaces of users\n"))?;
    }
    for why in &detected.passed_over {
        print(&format!("not among the controllers: {why}\n"))?;
    }
    if detected.controllers.is_empty() {
        print("no controller of a machine-learning platform was found\n")?;
    }
    for lane in &differ {
        print(&format!("seen otherwise: {lane}: the server has not read its objects yet, or does it otherwise\n"))?;
    }
    print(&match unknown {
        _ if offline => "from the objects; the server was not asked\n".to_owned(),
        Some(why) => format!("from the objects; the server was not asked of all: {why}\n"),
        None => format!("seen: the server put {same} of {told} such requests there\n"),
    })?;
    Ok(ExitCode::from(u8::from(!differ.is_empty())))
}
