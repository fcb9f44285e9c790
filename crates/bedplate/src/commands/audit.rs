//! `bedplate audit`: the rules of `check` over what is in a cluster.

use std::process::ExitCode;

use bedplate_cluster::rights::Task;
use bedplate_report::{FileView, Format, Summary, report};

use super::cluster::{Target, tell_unread, wait};
use super::{Error, print};
use crate::today::today;

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
            .audit(&profile, &today(), args.namespace.as_deref(), |path, text, checked| {
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
        if tell_unread(&seen.unread) {
            return Ok(ExitCode::from(2));
        }
        let found = summary.errors + summary.warnings + summary.infos > 0;
        Ok(ExitCode::from(u8::from(found)))
    })
}
