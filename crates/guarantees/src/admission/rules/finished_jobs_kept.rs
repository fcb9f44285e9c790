use bedplate_model::{Edit, Field, Finding, Fix, Workload};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds jobs that stay in the cluster for ever once they have ended: no TTL and no other
    /// clean-up.
    ///
    /// ## Why
    /// A team that starts a thousand jobs a day leaves a thousand jobs and their pods a day in
    /// etcd. Every list of every controller reads them all; at 8 GB etcd takes no more writes
    /// and the whole cluster stands still.
    ///
    /// ## Example
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Use instead
    /// ```yaml
    /// apiVersion: batch/v1
    /// kind: Job
    /// metadata: {name: train}
    /// spec:
    ///   ttlSecondsAfterFinished: 86400
    ///   template:
    ///     spec:
    ///       containers: [{name: a, image: "docker.io/pytorch/pytorch:2.7.0"}]
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - Kubernetes, TTL after finished (`ttlSecondsAfterFinished`); each operator's API types.
    "finished-jobs-kept", Admission, Warning, High, [Workload(check)]
}

fn check(workload: &Workload<'_>, _: &Context<'_>, out: &mut Findings) {
    let Some(kind) = workload.kind.filter(|kind| kind.finishes && !kind.cleanup.is_empty()) else { return };
    let owned = workload.at("metadata.ownerReferences").exists();
    // `shutdownAfterJobFinishes: false` keeps everything.
    let set = |field: Field<'_>| field.exists() && field.bool() != Some(false);
    if owned || kind.cleanup.iter().any(|path| set(workload.at(path))) {
        return;
    }
    let Some(first) = kind.cleanup.first() else { return };
    let ttl = workload.at(first);
    let finding = Finding::new(
        workload.object.name_path(),
        format!("this {} stays in etcd for ever once it has ended", workload.object.kind),
    );
    let help = format!("set `{first}`");
    let edit = Edit::Set(ttl.path(), 86_400.into());
    let seconds = first.to_ascii_lowercase().contains("seconds");
    out.push(if seconds {
        finding.fix(Fix::unsafe_(format!("{help}: 86400 (a day)"), vec![edit]))
    } else {
        finding.help(help)
    });
}
