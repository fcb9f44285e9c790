//! Taking away what Bedplate put into a cluster.

use std::time::Duration;

use bedplate_model::names;
use serde_json::Value;

use crate::bundle::{OWN_KINDS, is_from_file, is_managed, is_managed_by, is_ours, title};
use crate::{Cluster, Error, Place};

/// How long the API server may take to act on what it has stored, and how often it is asked meanwhile.
const MOMENTS: u32 = 120;
pub(crate) const MOMENT: Duration = Duration::from_millis(250);

/// Does something again while a guard refuses it that is just being taken away.
pub(crate) async fn patiently<T>(work: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 0..MOMENTS / 3 {
        match work().await {
            Err(Error::Refused(why)) if why.contains(names::GROUP) => tokio::time::sleep(MOMENT).await,
            other => return other,
        }
    }
    work().await
}

/// What asks the operator, and what it runs in.
fn runs(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    kind == "Deployment" || kind.ends_with("WebhookConfiguration")
}

impl Cluster {
    /// Which of some objects are here, and were made by Bedplate or by Helm of Bedplate's chart.
    ///
    /// # Errors
    /// No rights.
    pub async fn present(&self, objects: Vec<Value>) -> Result<Vec<Value>, Error> {
        let mut present = Vec::new();
        for object in objects {
            let Ok(place) = self.place(&object) else { continue };
            // The chart makes no namespace: one of Helm's is another chart's.
            let makers: &[&str] =
                if object["kind"] == "Namespace" { &[names::FIELD_MANAGER] } else { &[names::FIELD_MANAGER, "Helm"] };
            if self.get(place).await?.is_some_and(|live| is_managed_by(&live, makers)) {
                present.push(object);
            }
        }
        Ok(present)
    }

    /// Removes everything that Bedplate put here, calling `each` with what is gone. What runs the operator stops first:
    /// it would put back what goes. Then the guards: nothing that follows can be refused by them. What is half there is
    /// removed as well.
    ///
    /// # Errors
    /// No rights; a guard from a file, which no request can remove.
    pub async fn remove_everything(&self, operator: &[Value], mut each: impl FnMut(&str)) -> Result<(), Error> {
        let (running, rest): (Vec<&Value>, Vec<&Value>) = operator.iter().rev().partition(|object| runs(object));
        for object in running {
            if self.remove(object).await? {
                each(&title(object));
            }
        }
        self.no_pods().await?;
        self.remove_all_reports().await?.iter().for_each(|report| each(report));
        for (group, kind) in OWN_KINDS {
            for object in self.metadata_of(group, kind, is_ours).await? {
                match self.remove(&object).await {
                    Ok(true) => each(&title(&object)),
                    Ok(false) => {}
                    Err(Error::Refused(why)) if is_from_file(&why) => {
                        return Err(Error::GuardedByFile(why));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        for definition in bedplate_guarantees::definitions() {
            let place = self.place(&definition)?;
            let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default();
            let objects = self.metadata_of(names::GROUP, kind, |_| true).await?;
            // The API server takes a moment to forget a policy.
            if !patiently(async || self.remove(&definition).await).await? {
                continue;
            }
            // It goes once its objects are gone; until then it would be in the way of a new installation.
            self.gone(place).await?;
            objects.iter().for_each(|object| each(&title(object)));
            each(&title(&definition));
        }
        for object in rest {
            if self.remove(object).await? {
                // A namespace takes a while.
                self.gone(self.place(object)?).await?;
                each(&title(object));
            }
        }
        if self.forget().await? {
            each("ConfigMap kube-system/bedplate-rollback");
        }
        if self.remove_trail().await? {
            each("ConfigMap kube-system/bedplate-trail");
        }
        Ok(())
    }

    /// Waits until an object is gone, for a while.
    async fn gone(&self, place: Place<'_>) -> Result<(), Error> {
        for _ in 0..MOMENTS {
            if self.get(place).await?.is_none() {
                break;
            }
            tokio::time::sleep(MOMENT).await;
        }
        Ok(())
    }

    /// Waits until the operator's pods have ended.
    async fn no_pods(&self) -> Result<(), Error> {
        let Some(resource) = self.kind("", "Pod") else { return Ok(()) };
        for _ in 0..MOMENTS {
            let mut pods = 0;
            self.list(resource, Some(names::NAMESPACE), true, |pod| pods += usize::from(is_managed(&pod))).await?;
            if pods == 0 {
                return Ok(());
            }
            tokio::time::sleep(MOMENT).await;
        }
        Err(Error::Running(names::NAMESPACE))
    }

    /// Deletes an object. Gives whether it was there.
    pub(crate) async fn remove(&self, object: &Value) -> Result<bool, Error> {
        match self.delete(self.place(object)?, false).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The metadata of the objects of a kind that are wanted; none where it is not served.
    pub(crate) async fn metadata_of(
        &self,
        group: &str,
        kind: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        if let Some(resource) = self.kind(group, kind) {
            let keep = |object| {
                if wanted(&object) {
                    found.push(object);
                }
            };
            match self.list(resource, None, true, keep).await {
                // A definition that is just going.
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
