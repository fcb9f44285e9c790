//! The drill of dns: a pod looks a name up, as programs do, and CoreDNS is asked before and after what it has counted.

use std::time::{Duration, Instant};

use bedplate_dns::autopath::has_it;
use bedplate_dns::lookup::{BOTH, autopath};
use bedplate_dns::metrics::Reading;
use bedplate_dns::{Answer, Client, Family, Lookup, ResolvConf, lookup};
use serde_json::{Value, json};

use super::{Counted, Dns};
use crate::drill::{labels, message_of, waiting_for};
use crate::{Cluster, Error, Place};

/// How long the cluster's own queries are counted, and how long after the pod they may still come.
const QUIET: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(1);
/// How long the pod may take, with the pull of its image.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits a moment: to CoreDNS a pod has no address before the kubelet has told it to the API server, and until then autopath
/// does nothing for it (seen: its first half second). Then looks the name up so often, and says how and with which resolv.conf: the first of what images have. Of these `ping`
/// sends a packet to what it finds, where it may.
const SCRIPT: &str = r#"name=$1 count=$2 found=yes
if command -v python3 >/dev/null 2>&1; then
  how=python3
  look() { python3 -c 'import socket, sys
for _ in range(int(sys.argv[2])): socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)' "$name" "$count" || found=no; }
elif command -v getent >/dev/null 2>&1; then
  how=getent
  look() { i=0; while [ $i -lt "$count" ]; do getent ahosts "$name" || found=no; i=$((i + 1)); done; }
else
  how=ping
  look() { i=0; while [ $i -lt "$count" ]; do ping -c 1 -W 1 "$name" 2>&1 | grep -q 'bad address' && found=no; i=$((i + 1)); done; }
fi
sleep 3
look >/dev/null 2>&1
libc=glibc
for file in /lib/ld-musl-*; do [ -e "$file" ] && libc=musl; done
{ echo "$libc $how $found"; cat /etc/resolv.conf; } >/dev/termination-log
"#;

/// What is looked up, and by what.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// The namespace of the pod.
    pub namespace: &'a str,
    /// Its image: it has a shell, and one of python3, getent and ping.
    pub image: &'a str,
    /// The name, as a program has it.
    pub name: &'a str,
    /// How often it is looked up.
    pub lookups: u32,
}

/// The ladder seen beside the ladder predicted.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// Who looked up: `glibc`.
    pub client: &'static Client,
    /// By which program.
    pub how: String,
    /// The pod's resolv.conf.
    pub conf: ResolvConf,
    /// One lookup as it is predicted for this CoreDNS.
    pub predicted: Lookup,
    /// What CoreDNS counted for all lookups together, with what others asked meanwhile.
    pub seen: Reading,
    /// What others ask in that time, by what they asked before.
    pub others: f64,
    /// Whether autopath is in the Corefile.
    pub autopath: bool,
}

impl Ladder {
    /// Queries of one lookup, as counted.
    #[must_use]
    pub fn queries(&self, lookups: u32) -> f64 {
        (self.seen.queries() - self.others).max(0.0) / f64::from(lookups)
    }

    /// Queries of a type, and answers of a code, as predicted for one lookup.
    #[must_use]
    pub fn predicted(&self, family: Family) -> u32 {
        let of_family = |step: &bedplate_dns::lookup::Step| {
            let each = step.queries / u32::try_from(step.answers.len().max(1)).unwrap_or(1);
            each * u32::from(step.answers.iter().any(|(asked, _)| *asked == family))
        };
        self.predicted.steps.iter().map(of_family).sum()
    }

    /// Answers that say that there is no such name, as predicted for one lookup.
    #[must_use]
    pub fn missing(&self) -> usize {
        let answers = self.predicted.steps.iter().flat_map(|step| &step.answers);
        answers.filter(|(_, answer)| *answer == Answer::NxDomain).count()
    }
}

impl Cluster {
    /// Looks a name up in a pod of its own, and gives what that costs.
    ///
    /// # Errors
    /// No rights; a cluster where CoreDNS cannot be counted, or where others ask so much that a probe does not stand out; a
    /// pod that does not come to its end. The pod is gone whatever happens.
    pub async fn prove_dns(&self, dns: &Dns, probe: &Probe<'_>) -> Result<Ladder, Error> {
        let cannot = |why: String| Error::Dns(format!("what a lookup costs cannot be counted here: {why}"));
        if dns.seen.facts.node_local {
            return Err(cannot(
                "a NodeLocal DNSCache answers pods, and what reaches CoreDNS is not what they ask".to_owned(),
            ));
        }
        if dns.seen.deployments.len() != 1 {
            return Err(cannot(match dns.seen.deployments.len() {
                0 => "no CoreDNS Deployment is in kube-system".to_owned(),
                several => format!("{several} Deployments serve the cluster's names"),
            }));
        }
        let sum = |counted: Vec<Counted>| -> Result<(Reading, usize), Error> {
            let mut sum = Reading::default();
            let pods = counted.len();
            for one in counted {
                sum.add(&one.reading.map_err(|why| cannot(format!("{} does not tell its metrics: {why}", one.pod)))?);
            }
            if pods == 0 { Err(cannot("no pod of CoreDNS runs".to_owned())) } else { Ok((sum, pods)) }
        };
        let (first, _) = sum(self.dns_counted(dns).await?)?;
        tokio::time::sleep(QUIET).await;
        let (before, pods) = sum(self.dns_counted(dns).await?)?;
        let begun = Instant::now();
        let said = self.looked_up(probe).await?;
        tokio::time::sleep(AFTER).await;
        let took = begun.elapsed();
        let (after, pods_after) = sum(self.dns_counted(dns).await?)?;
        if pods != pods_after {
            return Err(cannot("a pod of CoreDNS came or went meanwhile; try again".to_owned()));
        }
        let (head, conf) = said.split_once('\n').unwrap_or((&said, ""));
        let mut words = head.split(' ');
        let client = words
            .next()
            .and_then(Client::named)
            .ok_or_else(|| Error::Dns(format!("the pod of {} said nothing of what it did: {said:?}", probe.image)))?;
        let how = words.next().unwrap_or_default().to_owned();
        let found = words.next() == Some("yes");
        let conf = ResolvConf::parse(conf);
        let absolute = probe.name.trim_end_matches('.');
        let world = |name: &str, _: Family| if found && name == absolute { Answer::Found } else { Answer::NxDomain };
        let with = dns.corefile().is_some_and(has_it);
        let predicted = if with {
            lookup(client, &conf, probe.name, BOTH, &autopath(&conf, &world))
        } else {
            lookup(client, &conf, probe.name, BOTH, &world)
        };
        let others = before.since(&first).queries() * took.as_secs_f64() / QUIET.as_secs_f64();
        let ladder = Ladder { client, how, conf, predicted, seen: after.since(&before), others, autopath: with };
        let expected = f64::from(ladder.predicted.queries() * probe.lookups);
        if others > expected / 4.0 {
            return Err(cannot(format!(
                "others ask CoreDNS {others:.0} times while the pod asks {expected:.0} times; make it ask more: --lookups"
            )));
        }
        Ok(ladder)
    }

    /// Runs the pod to its end, and gives what it said.
    async fn looked_up(&self, probe: &Probe<'_>) -> Result<String, Error> {
        let made = self.create(&pod(probe), false).await?;
        let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let resource = self.kind("", "Pod").ok_or_else(|| Error::NoSuchResource("pods".to_owned()))?;
        let place = Place { resource, namespace: Some(probe.namespace), name: &name };
        self.then_delete(place, self.ended(place, probe)).await
    }

    async fn ended(&self, place: Place<'_>, probe: &Probe<'_>) -> Result<String, Error> {
        let begun = Instant::now();
        loop {
            let pod = self.get(place).await?.unwrap_or_default();
            let message = message_of(&pod);
            let why = |default: &str| {
                let told = waiting_for(&pod).unwrap_or_else(|| default.to_owned());
                Error::Dns(format!(
                    "the pod that looks names up did not come to its end: {told}\nits image is {}; another one: --image",
                    probe.image
                ))
            };
            match pod["status"]["phase"].as_str() {
                Some("Succeeded") => return Ok(message.to_owned()),
                Some("Failed") => return Err(why(if message.is_empty() { "it failed" } else { message })),
                _ if begun.elapsed() > PATIENCE => return Err(why("it was never started")),
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

/// As little as can look names up: no rights, no root, no token, an end of its own.
fn pod(probe: &Probe<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "bedplate-dns-",
            "namespace": probe.namespace,
            "labels": labels(),
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": PATIENCE.as_secs(),
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65534, "runAsGroup": 65534,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "lookup",
                "image": probe.image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/sh", "-c", SCRIPT, "sh", probe.name, probe.lookups.to_string()],
                "resources": {
                    "requests": { "cpu": "50m", "memory": "32Mi" }, "limits": { "cpu": "500m", "memory": "128Mi" },
                },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}
