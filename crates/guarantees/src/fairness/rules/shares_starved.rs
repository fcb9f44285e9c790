use bedplate_apf::PriorityLevel;
use bedplate_apf::bootstrap::LEVELS;
use bedplate_apf::shares::{Part, concurrency};
use bedplate_model::{Finding, Object};

use crate::context::typed;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Adds up the shares of all priority levels and tells what the levels that every server
    /// brings are left with, where your own take more than half of it.
    ///
    /// ## Why
    /// Shares are relative: a new level takes seats from every other. One with 500 shares leaves
    /// the controllers of `kube-system`, node heartbeats and leader election with a third of
    /// what they had.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: PriorityLevelConfiguration
    /// metadata: {name: ml-controllers}
    /// spec: {type: Limited, limited: {nominalConcurrencyShares: 500, limitResponse: {type: Reject}}}
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: flowcontrol.apiserver.k8s.io/v1
    /// kind: PriorityLevelConfiguration
    /// metadata: {name: ml-controllers}
    /// spec: {type: Limited, limited: {nominalConcurrencyShares: 60, limitResponse: {type: Reject}}}
    /// ```
    ///
    /// ## Options
    /// `spec.fairness.serverConcurrency`, 600: `--max-requests-inflight` and
    /// `--max-mutating-requests-inflight` together.
    ///
    /// ## Sources
    /// - `k8s.io/apiserver/pkg/util/flowcontrol/apf_controller.go`: nominal = ceil(total x shares / sum).
    "shares-starved", Fairness, Warning, High, [Object(check)]
}

fn check(object: &Object<'_>, cx: &Context<'_>, out: &mut Findings) {
    if !object.is("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") {
        return;
    }
    let Some(level) = typed::<PriorityLevel>(object) else { return };
    if LEVELS.iter().any(|bootstrap| bootstrap.name == level.metadata.name) {
        return;
    }
    // One finding for all of them, at the largest.
    if cx.neighbours.largest_priority_level().is_none_or(|largest| largest.metadata.name != level.metadata.name) {
        return;
    }
    let total = i64::from(cx.settings.server_concurrency());
    let before: Vec<Part> = LEVELS.iter().map(|l| (l.shares, l.lendable_percent, None)).collect();
    let own = &cx.neighbours.priority_levels;
    let own = own.iter().filter(|l| !LEVELS.iter().any(|bootstrap| bootstrap.name == l.metadata.name));
    let own: Vec<_> = own.map(|l| (l.metadata.name.as_str(), l.shares())).collect();
    let mut after = before.clone();
    after.extend(own.iter().map(|(_, shares)| (*shares, 0, None)));
    let (before, after) = (concurrency(total, &before), concurrency(total, &after));
    let system = LEVELS.iter().position(|l| l.name == "system").unwrap_or(0);
    if after[system].nominal * 2 >= before[system].nominal {
        return;
    }
    let mut finding = Finding::new(
        &object.at("spec.limited.nominalConcurrencyShares"),
        format!(
            "with {} shares of your own the level `system` keeps {} of {} seats",
            own.iter().map(|(_, shares)| shares).sum::<i64>(),
            after[system].nominal,
            before[system].nominal
        ),
    )
    .label(format!("{} shares", level.shares()))
    .help("shares are relative: give your levels fewer, 30 to 60 are plenty for the controllers of a platform");
    for (i, l) in LEVELS.iter().enumerate().filter(|(_, l)| l.shares > 0) {
        finding =
            finding.note(format!("{}: {} seats of {total}, {} before", l.name, after[i].nominal, before[i].nominal));
    }
    out.push(finding);
}
