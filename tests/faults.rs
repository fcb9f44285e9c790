//! What the night brings: a store that hangs, an API server that goes away, watches that are too old. Nothing is let
//! through that must not be, nothing that was changed meanwhile is missed, and how long it takes is printed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bedplate_devcluster::process::{Id, Part, tail};
use bedplate_operator::deploy;
use bedplate_tests::replica::{self, Operator};
use bedplate_tests::{Harness, job};

/// One cluster, one operator, one incident at a time.
struct World {
    c: &'static Harness,
    operator: Operator,
    api_server: std::sync::Mutex<ApiServer>,
}

/// What the API server is called after it came back.
const AGAIN: &str = "kube-apiserver-again";

/// The API server of the cluster, which can be made to go away and come back.
struct ApiServer {
    id: Id,
    command: Vec<String>,
    folder: PathBuf,
    address: String,
}

impl ApiServer {
    fn of(c: &Harness) -> Self {
        let (_, id) = *c.cluster.parts.iter().find(|(name, _)| name == "kube-apiserver").unwrap();
        let line = std::fs::read(format!("/proc/{}/cmdline", id.pid)).unwrap();
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Self {
            id,
            command: words.map(|word| String::from_utf8(word.to_vec()).unwrap()).collect(),
            folder: c.cluster.folder.clone(),
            address: c.cluster.server.trim_start_matches("https://").to_owned(),
        }
    }

    fn kill(&self) {
        self.id.signal("KILL");
        let started = Instant::now();
        // The last of its threads may hold its port for a moment longer than the first.
        while self.id.runs() || TcpListener::bind(&self.address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts it as it was started before, by the program that it was.
    fn start(&mut self) {
        let (program, arguments) = self.command.split_first().unwrap();
        let part = Part {
            name: AGAIN,
            program: program.into(),
            called: None,
            inside: None,
            arguments: arguments.to_vec(),
            environment: Vec::new(),
        };
        self.id = Id::of(part.start_until_exit(&self.folder).unwrap().id()).unwrap();
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let c = Harness::get(|c| {
            c.bedplate("apply --enforce").accepted();
            c.eventually(|| c.bedplate("prove --quiet").code == 0);
            replica::install(c);
        });
        let operator =
            Operator::start(c, "fault", &replica::account(c), &["--audit-every", "0s", "--certificate-life", "10m"]);
        for webhooks in deploy::webhooks(&deploy::Address::Url(operator.url())) {
            c.apply(&webhooks).accepted();
        }
        let world = World { c, operator, api_server: ApiServer::of(c).into() };
        world.recovers("the start", Instant::now());
        world
    })
}

impl World {
    /// Waits until it is so; where it does not come so, the operator tells what it did.
    #[track_caller]
    fn eventually(&self, so: impl FnMut() -> bool) {
        self.c.eventually_or(so, || {
            eprintln!("{}\n{}", self.operator.get("/readyz"), self.operator.log());
            eprintln!("{}", self.c.k("get --raw /readyz?verbose").text);
            eprintln!("{}", tail(&self.c.cluster.folder.join(format!("{AGAIN}.log")), 25));
        });
    }

    /// Waits until the operator leads and everything is well, and prints how long that took.
    fn recovers(&self, after: &str, since: Instant) {
        self.eventually(|| {
            let ready = self.operator.get("/readyz");
            self.operator.leads()
                && ["profile", "webhook-configuration", "guards"]
                    .iter()
                    .all(|part| ready.contains(&format!("[+] {part}\n")))
        });
        eprintln!("after {after}: all is well {:.1} s later", since.elapsed().as_secs_f64());
    }

    /// Asks, again and again while `incident` happens, for what must not be; gives how often it was refused by a guard.
    fn while_asked_for_too_much(&self, incident: impl FnOnce()) -> usize {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut refused = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = self.c.create(&job("default", "too-big", 64, 1));
                    assert_ne!(answer.code, 0, "it got through: {}", answer.text);
                    refused += usize::from(answer.text.contains("64 accelerators, the ceiling is 8"));
                    std::thread::sleep(Duration::from_millis(50));
                }
                refused
            });
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(incident));
            done.store(true, Ordering::Relaxed);
            let refused = asking.join();
            result.unwrap_or_else(|why| std::panic::resume_unwind(why));
            refused.unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    fn actions(&self, binding: &str) -> String {
        let path = "jsonpath={.spec.validationActions}";
        self.c.k(&format!("get validatingadmissionpolicybinding {binding} -o {path}")).text
    }
}

/// A disk that was full of another's logs made etcd stand still for ten seconds.
#[test]
fn a_store_that_hangs_costs_no_guard_and_no_leader_for_long() {
    let w = world();
    let _one_at_a_time = w.api_server.lock().unwrap();
    let (_, etcd) = *w.c.cluster.parts.iter().find(|(name, _)| name == "etcd").unwrap();
    let refused = w.while_asked_for_too_much(|| {
        etcd.signal("STOP");
        std::thread::sleep(Duration::from_secs(15));
        etcd.signal("CONT");
        w.recovers("a store that hung for 15 s", Instant::now());
    });
    assert!(refused > 0);
}

/// The control plane was upgraded, and for a minute after it the guards were said to be new, and were not there.
#[test]
fn an_api_server_that_comes_back_refuses_from_its_first_answer_on() {
    let w = world();
    let mut api_server = w.api_server.lock().unwrap();
    let refused = w.while_asked_for_too_much(|| {
        api_server.kill();
        w.eventually(|| w.operator.get("/readyz").contains("[-] "));
        api_server.start();
        let started = Instant::now();
        w.eventually(|| w.c.k("get --raw /readyz").code == 0);
        eprintln!("the API server is back after {:.1} s", started.elapsed().as_secs_f64());
        let mut told = String::new();
        w.eventually(|| {
            let answer = w.c.dry_run(&[job("default", "small", 1, 1)]).remove(0);
            if let Err(why) = &answer
                && *why != told
            {
                eprintln!("{:.1} s: {why}", started.elapsed().as_secs_f64());
                // For half a minute it refused whatever a guard looked at, small or not.
                assert!(!why.contains("failed to configure policy"), "{why}");
                told.clone_from(why);
            }
            answer.is_ok()
        });
        eprintln!("a small job is taken after {:.1} s", started.elapsed().as_secs_f64());
        w.recovers("an API server that went away", started);
    });
    assert!(refused > 0);
}

/// Somebody softened a guard while the operator stood still, and the API server forgot what it had told: every watch is
/// too old (410), and what happened meanwhile is in none.
#[test]
fn what_was_changed_while_nobody_watched_is_put_back() {
    let w = world();
    let mut api_server = w.api_server.lock().unwrap();
    let binding = "scale.statefulsets.apps.bedplate.dev";
    let was = w.actions(binding);
    w.operator.signal("STOP");
    let patch = "{\"spec\":{\"validationActions\":[\"Audit\"]}}";
    w.c.kubectl(&["patch", "validatingadmissionpolicybinding", binding, "--type=merge", "-p", patch], "").accepted();
    let softened = w.actions(binding);
    assert_ne!(softened, was);
    api_server.kill();
    api_server.start();
    w.eventually(|| w.c.k("get --raw /readyz").code == 0);
    // What was watched has moved on since.
    w.c.k("label validatingadmissionpolicybinding admission.bedplate.dev moved=on").accepted();
    w.operator.signal("CONT");
    let started = Instant::now();
    w.eventually(|| w.actions(binding) == was);
    eprintln!("a guard that was softened while nobody watched is back after {:.1} s", started.elapsed().as_secs_f64());
    w.recovers("watches that were too old", started);
}
