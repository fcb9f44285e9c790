//! `bedplate prove training`: a small training is evicted, and goes on in another pod where it was.

use std::time::{SystemTime, UNIX_EPOCH};

use bedplate_cluster::Cluster;
use bedplate_cluster::training::{Outcome, Trial, Volume};

use crate::commands::{Error, print, table};

/// What `prove training` trains.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Options of `prove training`")]
pub(crate) struct Training {
    /// A PersistentVolumeClaim for the checkpoints: a folder in it is used, and removed; by default one is made, and goes
    /// with the job
    #[arg(long, value_name = "NAME", conflicts_with = "storage_class")]
    claim: Option<String>,
    /// The storage class of the claim that is made; by default the cluster's own
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,
    /// Megabytes of the state that is saved: as many as a training of yours has, to see how long that takes
    #[arg(long, value_name = "MEBIBYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    state: u32,
    /// Seconds that the pod is given to end
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    grace: u32,
}

pub(super) async fn run(
    cluster: &Cluster,
    training: &Training,
    image: Option<&str>,
    namespace: &str,
) -> Result<bool, Error> {
    let image = image.ok_or_else(|| {
        Error::Other(
            "which image does the training run in?\n--image IMAGE: one of yours with Python, torch or numpy, and the package `bedplate` (pip install bedplate)"
                .to_owned(),
        )
    })?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("bedplate-training-{:x}", since.as_millis());
    let volume = match (&training.claim, &training.storage_class) {
        (Some(claim), _) => Volume::There(claim),
        (None, class) => Volume::New(class.as_deref()),
    };
    let trial = Trial { name: &name, namespace, image, volume, megabytes: training.state, grace: training.grace };
    let mut failed = None;
    let outcome = cluster.prove_training(&trial, &mut |line| failed = print(&format!("{line}\n")).err()).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    let (text, holds, message) = told(&outcome, training.grace);
    print(&text)?;
    cluster.proven_training(holds, &message).await?;
    print(&format!("\n{}: {message}\n", if holds { "the guarantee holds" } else { "NOT PROVEN" }))?;
    Ok(holds)
}

/// The phases, whether the guarantee holds, and in a sentence why.
fn told(outcome: &Outcome, grace: u32) -> (String, bool, String) {
    let Outcome { resumed, nodes: [first, second], leaving, coming } = outcome;
    let seconds = |seconds: f64| format!("{seconds:.1} s");
    let row = |what: &str, took: String, how: String| vec![what.to_owned(), took, how];
    let saving = resumed.saving.map_or_else(|| "none".to_owned(), |took| format!("{took:.2} s"));
    let text = table(&[
        row("notice until durable", saving, format!("{} MiB of state, of {grace} s of grace", resumed.bytes >> 20)),
        row("eviction until the pod had ended", seconds(leaving.as_secs_f64()), format!("on {first}")),
        row("until another one ran", seconds(coming.as_secs_f64()), format!("on {second}: schedule, volume, image")),
        row(
            "until it was where the first had been",
            seconds(resumed.starting),
            format!("imports of {}, restore", resumed.framework),
        ),
    ]);
    let lost = resumed.done.saturating_sub(resumed.resumed);
    let mut wrong = Vec::new();
    if lost > 0 {
        wrong.push(format!("{lost} of {} steps are lost", resumed.done));
    }
    if resumed.saving.is_none() {
        wrong.push("the process heard of no notice: something between the kubelet and it swallows SIGTERM".to_owned());
    }
    if !resumed.exact {
        wrong.push("the weights differ from those of a run that was never stopped".to_owned());
    }
    let code = resumed.code.map_or_else(String::new, |code| format!(", ended with exit code {code}"));
    let message = if wrong.is_empty() {
        format!(
            "evicted after step {}{code}, resumed there: no step lost, the weights bit by bit those of a run that was never stopped",
            resumed.done
        )
    } else {
        format!("evicted after step {}{code}: {}", resumed.done, wrong.join("; "))
    };
    (format!("\n{text}"), wrong.is_empty(), message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bedplate_cluster::training::Resumed;

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            resumed: Resumed {
                framework: "torch 2.15.0".to_owned(),
                bytes: 64 << 20,
                done: 28,
                resumed: 28,
                code: Some(143),
                saving: Some(0.09),
                starting: 3.8,
                exact: true,
            },
            nodes: ["node-a".to_owned(), "node-b".to_owned()],
            leaving: Duration::from_millis(700),
            coming: Duration::from_millis(2400),
        }
    }

    #[test]
    fn no_step_lost_is_told_with_the_time_of_each_phase() {
        let (text, holds, message) = told(&outcome(), 120);
        assert!(holds);
        insta::assert_snapshot!(format!("{text}{message}"));
    }

    #[test]
    fn a_notice_that_was_swallowed_or_steps_that_are_lost_prove_nothing() {
        let mut swallowed = outcome();
        swallowed.resumed = Resumed { resumed: 0, code: None, saving: None, ..swallowed.resumed };
        let (_, holds, message) = told(&swallowed, 30);
        assert!(
            !holds && message.contains("28 of 28 steps are lost") && message.contains("swallows SIGTERM"),
            "{message}"
        );
        let mut inexact = outcome();
        inexact.resumed.exact = false;
        assert!(!told(&inexact, 30).1);
    }
}
