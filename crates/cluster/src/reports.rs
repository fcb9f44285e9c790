//! Reports of policy tools, in step with what an audit found.

use bedplate_report::policy::{FORMS, Form, Policy};
use serde_json::Value;

use crate::bundle::{is_managed, title};
use crate::{Cluster, Error, Write, digest};

/// Annotation that tells what a report says, so that its metadata is enough to see that it says something new.
const DIGEST: &str = "bedplate.dev/digest";

/// The kinds of reports: of each form the one of a namespace, and that of what has none.
pub const KINDS: &[(&str, &str)] = &{
    let [a, b] = FORMS;
    [(a.group, a.namespaced), (a.group, a.cluster), (b.group, b.namespaced), (b.group, b.cluster)]
};

impl Cluster {
    /// Writes the reports that say something new, in the first form that is served, and takes away those of which nothing
    /// is left. Gives how many that were; nothing where no form is served.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn report(&self, policy: &Policy) -> Result<Option<usize>, Error> {
        let mut served = FORMS.iter().filter_map(|form| Some((form, self.kind(form.group, form.namespaced)?)));
        let Some((form, resource)) = served.next() else { return Ok(None) };
        let mut wanted = policy.objects(form, &resource.version);
        for report in wanted.values_mut() {
            let digest = digest(&report.to_string());
            report["metadata"]["annotations"][DIGEST] = digest.into();
        }
        let mut changed = 0;
        for there in self.reports(form).await? {
            let namespace = there["metadata"]["namespace"].as_str().unwrap_or_default();
            match wanted.get(namespace) {
                Some(report) if said(report) == said(&there) => {
                    wanted.remove(namespace);
                }
                Some(_) => {}
                None => changed += usize::from(self.remove(&there).await?),
            }
        }
        for report in wanted.values() {
            match self.apply(report, Write { dry_run: false, force: true }).await {
                Ok(_) => changed += 1,
                // Its namespace is just going.
                Err(Error::NotFound(_) | Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for (form, _) in served {
            changed += self.remove_reports(form).await?.len();
        }
        Ok(Some(changed))
    }

    /// Takes all reports away. Gives what they were.
    pub(crate) async fn remove_all_reports(&self) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for form in &FORMS {
            removed.extend(self.remove_reports(form).await?);
        }
        Ok(removed)
    }

    async fn remove_reports(&self, form: &Form) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for there in self.reports(form).await? {
            if self.remove(&there).await? {
                removed.push(title(&there));
            }
        }
        Ok(removed)
    }

    /// The metadata of our reports.
    async fn reports(&self, form: &Form) -> Result<Vec<Value>, Error> {
        let mut ours = Vec::new();
        for kind in [form.namespaced, form.cluster] {
            ours.extend(self.metadata_of(form.group, kind, is_managed).await?);
        }
        Ok(ours)
    }
}

fn said(report: &Value) -> Option<&str> {
    report["metadata"]["annotations"][DIGEST].as_str()
}
