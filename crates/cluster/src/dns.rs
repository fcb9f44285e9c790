//! The cluster's own CoreDNS: what it is, what it counts, and its Corefile, which is changed once, watched, and put back
//! where that went wrong or is no longer wanted.
//!
//! What was there is kept in `kube-system/bedplate-dns` before anything is changed. A CoreDNS that cannot load a Corefile
//! goes on with the old one until it is restarted, and says so in a counter; one that is no Corefile at all it tells in its
//! log alone (`plugin/reload/reload.go`). So the change holds only where every pod shows the hash of the new one, is ready,
//! and answers as before: a name that each is asked for, and what they count.

mod clients;
mod probe;
mod query;
mod watches;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bedplate_dns::Corefile;
use bedplate_dns::autopath::{Facts, has_it};
use bedplate_dns::metrics::Reading;
use bedplate_guarantees::dns::enforce::{Seen, Way, config_of, metrics_port, serves_names, way};
use bedplate_model::{names, quantity};
use serde_json::{Value, json};

pub use clients::{Logged, MOST_BYTES, Who};
pub use probe::{Ladder, Probe};
use query::Query;

use crate::bundle::title;
use crate::{Cluster, Error, Place, Write};

/// Where CoreDNS is.
pub const NAMESPACE: &str = "kube-system";
/// The ConfigMap that keeps the Corefile as it was.
pub const BACKUP: &str = "bedplate-dns";

/// Which apply it is of: a later one may have changed something else.
const EARLIER: &str = "an earlier apply";
const LAST: &str = "the last apply";

/// Whether it is known that every CoreDNS has loaded the change.
const BEGUN: &str = "begun";
const WATCHED: &str = "watched";

/// How long a change is waited for: the kubelet brings it to a pod in a minute or two, CoreDNS looks every 45 s at most, and
/// where all of that is busy it takes longer: four minutes were seen not to be enough.
const PATIENCE: Duration = Duration::from_secs(360);
/// A pod that shows another hash than before, though not the one that is known for the change, has loaded an earlier change
/// which had not come to it yet, or reckons its hash in another way (what a file imports; a CoreDNS before 1.9). After this
/// long it is the second: the kubelet and CoreDNS bring two changes no further apart.
const OTHERWISE: Duration = Duration::from_secs(150);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(2);
/// How often a pod is asked again: a reload takes its listeners away for a moment.
const RETRIES: u32 = 5;
/// How long answers are compared with those of before.
const COMPARED: Duration = Duration::from_secs(10);
/// By how much more the part of failures may be.
const WORSE: f64 = 0.01;

/// The kinds that tell of a cluster what autopath depends on.
pub(crate) const FACTS: &[(&str, &str)] = &[("", "Pod"), ("", "Service"), ("", "Node"), ("apps", "DaemonSet")];

/// The CoreDNS of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// As it is.
    pub seen: Seen,
    /// Its labels, of the pods.
    selector: BTreeMap<String, String>,
}

/// What became of the Corefile.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// It was changed, and every pod has loaded it: which they were.
    Changed(Vec<String>),
    /// It was put back as it was before Bedplate changed it.
    Restored,
    /// Somebody has changed it since: it stays as it is.
    ChangedSince,
    /// There was nothing to do.
    Nothing,
}

/// A pod of CoreDNS, and what it has counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Its name.
    pub pod: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How often its container was restarted.
    pub restarts: u64,
    /// What it has counted; why not, where it does not tell.
    pub reading: Result<Reading, String>,
}

impl Dns {
    /// What may be done with it.
    #[must_use]
    pub fn way(&self) -> Way {
        way(&self.seen)
    }

    /// The name of its ConfigMap, and the key of its Corefile there.
    #[must_use]
    pub fn config(&self) -> Option<(&str, &str)> {
        config_of(self.seen.deployments.first()?)
    }

    /// Its Corefile.
    #[must_use]
    pub fn corefile(&self) -> Option<&str> {
        self.seen.config.as_ref()?["data"].get(self.config()?.1)?.as_str()
    }
}

impl Cluster {
    /// The CoreDNS of the cluster, and what autopath depends on.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn dns(&self) -> Result<Dns, Error> {
        let mut dns = self.dns_alone().await?;
        if let Some(first) = dns.seen.deployments.first() {
            let limit =
                first.pointer("/spec/template/spec/containers/0/resources/limits/memory").and_then(Value::as_str);
            let limit = limit.and_then(quantity::parse).map(|bytes| bytes as u64);
            let may_watch_pods = self.may_watch_pods(first).await;
            dns.seen.facts = Facts { may_watch_pods, ..self.facts(limit).await? };
        }
        Ok(dns)
    }

    /// The CoreDNS of the cluster, and nothing of the rest.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn dns_alone(&self) -> Result<Dns, Error> {
        let mut dns = Dns::default();
        if let Some(resource) = self.kind("apps", "Deployment") {
            let all = &mut dns.seen.deployments;
            self.list(resource, Some(NAMESPACE), false, |object| all.extend(Some(object).filter(serves_names))).await?;
        }
        let Some(first) = dns.seen.deployments.first() else { return Ok(dns) };
        let labels = first.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        for (label, value) in labels.into_iter().flatten() {
            dns.selector.insert(label.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        if let Some((name, _)) = config_of(first) {
            dns.seen.config = self.get(self.config_map(name)?).await?;
        }
        Ok(dns)
    }

    fn config_map<'a>(&'a self, name: &'a str) -> Result<Place<'a>, Error> {
        let resource = self.kind("", "ConfigMap").ok_or_else(|| Error::NoSuchResource("configmaps".to_owned()))?;
        Ok(Place { resource, namespace: Some(NAMESPACE), name })
    }

    async fn facts(&self, memory_limit: Option<u64>) -> Result<Facts, Error> {
        let mut facts = Facts { memory_limit, ..Facts::default() };
        for (group, kind) in FACTS {
            let Some(resource) = self.kind(group, kind) else { continue };
            self.list(resource, None, *kind != "Pod", |object| {
                let metadata = &object["metadata"];
                match *kind {
                    "Pod" => {
                        let spec = &object["spec"];
                        facts.pods += 1;
                        if spec["hostNetwork"] == true {
                            facts.host_network += 1;
                        } else if spec["dnsConfig"].get("searches").is_some() || spec["dnsPolicy"] == "None" {
                            facts.own_search += 1;
                        }
                    }
                    "Service" => facts.services += 1,
                    "Node" => facts.windows_nodes += u64::from(metadata["labels"]["kubernetes.io/os"] == "windows"),
                    _ => {
                        facts.node_local |=
                            metadata["name"].as_str().is_some_and(|name| name.contains("node-local-dns"));
                    }
                }
            })
            .await?;
        }
        Ok(facts)
    }

    /// The pods of CoreDNS.
    async fn dns_pods(&self, dns: &Dns) -> Result<Vec<Value>, Error> {
        let resource = self.kind("", "Pod").ok_or_else(|| Error::NoSuchResource("pods".to_owned()))?;
        let mut pods = Vec::new();
        self.list(resource, Some(NAMESPACE), false, |pod| {
            let labels = &pod["metadata"]["labels"];
            let own = !dns.selector.is_empty()
                && dns.selector.iter().all(|(label, value)| labels.get(label).is_some_and(|found| found == value));
            pods.extend(own.then_some(pod));
        })
        .await?;
        Ok(pods)
    }

    /// What every pod of CoreDNS has counted, read through the API server.
    ///
    /// # Errors
    /// No rights, no answer of the API server.
    pub async fn dns_counted(&self, dns: &Dns) -> Result<Vec<Counted>, Error> {
        let port = dns.corefile().and_then(metrics_port).unwrap_or(9153);
        let mut pods = self.dns_pods(dns).await?;
        // One that is going counts no more.
        pods.retain(|pod| pod["metadata"].get("deletionTimestamp").is_none());
        let mut counted = Vec::new();
        for pod in pods {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
            let ready =
                conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}:{port}/proxy/metrics");
            let mut reading = Reading::default();
            let read = self.lines(&path, |line| reading.metric(line)).await;
            counted.push(Counted {
                restarts: pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64).unwrap_or(0),
                reading: read.map(|()| reading).map_err(|error| error.to_string()),
                pod: name,
                ready,
            });
        }
        Ok(counted)
    }

    /// Does what [`Dns::way`] says may be done, and watches it; where it goes wrong, everything is put back. `tell` gets
    /// what goes on, as sentences.
    ///
    /// # Errors
    /// No rights; what went wrong, once all is as it was.
    pub async fn put_dns(&self, dns: &Dns, mut tell: impl FnMut(&str)) -> Result<Done, Error> {
        let Way::Edit { before, after, .. } = dns.way() else { return Ok(Done::Nothing) };
        self.replace_corefile(dns, &before, &after, &mut tell).await
    }

    /// [`Cluster::put_dns`] for any new text: it is put back where CoreDNS does not take it.
    ///
    /// # Errors
    /// As there.
    pub async fn replace_corefile(
        &self,
        dns: &Dns,
        before: &str,
        after: &str,
        tell: &mut impl FnMut(&str),
    ) -> Result<Done, Error> {
        let (Some((name, key)), Some(config)) = (dns.config(), &dns.seen.config) else { return Ok(Done::Nothing) };
        let counted = self.dns_counted(dns).await?;
        let blind = counted.iter().find_map(|one| match &one.reading {
            Err(why) => Some(format!("{} does not tell its metrics: {why}", one.pod)),
            Ok(_) if !one.ready => Some(format!("{} is not ready", one.pod)),
            Ok(_) => None,
        });
        if let Some(why) = blind.or_else(|| counted.is_empty().then(|| "no pod of CoreDNS runs".to_owned())) {
            return Err(Error::Dns(format!(
                "{why}: whether a change holds could not be seen, and nothing was changed\nsee `kubectl --namespace {NAMESPACE} get pods`, and run this again"
            )));
        }
        let quiet = self.compared(dns, &counted).await?;
        let mut answered = false;
        if let (Some(query), Some(one)) = (Query::of(before), counted.first()) {
            match query.ask(self, &one.pod).await {
                Ok(code) => answered = code == 0,
                Err(why) => tell(&format!(
                    "{} cannot be asked for a name, and only what it counts is looked at: {why}",
                    one.pod
                )),
            }
        }
        self.keep_corefile(name, key, before, after).await?;
        let version = config["metadata"]["resourceVersion"].clone();
        self.write_corefile(name, key, after, Some(version)).await?;
        tell(&format!("changed ConfigMap {NAMESPACE}/{name}; waiting until every CoreDNS has loaded it"));
        let held = match self.holds(dns, &Wanted::of(after), &counted, &quiet).await {
            Ok(pods) if answered => self.answers(after, &pods).await.map(|()| pods),
            held => held,
        };
        match held {
            Ok(pods) => {
                let seen = json!({ "data": { "state": WATCHED } });
                self.merge(self.config_map(BACKUP)?, "", &seen, false).await?;
                Ok(Done::Changed(pods))
            }
            Err(why) => {
                tell(&format!("{why}; putting it back"));
                self.write_corefile(name, key, before, None).await?;
                self.remove(&backup()).await?;
                Err(Error::Dns(format!(
                    "{why}\nthe Corefile is as it was; `kubectl --namespace {NAMESPACE} logs deployment/{}` tells more",
                    dns.seen.deployments.first().and_then(|one| one["metadata"]["name"].as_str()).unwrap_or("coredns")
                )))
            }
        }
    }

    /// Waits until every pod has loaded a Corefile and answers as before; gives their names, or why not.
    async fn holds(
        &self,
        dns: &Dns,
        wanted: &Wanted,
        before: &[Counted],
        quiet: &Reading,
    ) -> Result<Vec<String>, String> {
        let begun = Instant::now();
        let known = |pod: &str| before.iter().find(|one| one.pod == pod);
        let mut broken: BTreeMap<String, u32> = BTreeMap::new();
        let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.dns_counted(dns).await.map_err(|error| error.to_string())?;
            let mut waiting = Vec::new();
            for one in &now {
                let old = known(&one.pod);
                if old.is_some_and(|old| one.restarts > old.restarts) {
                    return Err(format!("{} was restarted with the new Corefile", one.pod));
                }
                let Ok(reading) = one.reading.as_ref() else {
                    // A reload takes its listeners away for a moment.
                    let times = broken.entry(one.pod.clone()).or_default();
                    *times += 1;
                    if *times > 15 {
                        return Err(format!("{} has not told its metrics since", one.pod));
                    }
                    waiting.push(one.pod.clone());
                    continue;
                };
                broken.remove(&one.pod);
                match old.and_then(|old| old.reading.as_ref().ok()) {
                    Some(old) => {
                        let watched = watched.entry(one.pod.clone()).or_insert_with(|| Watched::new(old));
                        match wanted.load(reading, old, watched, Instant::now()) {
                            Load::Failed => return Err(format!("{} could not load the new Corefile", one.pod)),
                            Load::Loaded if one.ready => {}
                            Load::Loaded | Load::Waiting => waiting.push(one.pod.clone()),
                        }
                    }
                    // One that came meanwhile has read the new one.
                    _ if !one.ready => waiting.push(one.pod.clone()),
                    _ => {}
                }
            }
            if waiting.is_empty() && !now.is_empty() {
                let after = self.compared(dns, &now).await.map_err(|error| error.to_string())?;
                return match worse(quiet, &after) {
                    Some(why) => Err(why),
                    None => Ok(now.into_iter().map(|one| one.pod).collect()),
                };
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "{} not loaded the new Corefile in {} s: it may be none to this version of CoreDNS",
                    match waiting.as_slice() {
                        [] => "no pod of CoreDNS is there, and has".to_owned(),
                        [one] => format!("{one} has"),
                        several => format!("{} have", several.join(", ")),
                    },
                    PATIENCE.as_secs()
                ));
            }
        }
    }

    /// Whether every pod answers, as one did before; why not.
    async fn answers(&self, corefile: &str, pods: &[String]) -> Result<(), String> {
        let query = Query::of(corefile).ok_or("no server block of it knows the cluster's names any more")?;
        for pod in pods {
            let mut answer = query.ask(self, pod).await;
            for _ in 0..RETRIES {
                if answer == Ok(0) {
                    break;
                }
                tokio::time::sleep(LOOK).await;
                answer = query.ask(self, pod).await;
            }
            match answer {
                Ok(0) => {}
                Ok(code) => return Err(format!("{pod} answers the cluster's own name with code {code}")),
                Err(why) => return Err(format!("{pod} does not answer: {why}")),
            }
        }
        Ok(())
    }

    /// What all pods count for a while.
    async fn compared(&self, dns: &Dns, from: &[Counted]) -> Result<Reading, Error> {
        tokio::time::sleep(COMPARED).await;
        let mut sum = Reading::default();
        for one in self.dns_counted(dns).await? {
            let old = from.iter().find(|old| old.pod == one.pod).and_then(|old| old.reading.as_ref().ok());
            if let (Ok(now), Some(old)) = (&one.reading, old) {
                sum.add(&now.since(old));
            }
        }
        Ok(sum)
    }

    async fn write_corefile(&self, name: &str, key: &str, text: &str, version: Option<Value>) -> Result<(), Error> {
        let mut patch = json!({ "data": { key: text } });
        if let Some(version) = version {
            // Who has written meanwhile is not overwritten.
            patch["metadata"] = json!({ "resourceVersion": version });
        }
        self.merge(self.config_map(name)?, "", &patch, false).await.map(drop)
    }

    async fn keep_corefile(&self, name: &str, key: &str, before: &str, after: &str) -> Result<(), Error> {
        let mut kept = backup();
        kept["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": names::FIELD_MANAGER });
        kept["data"] =
            json!({ "name": name, "key": key, "before": before, "after": after, "state": BEGUN, "of": LAST });
        self.apply(&kept, Write { dry_run: false, force: true }).await.map(drop)
    }

    /// Whether a run that changed the Corefile was ended before it knew what became of that.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn corefile_was_left(&self) -> Result<bool, Error> {
        Ok(self.get(self.config_map(BACKUP)?).await?.is_some_and(|kept| kept["data"]["state"] == BEGUN))
    }

    /// Says that what is kept of the Corefile is of an apply before the last one: a rollback leaves it.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn corefile_is_of_an_earlier_apply(&self) -> Result<(), Error> {
        let place = self.config_map(BACKUP)?;
        match self.get(place).await? {
            Some(kept) if kept["data"]["of"] != EARLIER => {
                self.merge(place, "", &json!({ "data": { "of": EARLIER } }), false).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Puts the Corefile back as it was before Bedplate changed it: where that was the last apply, or `any` one.
    ///
    /// # Errors
    /// No rights, no answer.
    pub async fn restore_corefile(&self, any: bool) -> Result<Done, Error> {
        let Some(kept) = self.get(self.config_map(BACKUP)?).await? else { return Ok(Done::Nothing) };
        if !any && kept["data"]["of"] == EARLIER {
            return Ok(Done::Nothing);
        }
        let text = |key: &str| kept["data"][key].as_str().unwrap_or_default().to_owned();
        let (name, key) = (text("name"), text("key"));
        let live = self.get(self.config_map(&name)?).await?;
        let now = live.as_ref().and_then(|live| live["data"].get(&key)?.as_str());
        let done = match now {
            Some(now) if now == text("after") => {
                let version = live.as_ref().map(|live| live["metadata"]["resourceVersion"].clone());
                self.write_corefile(&name, &key, &text("before"), version).await?;
                Done::Restored
            }
            Some(now) if now == text("before") => Done::Restored,
            // Theirs, and worth more than ours.
            _ => Done::ChangedSince,
        };
        self.remove(&backup()).await?;
        Ok(done)
    }
}

fn backup() -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": BACKUP, "namespace": NAMESPACE } })
}

/// The ConfigMap that keeps the Corefile, as it is told.
#[must_use]
pub fn backup_title() -> String {
    title(&backup())
}

/// A Corefile that is to be loaded.
#[derive(Clone, Debug)]
struct Wanted {
    /// The hash that CoreDNS shows then, as far as it is known.
    digest: Option<String>,
    has_autopath: bool,
}

impl Wanted {
    fn of(corefile: &str) -> Self {
        let digest = Corefile::parse(corefile).ok().and_then(|file| file.digest());
        Self { digest, has_autopath: has_it(corefile) }
    }

    /// What a pod has made of it. The hash that a pod shows is of what it has tried last, loaded or not.
    fn load(&self, now: &Reading, old: &Reading, watched: &mut Watched, at: Instant) -> Load {
        if now.failed_reloads > watched.failed {
            (watched.failed, watched.broken) = (now.failed_reloads, now.version.clone());
        }
        let end = if watched.broken.is_some() && watched.broken == now.version { Load::Failed } else { Load::Loaded };
        let differs = now.version != old.version;
        if self.digest.is_some() && now.version == self.digest {
            // Shown all the time: it may have failed before anybody looked, but then it does not do what it would do.
            let holds = differs || now.failed_reloads == 0.0 || now.has_autopath == self.has_autopath;
            return if holds { end } else { Load::Waiting };
        }
        let since = differs.then(|| *watched.changed.get_or_insert(at));
        match since {
            Some(since) if self.digest.is_none() || at.duration_since(since) > OTHERWISE => end,
            _ => Load::Waiting,
        }
    }
}

/// What a pod has made of a Corefile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Waiting,
    Loaded,
    Failed,
}

/// What was seen of a pod while it was waited for.
#[derive(Clone, Debug)]
struct Watched {
    /// Since when it shows another hash than before.
    changed: Option<Instant>,
    /// How many it could not load.
    failed: f64,
    /// The hash of the last of them: of this change, or of one before it that came late.
    broken: Option<String>,
}

impl Watched {
    fn new(old: &Reading) -> Self {
        Self { changed: None, failed: old.failed_reloads, broken: None }
    }
}

/// Why answers are worse than those of before; nothing where they are not. Few answers tell nothing.
fn worse(before: &Reading, after: &Reading) -> Option<String> {
    if after.panics > before.panics {
        return Some("CoreDNS panics with the new Corefile".to_owned());
    }
    let share = |reading: &Reading| reading.share("SERVFAIL").unwrap_or_default();
    (share(after) > share(before) + WORSE && after.answers("SERVFAIL") >= 5.0).then(|| {
        format!(
            "answers got worse: {:.1} % fail (SERVFAIL), {:.1} % did before",
            share(after) * 100.0,
            share(before) * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(good: f64, failed: f64) -> Reading {
        let codes = [("NOERROR".to_owned(), good), ("SERVFAIL".to_owned(), failed)];
        Reading { responses: codes.into_iter().collect(), ..Reading::default() }
    }

    #[test]
    fn answers_that_were_bad_before_are_no_reason_to_go_back() {
        assert_eq!(worse(&reading(90.0, 10.0), &reading(90.0, 10.0)), None);
        assert_eq!(worse(&reading(0.0, 0.0), &reading(0.0, 2.0)), None, "two answers tell nothing");
        assert!(worse(&reading(100.0, 0.0), &reading(90.0, 10.0)).is_some_and(|why| why.contains("10.0 %")));
        assert!(worse(&reading(1.0, 0.0), &Reading { panics: 1.0, ..reading(1.0, 0.0) }).is_some());
    }

    /// A rollback, and an apply right behind it: the pods never saw the text between, and the change was put back.
    #[test]
    fn a_change_that_follows_on_another_is_told_from_it() {
        let shows = |version: &str, failed: f64, has_autopath: bool| Reading {
            version: (!version.is_empty()).then(|| version.to_owned()),
            failed_reloads: failed,
            has_autopath,
            ..Reading::default()
        };
        let begun = Instant::now();
        let steps = |digest: Option<&str>, old: Reading, steps: &[(u64, Reading, Load)]| {
            let wanted = Wanted { digest: digest.map(str::to_owned), has_autopath: true };
            let mut watched = Watched::new(&old);
            for (seconds, now, expected) in steps {
                let at = begun + Duration::from_secs(*seconds);
                assert_eq!(wanted.load(now, &old, &mut watched, at), *expected, "{now:?} after {old:?}");
            }
        };
        let new = Some("new");
        // It has had the new one all the time.
        steps(new, shows("new", 0.0, true), &[(0, shows("new", 0.0, true), Load::Loaded)]);
        // So it has, and another failed, earlier; what it could not load it has not loaded.
        steps(new, shows("new", 1.0, true), &[(0, shows("new", 1.0, true), Load::Loaded)]);
        steps(new, shows("new", 1.0, false), &[(0, shows("new", 1.0, false), Load::Waiting)]);
        // First comes what was changed before, whole or broken.
        for failed in [0.0, 1.0] {
            steps(
                new,
                shows("old", 0.0, false),
                &[
                    (0, shows("old", 0.0, false), Load::Waiting),
                    (20, shows("between", failed, false), Load::Waiting),
                    (90, shows("new", failed, true), Load::Loaded),
                    (99, shows("new", failed + 1.0, true), Load::Failed),
                ],
            );
        }
        // A CoreDNS that reckons in another way is waited for a little longer.
        let other = |failed| [(0, shows("other", failed, true), Load::Waiting)];
        steps(
            new,
            shows("old", 0.0, false),
            &[&other(0.0)[..], &[(151, shows("other", 0.0, true), Load::Loaded)]].concat(),
        );
        steps(
            new,
            shows("old", 0.0, false),
            &[&other(1.0)[..], &[(151, shows("other", 1.0, true), Load::Failed)]].concat(),
        );
        steps(None, shows("", 0.0, false), &[(0, shows("other", 0.0, true), Load::Loaded)]);
        steps(None, shows("", 0.0, false), &[(0, shows("other", 1.0, true), Load::Failed)]);
    }
}
