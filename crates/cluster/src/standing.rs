//! How each guarantee stands on a cluster, in the status of its profile: declared, enforced, observed, proven. Each part
//! is written by whoever knows it, on its own, and only where it says something new.

use std::collections::BTreeMap;

use bedplate_guarantees::fairness::prove::Tally;
use bedplate_guarantees::{enforce, fairness, rules};
use bedplate_model::crd::{Enforced, Observed, Proven, Standing};
use bedplate_model::profile::{Level, Mode, Settings};
use bedplate_model::{Guarantee, Profile};
use serde_json::{Value, json};

use crate::clock;
use crate::prove::Outcome;
use crate::{Cluster, Error};

/// Errors and warnings that the rules of a guarantee found.
pub type Found = BTreeMap<Guarantee, (u64, u64)>;

/// What a drill of a guarantee showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// Attempts that were refused.
    pub refused: u64,
    /// Attempts that got through, whether the profile says so or not.
    pub through: u64,
    /// Attempts that could not be made.
    pub untried: u64,
}

impl Shown {
    /// Counts one attempt.
    pub const fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Through | Outcome::NotEnforced(_) => self.through += 1,
            Outcome::Untried(_) => self.untried += 1,
        }
    }
}

impl Cluster {
    /// Says what was found in the whole cluster: of each guarantee, also where it is nothing.
    ///
    /// # Errors
    /// No rights.
    pub async fn observed(&self, found: &Found) -> Result<(), Error> {
        self.stand(|guarantee, before, time| {
            let (errors, warnings) = found.get(&guarantee).copied().unwrap_or_default();
            let same = before.observed.as_ref().filter(|seen| (seen.errors, seen.warnings) == (errors, warnings));
            let since = same.map_or_else(|| time.to_owned(), |seen| seen.since.clone());
            json!({ "observed": Observed { errors, warnings, since } })
        })
        .await
    }

    /// Says what drills showed, of the guarantees that they were of.
    ///
    /// # Errors
    /// No rights.
    pub async fn proven(&self, shown: &BTreeMap<Guarantee, Shown>) -> Result<(), Error> {
        self.stand(|guarantee, _, time| {
            let Some(&Shown { refused, through, untried }) = shown.get(&guarantee) else { return json!({}) };
            let status = if refused > 0 && through == 0 { "True" } else { "False" }.to_owned();
            let (time, message) = (time.to_owned(), None);
            json!({ "proven": Proven { status, refused, through, untried, message, time } })
        })
        .await
    }

    /// Says what a flood beside a controller's probe has shown.
    ///
    /// # Errors
    /// No rights.
    pub async fn proven_fairness(&self, holds: bool, probe: &Tally, message: &str) -> Result<(), Error> {
        let shown = Shown { refused: probe.latency.len() as u64, through: probe.refused + probe.failed, untried: 0 };
        self.proven_by(Guarantee::Fairness, holds, shown, message).await
    }

    /// Says what lookups in a pod have cost: how many, and how many of them more than two queries each.
    ///
    /// # Errors
    /// No rights.
    pub async fn proven_dns(&self, holds: bool, lookups: u32, message: &str) -> Result<(), Error> {
        let lookups = u64::from(lookups);
        let (refused, through) = if holds { (lookups, 0) } else { (0, lookups) };
        self.proven_by(Guarantee::Dns, holds, Shown { refused, through, untried: 0 }, message).await
    }

    /// Says what became of a training that was evicted.
    ///
    /// # Errors
    /// No rights.
    pub async fn proven_training(&self, holds: bool, message: &str) -> Result<(), Error> {
        let (refused, through) = if holds { (1, 0) } else { (0, 1) };
        self.proven_by(Guarantee::Training, holds, Shown { refused, through, untried: 0 }, message).await
    }

    async fn proven_by(&self, of: Guarantee, holds: bool, shown: Shown, message: &str) -> Result<(), Error> {
        self.stand(|guarantee, _, time| {
            if guarantee != of {
                return json!({});
            }
            let proven = Proven {
                status: if holds { "True" } else { "False" }.to_owned(),
                refused: shown.refused,
                through: shown.through,
                untried: shown.untried,
                message: Some(message.to_owned()),
                time: time.to_owned(),
            };
            json!({ "proven": proven })
        })
        .await
    }

    /// Writes a part of each guarantee's standing, where it differs from what is said.
    async fn stand(&self, part: impl Fn(Guarantee, &Standing, &str) -> Value) -> Result<(), Error> {
        let Some((place, live)) = self.live_profile().await? else { return Ok(()) };
        let time = clock::timestamp();
        match differing(&live, |guarantee, before| part(guarantee, before, &time)) {
            Some(guarantees) => {
                let status = json!({ "status": { "guarantees": guarantees } });
                self.merge(place, "status", &status, false).await.map(drop)
            }
            None => Ok(()),
        }
    }
}

/// What is declared and enforced, where the status of a profile does not say so yet: its guards are in place.
/// `lanes`: how many objects of ours flow control has.
pub(crate) fn in_place(live: &Value, profile: &Profile, lanes: usize) -> Option<Value> {
    let time = clock::timestamp();
    differing(live, |guarantee, before| {
        let declared = declared(profile, guarantee);
        let (holds, message) = match guarantee {
            Guarantee::Fairness => lanes_hold(profile, lanes),
            // Whether it still is in the Corefile is not looked at here: a drill shows it.
            Guarantee::Dns => (
                false,
                "not watched here: `bedplate apply` puts autopath into CoreDNS in the mode `enforce`, `bedplate prove dns` counts what a lookup costs"
                    .to_owned(),
            ),
            guarantee => enforced(profile, guarantee),
        };
        let status = if holds { "True" } else { "False" }.to_owned();
        let same = before.enforced.as_ref().filter(|said| said.status == status);
        let since = same.map_or_else(|| time.clone(), |said| said.since.clone());
        json!({ "declared": declared, "enforced": Enforced { status, message, since } })
    })
}

/// What the status of a profile has to be told of each guarantee; nothing where it says all of it.
fn differing(live: &Value, part: impl Fn(Guarantee, &Standing) -> Value) -> Option<Value> {
    let said = &live["status"]["guarantees"];
    let told: serde_json::Map<_, _> = Guarantee::ALL
        .into_iter()
        .filter_map(|guarantee| {
            let before = &said[guarantee.name()];
            let standing = serde_json::from_value(before.clone()).unwrap_or_default();
            let mut part = part(guarantee, &standing);
            part.as_object_mut()?.retain(|key, value| before.get(key) != Some(&*value));
            (part != json!({})).then(|| (guarantee.name().to_owned(), part))
        })
        .collect();
    (!told.is_empty()).then_some(Value::Object(told))
}

fn declared(profile: &Profile, guarantee: Guarantee) -> Mode {
    // No rule has that name: it is the mode of those that nothing is said of.
    profile.settings(None).mode("", guarantee)
}

/// Whether the lanes of fairness are there, and in words.
fn lanes_hold(profile: &Profile, lanes: usize) -> (bool, String) {
    match (fairness::enforce::mode(profile), lanes) {
        (Mode::Enforce, 0) => {
            (false, "no controller of a machine-learning platform was found, so there is no lane to make".to_owned())
        }
        (Mode::Enforce, lanes) => {
            (true, format!("controllers ride in a lane of their own, and users in a low one: {lanes} objects"))
        }
        (mode, _) => (false, format!("fairness: {}; flow control is left as it is", mode.name())),
    }
}

/// Whether every guard of a guarantee refuses, and in words which do what.
fn enforced(profile: &Profile, guarantee: Guarantee) -> (bool, String) {
    let guards = || enforce::guarded().filter(|(_, of)| *of == guarantee).map(|(rule, _)| rule);
    let settings = profile.settings(None);
    if guards().next().is_none() {
        return by_webhook(settings, guarantee);
    }
    let (refuse, others): (Vec<_>, Vec<_>) = guards().partition(|rule| settings.mode(rule, guarantee) == Mode::Enforce);
    let mut told = Vec::new();
    if !refuse.is_empty() {
        told.push(format!("refused: {}", refuse.join(", ")));
    }
    for rule in &others {
        told.push(format!("{rule}: {}", settings.mode(rule, guarantee).name()));
    }
    for (names, settings) in profile.namespaces() {
        let weaker = guards().filter(|rule| settings.mode(rule, guarantee) != Mode::Enforce).count();
        if weaker > 0 {
            told.push(format!("in namespaces {}: {weaker} not refused", names.join(", ")));
        }
    }
    (others.is_empty(), told.join("; "))
}

/// What the webhook does for a guarantee of which the API server has no guard: where it is down, nothing.
fn by_webhook(settings: &Settings, guarantee: Guarantee) -> (bool, String) {
    let rules =
        rules().filter(|rule| rule.guarantee == guarantee && settings.rules.get(rule.name) != Some(&Level::Off));
    let (mended, others): (Vec<_>, Vec<_>) =
        rules.map(|rule| rule.name).partition(|rule| settings.fixes().contains(rule));
    let (refused, told): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|rule| settings.modes.get(*rule) == Some(&Mode::Enforce));
    if mended.is_empty() && refused.is_empty() {
        let text = "no guard is in the API server; `bedplate check` and `audit` tell what breaks it";
        return (false, format!("{text}, and the webhook mends what `fixes` names"));
    }
    let lists = [("mended", &mended), ("refused", &refused), ("only told", &told)];
    let lists = lists.iter().filter(|(_, rules)| !rules.is_empty());
    let lists = lists.map(|(what, rules)| format!("{what}: {}", rules.join(", "))).collect::<Vec<_>>();
    (told.is_empty(), format!("by the webhook, in what is new: {}", lists.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(spec: &str) -> Profile {
        let text = format!(
            "apiVersion: bedplate.dev/v1alpha1\nkind: StabilityProfile\nmetadata: {{name: default}}\nspec: {spec}\n"
        );
        Profile::parse(&text, &bedplate_guarantees::names()).unwrap()
    }

    /// One green tick hid that a guard only wrote to a log that nobody read.
    #[test]
    fn enforced_says_of_every_guard_whether_it_refuses() {
        let (holds, text) = enforced(&profile("{}"), Guarantee::Admission);
        assert!(holds, "{text}");
        let (holds, text) = enforced(&profile("{modes: {gpu-ceiling: audit}}"), Guarantee::Admission);
        assert!(!holds);
        assert!(text.contains("gpu-ceiling: audit") && text.contains("refused: "), "{text}");
        let (holds, text) =
            enforced(&profile("{namespaces: [{names: [team-*], modes: {admission: warn}}]}"), Guarantee::Admission);
        assert!(holds && text.contains("in namespaces team-*: "), "{text}");
        let (holds, text) = enforced(&profile("{}"), Guarantee::Dns);
        assert!(!holds && text.contains("no guard"), "{text}");
        let (holds, text) = enforced(&profile("{fixes: [grace-too-short]}"), Guarantee::Training);
        assert!(!holds && text.contains("mended: grace-too-short; only told: no-durable-checkpoint"), "{text}");
        let whole = "{fixes: [init-bypassed], rules: {no-init: \"off\"}, modes: {shell-form: enforce}}";
        let (_, text) = enforced(&profile(whole), Guarantee::Image);
        assert!(text.contains("mended: init-bypassed; refused: shell-form") && !text.contains("no-init"), "{text}");
        let (holds, text) = lanes_hold(&profile("{}"), 7);
        assert!(holds && text.contains("7 objects"), "{text}");
        assert!(!lanes_hold(&profile("{}"), 0).0 && !lanes_hold(&profile("{modes: {fairness: warn}}"), 7).0);
    }

    /// An operator that wrote its status every minute filled etcd with copies of it.
    #[test]
    fn what_is_said_already_is_not_said_again() {
        let mut live = json!({ "status": {} });
        let first = in_place(&live, &profile("{}"), 7).unwrap();
        assert_eq!(first["deletion"]["declared"], "enforce");
        live["status"]["guarantees"] = first.clone();
        live["status"]["guarantees"]["deletion"]["proven"] = json!({ "status": "True", "refused": 9, "through": 0,
            "untried": 0, "time": "2026-01-01T00:00:00Z" });
        live["status"]["guarantees"]["deletion"]["enforced"]["since"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(in_place(&live, &profile("{}"), 7), None);
        let weaker = in_place(&live, &profile("{modes: {deletion: warn}}"), 7).unwrap();
        assert_eq!(weaker.as_object().unwrap().len(), 1, "the others stand as they did: {weaker}");
        assert_eq!(weaker["deletion"]["enforced"]["status"], "False");
        assert_ne!(weaker["deletion"]["enforced"]["since"], "2026-01-01T00:00:00Z");
    }
}
