//! The drill of fairness on a live cluster: a bounded flood by users, beside a probe by a controller.
//!
//! Both are sent as others (`Impersonate-User`), so that they ride where those ride. What they would make are dry runs:
//! nothing is there afterwards. A client that is refused waits as client-go does before it comes again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bedplate_apf::matching::{Request, Target, implied_groups};
use bedplate_guarantees::fairness::enforce;
use bedplate_guarantees::fairness::prove::{Ready, Tally};
use bedplate_model::Settings;
use futures::StreamExt as _;
use http::{StatusCode, header};
use serde_json::json;

use crate::lanes::Seen;
use crate::{Cluster, Error};

/// Namespaces of users that a flood comes from.
const FLOODERS: usize = 4;
/// Between two probes.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest wait of a client that was refused.
const LONGEST: Duration = Duration::from_secs(1);
/// How long a request of the drill is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody as whom requests are sent, and where.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The user.
    pub user: String,
    /// The namespace that its requests are for.
    pub namespace: String,
}

/// A drill that can be done.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The controller as whom the probe is sent.
    pub controller: Sender,
    /// Whether it may make what the probe asks for as a dry run, besides looking for what is not there.
    pub writes: bool,
    /// The users as whom the flood is sent.
    pub users: Vec<Sender>,
    /// Users whose requests are refused for want of rights: such a flood is lighter than a real one.
    pub powerless: Vec<String>,
}

/// What goes on, told by those who send to those who look.
#[derive(Debug, Default)]
pub struct Flow {
    /// Nobody sends any more.
    pub stop: AtomicBool,
    /// Requests of the flood that were begun.
    begun: AtomicU32,
    /// What the flood has seen.
    pub flood: Mutex<Tally>,
}

impl Flow {
    /// What the flood has seen until now.
    #[must_use]
    pub fn seen(&self) -> Tally {
        self.flood.lock().map_or_else(|broken| broken.into_inner().clone(), |tally| tally.clone())
    }

    fn is_over(&self, until: Instant) -> bool {
        self.stop.load(Ordering::Relaxed) || Instant::now() >= until
    }
}

enum Ask {
    /// Looks for what is not there.
    Get,
    /// Makes one, as a dry run.
    Create,
    /// Lists some.
    List,
}

impl Cluster {
    /// Looks whether a drill can be done, and by whom: there is a controller in the high lane and somebody in the low one,
    /// and the server really puts them there. Where no user's namespace is found, a person floods, in `namespace`.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub async fn drill(&self, settings: &Settings, namespace: &str) -> Result<Drill, Error> {
        let refuse = |why: String| Err(Error::Object(format!("the drill of fairness was not begun: {why}")));
        if let Err(why) = self.is_ready().await {
            return refuse(format!("the API server is not ready: {why}"));
        }
        if self.lanes_in_place().await? == 0 {
            return refuse(
                "there are no lanes. `bedplate apply` makes them where the profile says `modes: {fairness: enforce}`; \
                 `bedplate plan` shows them before"
                    .to_owned(),
            );
        }
        let flow_control = self.flow_control().await?;
        let detected = self.lanes(settings).await?.detected;
        let account = |namespace: &str, name: &str| Sender {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            namespace: namespace.to_owned(),
        };
        let Some(controller) = detected.controllers.first().map(|one| account(&one.namespace, &one.account)) else {
            return refuse("no controller of a machine-learning platform was found".to_owned());
        };
        let mut users: Vec<Sender> =
            detected.users.iter().take(FLOODERS).map(|name| account(name, "default-editor")).collect();
        if users.is_empty() {
            users.push(Sender { user: "bedplate-proof".to_owned(), namespace: namespace.to_owned() });
        }
        let pods = self.kind("", "Pod");
        for (sender, level) in
            std::iter::once((&controller, enforce::CONTROLLERS)).chain(users.iter().map(|user| (user, enforce::USERS)))
        {
            let request = Request {
                user: sender.user.clone(),
                groups: implied_groups(&sender.user),
                verb: "get".to_owned(),
                target: Target::Resource(String::new(), "pods".to_owned(), sender.namespace.clone()),
            };
            match self.seen_lane(&flow_control, &request, pods, true).await? {
                Seen::Lane(_, seen) if seen == level => {}
                Seen::Lane(schema, seen) => {
                    return refuse(format!(
                        "{} rides in {seen} (by {schema}), not in {level}: `bedplate plan` tells what is in the way",
                        sender.user
                    ));
                }
                Seen::Unknown(why) => {
                    return refuse(format!("in which lane {} rides is not known: {why}", sender.user));
                }
            }
        }
        let may = async |sender: &Sender| {
            let answer = self.drilled(sender, &Ask::Create).await;
            answer.is_ok_and(|(status, _)| status.is_success())
        };
        let writes = may(&controller).await;
        let mut powerless = Vec::new();
        for user in &users {
            if !may(user).await {
                powerless.push(user.user.clone());
            }
        }
        Ok(Drill { controller, writes, users, powerless })
    }

    /// How long the server takes to say that it is ready, in milliseconds.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn is_ready(&self) -> Ready {
        let started = Instant::now();
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
        match tokio::time::timeout(PATIENCE, self.send(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(started.elapsed().as_secs_f64() * 1e3),
            Ok(Ok(answer)) => Err(format!("HTTP {}", answer.status().as_u16())),
            Ok(Err(failure)) => Err(Error::of_connection(&self.server, failure).to_string()),
            Err(_) => Err(format!("no answer for {} s", PATIENCE.as_secs())),
        }
    }

    /// The controller's probe: one request after the other until then, or until nobody sends any more. `each` gets what it
    /// has seen so far.
    pub async fn probe(&self, drill: &Drill, flow: &Flow, until: Instant, each: impl Fn(&Tally)) -> Tally {
        let mut tally = Tally::default();
        let mut turn = 0_u32;
        while !flow.is_over(until) {
            turn += 1;
            let ask = if drill.writes && turn.is_multiple_of(2) { Ask::Create } else { Ask::Get };
            self.one(&drill.controller, &ask, &mut tally).await;
            each(&tally);
            tokio::time::sleep(PAUSE).await;
        }
        tally
    }

    /// The users' flood: so many requests by so many clients at most, until then, or until somebody says to stop.
    pub async fn flood(&self, drill: &Drill, flow: &Flow, requests: u32, clients: u32, until: Instant) {
        let client = async |number: u32| {
            let senders = drill.users.len().max(1);
            let Some(sender) = drill.users.get(number as usize % senders) else { return };
            while !flow.is_over(until) {
                let turn = flow.begun.fetch_add(1, Ordering::Relaxed);
                if turn >= requests {
                    break;
                }
                let ask = if turn % 10 == 9 { Ask::List } else { Ask::Create };
                let mut one = Tally::default();
                let pause = self.one(sender, &ask, &mut one).await;
                if let Ok(mut all) = flow.flood.lock() {
                    all.latency.append(&mut one.latency);
                    all.refused += one.refused;
                    all.failed += one.failed;
                    if !one.words.is_empty() {
                        all.words = one.words;
                    }
                }
                tokio::time::sleep(pause).await;
            }
        };
        let clients: futures::stream::FuturesUnordered<_> = (0..clients).map(client).collect();
        clients.collect::<Vec<()>>().await;
    }

    /// Sends one request, counts what comes of it, and gives how long its sender should wait.
    async fn one(&self, sender: &Sender, ask: &Ask, tally: &mut Tally) -> Duration {
        let started = Instant::now();
        let micros = || u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        match self.drilled(sender, ask).await {
            Ok((StatusCode::TOO_MANY_REQUESTS, pause)) => {
                tally.refused += 1;
                return pause.min(LONGEST);
            }
            Ok((status, _)) if status.is_server_error() => {
                tally.failed += 1;
                tally.words = format!("HTTP {}", status.as_u16());
            }
            // One that is refused for want of rights was served.
            Ok(_) => tally.latency.push(micros()),
            Err(why) => {
                tally.failed += 1;
                tally.words = why;
            }
        }
        Duration::ZERO
    }

    /// The status of a request of the drill, and how long its sender is asked to wait.
    async fn drilled(&self, sender: &Sender, ask: &Ask) -> Result<(StatusCode, Duration), String> {
        let namespace = &sender.namespace;
        let all = format!("/api/v1/namespaces/{namespace}/configmaps");
        let request = match ask {
            Ask::Get => http::Request::get(format!("{all}/bedplate-no-such-object")),
            Ask::List => http::Request::get(format!("{all}?limit=500")),
            Ask::Create => {
                http::Request::post(format!("{all}?dryRun=All")).header(header::CONTENT_TYPE, "application/json")
            }
        };
        let body = match ask {
            Ask::Create => json!({ "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "generateName": "bedplate-proof-", "namespace": namespace } })
            .to_string()
            .into_bytes(),
            _ => Vec::new(),
        };
        let mut request = request.header("Impersonate-User", &sender.user);
        for group in implied_groups(&sender.user) {
            request = request.header("Impersonate-Group", group);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let sent = async {
            let answer = self.send(request).await?;
            let status = answer.status();
            let pause = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let mut body = answer.into_body();
            // To its end, or the connection is lost with it.
            while self.more(&mut body).await?.is_some() {}
            Ok((status, Duration::from_secs(pause.unwrap_or(0))))
        };
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(sent) => sent.map_err(|failure| Error::of_connection(&self.server, failure).to_string()),
            Err(_) => Err(format!("no answer for {} s", PATIENCE.as_secs())),
        }
    }
}
