//! `bedplate audit`: the rules of `check` over what is in a cluster.

use std::process::ExitCode;

use bedplate_cluster::rights::{Right, Task};
use bedplate_cluster::{Cluster, clock, dns};
use bedplate_dns::metrics::Reading;
use bedplate_guarantees::dns::enforce;
use bedplate_model::profile::Mode;
use bedplate_report::{FileView, Format, Summary, report};

use super::cluster::{Target, tell_unread, wait};
use super::{Error, print};

/// Options of `audit`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// One namespace only
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How to write what is found: text, json, sarif, junit, github or html
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    wait(async {
        let cluster = args.target.connect_for(Task::Audit, args.namespace.as_deref()).await?;
        // What an exemption gets wrong is among the findings.
        let profile = cluster.profile().await?.profile;
        let color = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let report = report(args.format, color, env!("CARGO_PKG_VERSION"));
        print(&report.begin())?;
        let mut summary = Summary::default();
        let mut first = true;
        let mut failed = None;
        let seen = cluster
            .audit(&profile, &clock::timestamp(), args.namespace.as_deref(), |path, text, checked| {
                let view = FileView { path, text, checked };
                summary.add(&view);
                let separator = if std::mem::take(&mut first) { "" } else { report.separator() };
                if failed.is_none() {
                    failed = print(&format!("{separator}{}", report.file(&view))).err();
                }
            })
            .await?;
        if let Some(error) = failed {
            return Err(error);
        }
        print(&report.end(&summary))?;
        anstream::eprintln!(
            "note: {} objects judged, {} pods passed over because what owns them was judged",
            seen.judged,
            seen.owned_pods
        );
        // Of one namespace it tells nothing.
        if args.namespace.is_none()
            && enforce::mode(&profile) != Mode::Off
            && let Some(note) = names_cost(&cluster).await
        {
            anstream::eprintln!("note: {note}");
        }
        if tell_unread(&seen.unread) {
            return Ok(ExitCode::from(2));
        }
        let found = summary.errors + summary.warnings + summary.infos > 0;
        Ok(ExitCode::from(u8::from(found)))
    })
}

/// What CoreDNS has answered, as far as it can be seen; nothing where there is none. That takes more than an audit needs
/// (`pods/proxy`), so nobody is asked for it.
async fn names_cost(cluster: &Cluster) -> Option<String> {
    let right = Right {
        group: "".into(),
        resource: "pods/proxy".into(),
        verb: "get",
        name: None,
        namespace: Some(dns::NAMESPACE.to_owned()),
    };
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let why_not = |why: &str| format!("what CoreDNS answers was not read: {why}");
    match cluster.missing(vec![right]).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(_) => return Some(why_not("it takes the rights of `bedplate rbac dns-stats`")),
        Err(error) => return Some(why_not(&first(&error.to_string()))),
    }
    let counted = async {
        let dns = cluster.dns_alone().await?;
        if dns.seen.deployments.is_empty() { Ok(None) } else { cluster.dns_counted(&dns).await.map(Some) }
    };
    let pods = match counted.await {
        Ok(pods) => pods?,
        Err(error) => return Some(why_not(&first(&error.to_string()))),
    };
    let (mut all, mut read, mut silent) = (Reading::default(), 0, None);
    for pod in pods {
        match pod.reading {
            Ok(reading) => {
                all.add(&reading);
                read += 1;
            }
            Err(why) => silent = Some(format!("{}: {}", pod.pod, first(&why))),
        }
    }
    Some(match (all.queries_per_answer(), silent) {
        (Some(queries), _) => format!(
            "for each answer that there is, {read} pods of CoreDNS had {queries:.1} queries since they were started; `bedplate dns stats` \
             tells of now"
        ),
        (None, Some(why)) => why_not(&why),
        (None, None) => "CoreDNS has answered nobody since it was started".to_owned(),
    })
}
