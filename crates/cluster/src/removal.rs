//! Taking away what Bedplate put into a cluster.

use std::time::Duration;

use bedplate_model::names;
use serde_json::Value;

use crate::bundle::{ADMISSION, OWN_KINDS, is_ours, title};
use crate::{Cluster, Error};

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

impl Cluster {
    /// Removes everything that Bedplate put here, calling `each` with what is gone. Guards go first: nothing that
    /// follows can be refused by them. What is half there is removed as well.
    ///
    /// # Errors
    /// No rights; a guard from a file, which no request can remove.
    pub async fn remove_everything(&self, mut each: impl FnMut(&str)) -> Result<(), Error> {
        for kind in OWN_KINDS {
            for object in self.ours(ADMISSION, kind).await?.iter().filter(|object| is_ours(object)) {
                match self.remove(object).await {
                    Ok(true) => each(&title(object)),
                    Ok(false) => {}
                    Err(Error::Refused(why)) if why.contains(".static.k8s.io") => {
                        return Err(Error::GuardedByFile(why));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        for definition in bedplate_guarantees::definitions() {
            let place = self.place(&definition)?;
            let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default();
            let objects = self.ours(names::GROUP, kind).await?;
            // The API server takes a moment to forget a policy.
            if !patiently(async || self.remove(&definition).await).await? {
                continue;
            }
            // It goes once its objects are gone; until then it would be in the way of a new installation.
            for _ in 0..MOMENTS {
                if self.get(place).await?.is_none() {
                    break;
                }
                tokio::time::sleep(MOMENT).await;
            }
            objects.iter().for_each(|object| each(&title(object)));
            each(&title(&definition));
        }
        if self.forget().await? {
            each("ConfigMap bedplate-rollback");
        }
        Ok(())
    }

    /// Deletes an object. Gives whether it was there.
    pub(crate) async fn remove(&self, object: &Value) -> Result<bool, Error> {
        match self.delete(self.place(object)?, false).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The metadata of every object of a kind; none where it is not served.
    pub(crate) async fn ours(&self, group: &str, kind: &str) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        if let Some(resource) = self.kind(group, kind) {
            match self.list(resource, None, true, |object| found.push(object)).await {
                // A definition that is just going.
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
