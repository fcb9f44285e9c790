//! FlowSchemas and PriorityLevelConfigurations (`k8s.io/api/flowcontrol/v1/types.go`), with the
//! server's defaults.

use serde::{Deserialize, Deserializer};

/// A list. The API server writes `null` for one that is empty where its types have no `omitempty`: a rule that means only
/// what has no namespace has `namespaces: null`.
fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A FlowSchema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FlowSchema {
    /// Name and annotations.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it matches and where it sends it.
    pub spec: FlowSchemaSpec,
}

/// The metadata that matters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// The name: ties between equal precedences go by it.
    #[serde(default)]
    pub name: String,
}

/// What a FlowSchema matches and where it sends it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowSchemaSpec {
    /// The level.
    #[serde(default)]
    pub priority_level_configuration: Reference,
    /// Lower wins; 1 to 10000.
    #[serde(default = "precedence")]
    pub matching_precedence: i64,
    /// What tells its flows apart; missing where they are one.
    #[serde(default)]
    pub distinguisher_method: Option<Typed>,
    /// A request that matches one matches the schema.
    #[serde(default, deserialize_with = "or_nothing")]
    pub rules: Vec<PolicyRules>,
}

/// Something with a `type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Typed {
    /// `ByUser` or `ByNamespace`.
    #[serde(default, rename = "type")]
    pub kind: String,
}

const fn precedence() -> i64 {
    1000
}

/// A name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Reference {
    /// The name.
    #[serde(default)]
    pub name: String,
}

/// Subjects, and what they do: one of each has to match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRules {
    /// Who.
    #[serde(default, deserialize_with = "or_nothing")]
    pub subjects: Vec<Subject>,
    /// Requests for resources.
    #[serde(default, deserialize_with = "or_nothing")]
    pub resource_rules: Vec<ResourceRule>,
    /// Requests for other paths.
    #[serde(default, deserialize_with = "or_nothing", rename = "nonResourceRules")]
    pub non_resource_rules: Vec<NonResourceRule>,
}

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind")]
pub enum Subject {
    /// A user; `*` is everyone.
    User {
        /// Its name.
        user: Reference,
    },
    /// A group; `*` is everyone.
    Group {
        /// Its name.
        group: Reference,
    },
    /// A service account; `*` as its name is all of a namespace.
    ServiceAccount {
        /// It.
        #[serde(rename = "serviceAccount")]
        service_account: ServiceAccount,
    },
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServiceAccount {
    /// Its namespace; no wildcards.
    #[serde(default)]
    pub namespace: String,
    /// Its name, or `*`.
    #[serde(default)]
    pub name: String,
}

/// Requests for resources. `*` in a list is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRule {
    /// Verbs.
    #[serde(default, deserialize_with = "or_nothing")]
    pub verbs: Vec<String>,
    /// API groups; empty text is the core group.
    #[serde(default, deserialize_with = "or_nothing")]
    pub api_groups: Vec<String>,
    /// Resources, or `resource/subresource`.
    #[serde(default, deserialize_with = "or_nothing")]
    pub resources: Vec<String>,
    /// Whether requests without a namespace match: cluster-scoped objects and lists over all
    /// namespaces.
    #[serde(default)]
    pub cluster_scope: bool,
    /// Namespaces of requests that have one.
    #[serde(default, deserialize_with = "or_nothing")]
    pub namespaces: Vec<String>,
}

/// Requests for paths that are no resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NonResourceRule {
    /// Verbs.
    #[serde(default, deserialize_with = "or_nothing")]
    pub verbs: Vec<String>,
    /// Paths; a `*` may end one.
    #[serde(default, deserialize_with = "or_nothing", rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// A PriorityLevelConfiguration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PriorityLevel {
    /// Its name.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it gives.
    #[serde(default)]
    pub spec: PriorityLevelSpec,
}

/// What a level gives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct PriorityLevelSpec {
    /// `Exempt` or `Limited`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Of a limited level.
    #[serde(default)]
    pub limited: Option<Limited>,
    /// Of an exempt level: it may hold seats too.
    #[serde(default)]
    pub exempt: Option<Limited>,
}

/// Shares of a level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limited {
    /// Shares of the server's seats; 30 where it is missing from a limited level.
    /// v1beta2 called it `assuredConcurrencyShares`.
    #[serde(default, alias = "assuredConcurrencyShares")]
    pub nominal_concurrency_shares: Option<i64>,
    /// How much others may borrow, in percent.
    #[serde(default)]
    pub lendable_percent: Option<i64>,
    /// How much it may borrow, in percent of its own; no limit where missing.
    #[serde(default)]
    pub borrowing_limit_percent: Option<i64>,
    /// What becomes of requests that find no free seat.
    #[serde(default)]
    pub limit_response: LimitResponse,
}

/// What becomes of requests that find no free seat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct LimitResponse {
    /// `Queue` or `Reject`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// Of `Queue`.
    #[serde(default)]
    pub queuing: Option<Queuing>,
}

/// The queues of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queuing {
    /// How many there are.
    #[serde(default = "queues")]
    pub queues: u32,
    /// How many of them a flow may use.
    #[serde(default = "hand_size")]
    pub hand_size: u32,
    /// Requests that one of them holds.
    #[serde(default = "queue_length_limit")]
    pub queue_length_limit: u32,
}

const fn queues() -> u32 {
    64
}

const fn hand_size() -> u32 {
    8
}

const fn queue_length_limit() -> u32 {
    50
}

impl PriorityLevel {
    /// Its shares.
    #[must_use]
    pub fn shares(&self) -> i64 {
        let (part, default) = if self.is_exempt() { (&self.spec.exempt, 0) } else { (&self.spec.limited, 30) };
        part.as_ref().and_then(|part| part.nominal_concurrency_shares).unwrap_or(default)
    }

    /// Its part in the sharing of seats.
    #[must_use]
    pub fn part(&self) -> crate::shares::Part {
        let part = if self.is_exempt() { &self.spec.exempt } else { &self.spec.limited };
        let lends = part.as_ref().and_then(|part| part.lendable_percent).unwrap_or(0);
        (self.shares(), lends, part.as_ref().and_then(|part| part.borrowing_limit_percent))
    }

    /// Its queues; nothing where none waits.
    #[must_use]
    pub fn queuing(&self) -> Option<Queuing> {
        let response = &self.spec.limited.as_ref()?.limit_response;
        (response.kind == "Queue").then_some(response.queuing?)
    }

    /// Whether its requests never wait.
    #[must_use]
    pub fn is_exempt(&self) -> bool {
        self.spec.kind == "Exempt"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schema for cluster-wide requests only was passed over, and the explainer named another lane than the server.
    #[test]
    fn a_list_may_be_null() {
        let text = r#"{"metadata":{"name":"a"},"spec":{"matchingPrecedence":3,"priorityLevelConfiguration":{"name":"exempt"},
            "rules":[{"subjects":[{"kind":"Group","group":{"name":"*"}}],"nonResourceRules":null,
            "resourceRules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"],"clusterScope":true,"namespaces":null}]}]}}"#;
        let schema: FlowSchema = serde_json::from_str(text).unwrap();
        assert_eq!(schema.spec.rules[0].resource_rules[0].namespaces, [] as [&str; 0]);
    }
}
