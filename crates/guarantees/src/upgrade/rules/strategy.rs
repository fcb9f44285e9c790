//! Where each OpenKruise kind keeps what upgrades need. Sources: `apis/apps/v1alpha1/cloneset_types.go`,
//! `apis/apps/v1beta1/statefulset_types.go`, `apis/apps/v1alpha1/daemonset_types.go`.

use bedplate_model::{Field, Workload};

/// How an OpenKruise workload is updated.
#[derive(Clone, Debug)]
pub(super) struct Strategy<'a> {
    /// The mapping that holds `partition` and `paused`.
    pub(super) field: Field<'a>,
    /// The field that says whether pods are updated in place.
    pub(super) policy: Field<'a>,
    /// Whether the kind drains before it updates in place, and needs a readiness gate written by hand.
    pub(super) kind: Kruise,
}

/// The OpenKruise kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kruise {
    /// CloneSet: Kruise itself adds the readiness gate.
    Clone,
    /// Advanced StatefulSet.
    Stateful,
    /// Advanced DaemonSet: no grace period in place.
    Daemon,
}

impl<'a> Strategy<'a> {
    /// The strategy of a workload; nothing where its kind is not OpenKruise's, or its pods are
    /// only updated when somebody deletes them.
    pub(super) fn of(workload: &Workload<'a>) -> Option<Self> {
        let object = &workload.object;
        if object.group() != "apps.kruise.io" {
            return None;
        }
        let update = object.at("spec.updateStrategy");
        let rolling = update.key("rollingUpdate");
        let (kind, field, policy) = match object.kind {
            // Versions to come put everything under `rollingUpdate`; we do not guess at them.
            "CloneSet" if !rolling.exists() => (Kruise::Clone, update.clone(), update.key("type")),
            "StatefulSet" => (Kruise::Stateful, rolling.clone(), rolling.key("podUpdatePolicy")),
            "DaemonSet" => (Kruise::Daemon, rolling.clone(), rolling.key("rollingUpdateType")),
            _ => return None,
        };
        (update.key("type").str() != Some("OnDelete")).then_some(Self { field, policy, kind })
    }

    /// Whether pods are updated in place, always or where it is possible.
    pub(super) fn in_place(&self) -> bool {
        self.policy.str().is_some_and(|policy| policy.starts_with("InPlace") || policy == "Inplace")
    }

    /// Whether the policy can be read: missing, or one of the words that the kind knows.
    pub(super) fn recreates(&self) -> bool {
        !self.policy.exists() || matches!(self.policy.str(), Some("ReCreate" | "Recreate" | "Standard"))
    }

    /// The drain before an update in place, in seconds.
    pub(super) fn grace(&self) -> Field<'a> {
        self.field.at("inPlaceUpdateStrategy.gracePeriodSeconds")
    }
}

/// The readiness gate that Kruise closes while it updates in place.
pub(super) const GATE: &str = "InPlaceUpdateReady";

/// Whether pods have that gate.
pub(super) fn has_gate(spec: &Field<'_>) -> bool {
    spec.key("readinessGates").items().any(|gate| gate.key("conditionType").str() == Some(GATE))
}
