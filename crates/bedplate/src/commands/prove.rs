//! `bedplate prove`: everything that should be refused is tried, with dry runs; a flood beside a controller; a lookup counted
//! at the server; a training evicted.

mod dns;
mod fairness;
mod training;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use bedplate_cluster::Cluster;
use bedplate_cluster::prove::Outcome;
use bedplate_cluster::rights::Task;
use bedplate_cluster::standing::Shown;
use bedplate_model::Guarantee;

use super::cluster::{Target, wait};
use super::{Error, print};

/// Options of `prove`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to prove
    #[arg(value_name = "GUARANTEE", default_values_t = [Provable::Admission, Provable::Deletion])]
    guarantees: Vec<Provable>,
    /// The namespace that objects are tried in, nothing is created but what `dns` and `training` run; a flood is sent into those of users,
    /// where there are any
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Only what got through or could not be tried
    #[arg(long, short)]
    quiet: bool,
    /// The image that `dns` and `training` run: for `dns` one with a shell, and python3, getent or ping, whose C library is
    /// tried (by default busybox); for `training` one of yours, with Python, torch or numpy, and the package `bedplate`
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    flood: fairness::Flood,
    #[command(flatten)]
    lookups: dns::Lookups,
    #[command(flatten)]
    training: training::Training,
}

/// Guarantees that have a drill.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Provable {
    /// Ceilings, registries, tags
    Admission,
    /// What is protected from deletion
    Deletion,
    /// A bounded flood by users beside a controller's requests: never done unless it is named
    Fairness,
    /// A short-lived pod looks a name up, and CoreDNS's queries are counted: never done unless it is named
    Dns,
    /// A small training is evicted and has to resume: never done unless it is named
    Training,
}

impl std::fmt::Display for Provable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Guarantee::from(*self).name())
    }
}

impl From<Provable> for Guarantee {
    fn from(provable: Provable) -> Self {
        match provable {
            Provable::Admission => Self::Admission,
            Provable::Deletion => Self::Deletion,
            Provable::Fairness => Self::Fairness,
            Provable::Dns => Self::Dns,
            Provable::Training => Self::Training,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    let guarantees: Vec<Guarantee> = args.guarantees.iter().map(|provable| (*provable).into()).collect();
    let color = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let paint = |text: &str, of: AnsiColor| {
        let style = if color { Style::new().fg_color(Some(of.into())) } else { Style::new() };
        format!("{style}{text:<12}{style:#}")
    };
    let refusals = guarantees.iter().any(|guarantee| matches!(guarantee, Guarantee::Admission | Guarantee::Deletion));
    let [floods, lookups, trainings] =
        [Guarantee::Fairness, Guarantee::Dns, Guarantee::Training].map(|one| guarantees.contains(&one));
    let image = args.image.as_deref();
    wait(async {
        let cluster = args.target.connect().await?;
        for (task, wanted) in [
            (Task::Prove, refusals),
            (Task::ProveFairness, floods),
            (Task::ProveDns, lookups),
            (Task::ProveTraining, trainings),
        ] {
            if wanted {
                cluster.require(task, None, Vec::new()).await?;
            }
        }
        let mut holds = true;
        if refusals {
            holds &= tried(args, &cluster, &guarantees, &paint).await?;
        }
        if floods {
            holds &= fairness::run(&args.target, &cluster, &args.flood, &args.namespace).await?;
        }
        if lookups {
            holds &= dns::run(&cluster, &args.lookups, image, &args.namespace).await?;
        }
        if trainings {
            holds &= training::run(&cluster, &args.training, image, &args.namespace).await?;
        }
        Ok(ExitCode::from(u8::from(!holds)))
    })
}

/// Tries everything that should be refused, and gives whether nothing got through.
async fn tried(
    args: &Args,
    cluster: &Cluster,
    guarantees: &[Guarantee],
    paint: &impl Fn(&str, AnsiColor) -> String,
) -> Result<bool, Error> {
    let mut shown: BTreeMap<Guarantee, Shown> = BTreeMap::new();
    let mut failed = None;
    cluster
        .prove(guarantees, &args.namespace, |attempt| {
            shown.entry(attempt.guarantee).or_default().add(&attempt.outcome);
            let (word, note, dull) = match &attempt.outcome {
                Outcome::Refused(why) => (paint("refused", AnsiColor::Green), why.clone(), true),
                Outcome::Through => {
                    (paint("GOT THROUGH", AnsiColor::Red), format!("{} should have refused it", attempt.rule), false)
                }
                Outcome::NotEnforced(mode) => (
                    paint("GOT THROUGH", AnsiColor::Yellow),
                    format!("the mode of {} is `{}`", attempt.rule, mode.name()),
                    false,
                ),
                Outcome::Untried(why) => (paint("not tried", AnsiColor::Yellow), why.clone(), false),
            };
            if !(args.quiet && dull) && failed.is_none() {
                failed = print(&format!("{word} {}\n             {note}\n", attempt.what)).err();
            }
        })
        .await?;
    if let Some(error) = failed {
        return Err(error);
    }
    cluster.proven(&shown).await?;
    let sum = |count: fn(&Shown) -> u64| shown.values().map(count).sum::<u64>();
    let (refused, through) = (sum(|shown| shown.refused), sum(|shown| shown.through));
    print(&format!(
        "\n{refused} refused, {through} got through, {} could not be tried; they were dry runs, and changed nothing on {}\n",
        sum(|shown| shown.untried),
        cluster.server
    ))?;
    if refused + through == 0 {
        return Err(Error::Other("nothing could be tried, so nothing is proven".to_owned()));
    }
    Ok(through == 0)
}
