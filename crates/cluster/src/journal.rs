//! What was there before the last apply, kept in the cluster: for `rollback`, and for an apply that is interrupted.
//!
//! One ConfigMap, `kube-system/bedplate-rollback`: a key an object, its text as it was, or `null` where there was none.
//! It is written before anything is changed. While it says `begun`, later runs only add to it: what was there before the
//! first of them is what there is to go back to.

use bedplate_model::names;
use serde_json::{Map, Value, json};

use crate::bundle::{Change, Step, essence};
use crate::{Cluster, Error, Write};

/// Its name.
pub(crate) const NAME: &str = "bedplate-rollback";
/// A namespace that is on every cluster and in which no guard looks.
pub const NAMESPACE: &str = "kube-system";

/// Data that a ConfigMap may hold is 1 MiB (`validation.MaxSecretSize`); the rest is for what is around it.
const ROOM: usize = 1_000_000;

const STATE: &str = "bedplate.dev/state";
const BEGUN: &str = "begun";
const COMPLETE: &str = "complete";

/// An object as it was before the last apply.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Before {
    /// `apiVersion`, `kind` and `metadata.name`.
    pub(crate) object: Value,
    /// Whether it was there; else `object` only names it.
    pub(crate) existed: bool,
}

impl Cluster {
    /// Keeps what the steps are going to change. Definitions are left out: an older one may not know what is stored.
    pub(crate) async fn remember(&self, steps: &[Step]) -> Result<(), Error> {
        let changing = |step: &&Step| step.change != Change::Same && step.object["kind"] != "CustomResourceDefinition";
        if !steps.iter().any(|step| changing(&step)) {
            return Ok(());
        }
        let known = self.journal().await?;
        let mut data = match &known {
            Some(known) if known.pointer(&state()) == Some(&json!(BEGUN)) => data(known),
            _ => Map::new(),
        };
        for step in steps.iter().filter(changing) {
            let before = step.before.as_ref().map_or_else(
                || json!({ "absent": named(&step.object) }),
                |live| json!({ "was": essence(live.clone()) }),
            );
            // A key may have 253 characters, and a name too.
            let key: String = step.what.replace(' ', ".").chars().take(250).collect();
            data.entry(key).or_insert_with(|| before.to_string().into());
        }
        // The profile is the user's; the guards can be made again by the version that made them.
        let size: usize = data.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
        if size > ROOM {
            data.retain(|key, _| !key.starts_with("ValidatingAdmissionPolicy"));
        }
        self.write_journal(&json!(data), BEGUN).await
    }

    /// Says that the apply has come to its end.
    pub(crate) async fn remembered(&self) -> Result<(), Error> {
        let Some(known) = self.journal().await? else { return Ok(()) };
        if known.pointer(&state()) == Some(&json!(COMPLETE)) {
            return Ok(());
        }
        let patch = json!({ "metadata": { "annotations": { STATE: COMPLETE } } });
        let object = journal();
        self.merge(self.place(&object)?, "", &patch, false).await.map(drop)
    }

    /// What was there before the last apply.
    pub(crate) async fn recalled(&self) -> Result<Vec<Before>, Error> {
        let Some(known) = self.journal().await? else { return Ok(Vec::new()) };
        let texts = data(&known);
        let read = texts.values().filter_map(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
        Ok(read
            .filter_map(|mut entry| {
                let existed = entry.get("was").is_some();
                let object = entry.get_mut(if existed { "was" } else { "absent" })?.take();
                Some(Before { object, existed })
            })
            .collect())
    }

    /// Forgets it. Gives whether there was anything.
    pub(crate) async fn forget(&self) -> Result<bool, Error> {
        self.remove(&journal()).await
    }

    async fn journal(&self) -> Result<Option<Value>, Error> {
        let object = journal();
        self.get(self.place(&object)?).await
    }

    async fn write_journal(&self, data: &Value, state: &str) -> Result<(), Error> {
        let mut object = journal();
        object["metadata"]["annotations"] = json!({ STATE: state });
        object["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": names::FIELD_MANAGER });
        object["data"] = data.clone();
        self.apply(&object, Write { dry_run: false, force: true }).await.map(drop)
    }
}

fn journal() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": NAME, "namespace": NAMESPACE } })
}

fn state() -> String {
    format!("/metadata/annotations/{}", STATE.replace('/', "~1"))
}

fn data(known: &Value) -> Map<String, Value> {
    known.get("data").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn named(object: &Value) -> Value {
    json!({ "apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": { "name": object["metadata"]["name"] } })
}
