//! The model of lookups beside the real resolvers: glibc, musl, Go, c-ares and Python ask a real CoreDNS, with and without
//! its `autopath`, which writes down every query.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use bedplate_devcluster::{debian, node, run, tools};
use bedplate_dns::lookup::{BOTH, autopath};
use bedplate_dns::{Answer, CLIENTS, Client, Family, ResolvConf, lookup};

/// Zones, and what the server says of the names in them. The longest that fits holds; all else is NXDOMAIN.
const WORLD: &[(&str, Answer, Answer)] = &[
    ("s3.amazonaws.com", Answer::Found, Answer::Found),
    ("four.example.com", Answer::Found, Answer::NoData),
    ("six.example.com", Answer::NoData, Answer::Found),
    ("empty.example.com", Answer::NoData, Answer::NoData),
    ("minio.ml.svc.cluster.local", Answer::Found, Answer::NoData),
    ("minio.ml", Answer::Found, Answer::Found),
    // A namespace answers for its name.
    ("mlflow.svc.cluster.local", Answer::NoData, Answer::NoData),
    ("mlflow", Answer::Found, Answer::Found),
    ("fails.test", Answer::Failure, Answer::Failure),
    ("half.test", Answer::Found, Answer::Failure),
    ("silent.test", Answer::Silence, Answer::Silence),
];

const NAMES: &[&str] = &[
    "s3.amazonaws.com",
    "s3.amazonaws.com.",
    "four.example.com",
    "six.example.com",
    "empty.example.com",
    "nowhere.example.com",
    "minio.ml",
    "minio.ml.svc",
    "minio.ml.svc.cluster.local",
    "minio.ml.svc.cluster.local.",
    "mlflow",
    "nobody",
    "a.b.c.d.e.example.com",
];

/// What a pod may have.
const CONFS: &[&str] = &[
    "search team.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5",
    "search team.svc.cluster.local svc.cluster.local cluster.local eu-west-1.compute.internal\noptions ndots:5",
    "search team.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:2",
    "search team.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:1 single-request",
    "search team.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:0",
    "options ndots:5",
    "search team.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\nnameserver 127.0.0.2",
];

/// What takes time, under configurations that have little.
const SLOW: &[(&str, &str)] = &[
    (HASTY, "x.fails.test"),
    (HASTY, "x.fails.test."),
    ("search fails.test cluster.local\noptions ndots:5 timeout:1 attempts:2", "four.example.com"),
];
const SILENT: &[(&str, &str)] = &[
    (HASTY, "x.silent.test."),
    ("search silent.test cluster.local\noptions ndots:5 timeout:1 attempts:2", "four.example.com"),
];
const HASTY: &str =
    "search team.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:1 attempts:2";

fn world(name: &str, family: Family) -> Answer {
    let within = |zone: &str| name == zone || name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
    let zone = WORLD.iter().filter(|(zone, ..)| within(zone)).max_by_key(|(zone, ..)| zone.len());
    zone.map_or(Answer::NxDomain, |(_, a, aaaa)| if family == Family::A { *a } else { *aaaa })
}

/// The same as a Corefile.
fn corefile() -> String {
    let mut text = String::new();
    let server = |zone: &str, rest: &str| {
        format!("{zone} {{\n  bind 127.0.0.1 127.0.0.2\n  log . \"seen {{type}} {{name}}\"\n{rest}}}\n")
    };
    for (zone, a, aaaa) in WORLD {
        let rest =
            [("A", a, "192.0.2.1"), ("AAAA", aaaa, "2001:db8::1")].map(|(family, answer, address)| match answer {
                Answer::Found => {
                    format!(
                        "  template IN {family} . {{\n    answer \"{{{{ .Name }}}} 60 IN {family} {address}\"\n  }}\n"
                    )
                }
                Answer::NoData => format!("  template IN {family} . {{\n    rcode NOERROR\n  }}\n"),
                Answer::NxDomain => format!("  template IN {family} . {{\n    rcode NXDOMAIN\n  }}\n"),
                Answer::Failure => format!("  template IN {family} . {{\n    rcode SERVFAIL\n  }}\n"),
                Answer::Silence => format!("  acl {{\n    drop type {family}\n  }}\n"),
            });
        text += &server(zone, &rest.concat());
    }
    text + &server(".", "  template IN ANY . {\n    rcode NXDOMAIN\n  }\n")
}

/// Configurations under which autopath is tried: it has nothing to do without a search list.
fn with_autopath() -> impl Iterator<Item = (usize, &'static str)> {
    let searched = |conf: &str| conf.contains("search") && !conf.contains("nameserver");
    CONFS.iter().copied().enumerate().filter(move |(_, conf)| searched(conf))
}

/// The server behind which a configuration has autopath.
fn server_of(conf: usize) -> String {
    format!("127.0.1.{}", conf + 1)
}

/// The same world behind autopath, which asks one server block: for each configuration a block of its own, with its search
/// list in a file. In a cluster the `kubernetes` plugin gives the list, and the rest is the same
/// (`plugin/autopath/autopath.go`). Failures and silence are left out: what autopath makes of them hangs on the plugin that
/// fails.
fn corefile_with_autopath(folder: &Path) -> String {
    let mut text = String::new();
    for (number, conf) in with_autopath() {
        let file = folder.join(format!("search-{number}"));
        std::fs::write(&file, format!("{conf}\n")).unwrap();
        let _ = write!(
            text,
            ". {{\n  bind {}\n  log . \"seen {{type}} {{name}}\"\n  autopath {}\n",
            server_of(number),
            file.display()
        );
        for (zone, a, aaaa) in WORLD {
            for (family, answer, address) in [("A", a, "192.0.2.1"), ("AAAA", aaaa, "2001:db8::1")] {
                let rest = match answer {
                    Answer::Found => format!("answer \"{{{{ .Name }}}} 60 IN {family} {address}\""),
                    Answer::NoData => "rcode NOERROR".to_owned(),
                    Answer::NxDomain | Answer::Failure | Answer::Silence => continue,
                };
                let _ = write!(text, "  template IN {family} {zone} {{\n    {rest}\n  }}\n");
            }
        }
        text += "  template IN ANY . {\n    rcode NXDOMAIN\n  }\n}\n";
    }
    text
}

/// CPython, which asks the C library that it is linked with; nothing where there is none.
fn python(folder: &Path) -> Option<&'static Client> {
    let about = "import platform, sys; print(platform.libc_ver()[0] or 'musl', sys.executable)";
    let said = run::output(Command::new("python3").args(["-c", about]), &[0]).ok()?;
    let (libc, program) = said.trim().split_once(' ')?;
    let lookup = "import socket, sys; print(socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM))";
    let script = folder.join("python");
    std::fs::write(&script, format!("#!/bin/sh\nexec {program} -I -S -c '{lookup}' \"$1\"\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    Client::named(libc)
}

/// Programs that look one name up, by the client that each is.
fn programs(folder: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resolvers");
    let cc = |arguments: &[&str]| {
        run::output(Command::new("cc").arg("-O1").args(arguments).current_dir(folder), &[0]).unwrap();
    };
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let lookup = path(&sources.join("lookup.c"));
    cc(&["-o", "glibc", &lookup]);
    let musl = debian::unpacked("musl-dev").unwrap();
    let (include, lib) = (path(&musl.join("usr/include/x86_64-linux-musl")), musl.join("usr/lib/x86_64-linux-musl"));
    let part = |name: &str| path(&lib.join(name));
    cc(&[
        "-static",
        "-nostdinc",
        "-isystem",
        &include,
        "-nostdlib",
        "-nostartfiles",
        "-o",
        "musl",
        &part("crt1.o"),
        &part("crti.o"),
        &lookup,
        &part("libc.a"),
        &part("crtn.o"),
    ]);
    let ares = debian::unpacked("libc-ares-dev").unwrap();
    let library = path(&ares.join("usr/lib/x86_64-linux-gnu/libcares.a"));
    let headers = ["usr/include", "usr/include/x86_64-linux-gnu"].map(|folder| path(&ares.join(folder)));
    cc(&["-I", &headers[0], "-I", &headers[1], "-o", "c-ares", &path(&sources.join("ares.c")), &library]);
    let mut go = Command::new("go");
    go.args(["build", "-o", "go"]).arg(sources.join("lookup.go")).env("CGO_ENABLED", "0").current_dir(folder);
    run::output(&mut go, &[0]).unwrap();
}

struct Case {
    /// The program that looks up.
    program: &'static str,
    /// As which it should ask.
    client: &'static Client,
    conf: &'static str,
    name: &'static str,
    /// The number of the configuration, where its server has autopath.
    autopath: Option<usize>,
}

impl Case {
    fn conf(&self) -> ResolvConf {
        ResolvConf::parse(&format!("nameserver 127.0.0.1\n{}", self.conf))
    }

    /// How often each name is asked for.
    fn predicted(&self) -> BTreeMap<String, u32> {
        let conf = self.conf();
        let steps = match self.autopath {
            Some(_) => lookup(self.client, &conf, self.name, BOTH, &autopath(&conf, &world)).steps,
            None => lookup(self.client, &conf, self.name, BOTH, &world).steps,
        };
        steps.into_iter().map(|step| (step.name, step.queries)).collect()
    }
}

/// Every query of every case, from one run in a network of its own.
fn seen(cases: &[Case], folder: &Path) -> Vec<BTreeMap<String, u32>> {
    std::fs::write(folder.join("Corefile"), corefile() + &corefile_with_autopath(folder)).unwrap();
    let coredns = tools::get("coredns").unwrap().program().unwrap();
    let mut script = format!(
        "set -e\nip link set lo up\ntouch resolv.conf\nmount --bind resolv.conf /etc/resolv.conf\n{} -conf Corefile >>log 2>&1 &\n\
         server=$!\ntrap 'kill $server' EXIT\n\
         for i in $(seq 100); do ./go ready. >answers 2>&1 || true; grep -q 'seen A ready' log && break; sleep 0.1; done\n",
        coredns.display()
    );
    for (index, case) in cases.iter().enumerate() {
        let _ = writeln!(
            script,
            "printf 'nameserver {}\\n{}\\n' >resolv.conf\nsleep 0.02\necho 'case {index}' >>log\ntimeout 30 ./{} {} >>answers 2>&1 || true\nsleep 0.03",
            case.autopath.map_or_else(|| "127.0.0.1".to_owned(), server_of),
            case.conf.replace('\n', "\\n"),
            case.program,
            case.name
        );
    }
    std::fs::write(folder.join("script"), script).unwrap();
    run::output(Command::new("unshare").args(["--net", "--mount", "sh", "script"]).current_dir(folder), &[0]).unwrap();
    let mut seen: Vec<BTreeMap<String, u32>> = Vec::new();
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    for line in log.lines() {
        if line.starts_with("case ") {
            seen.push(BTreeMap::new());
            continue;
        }
        let (Some((_, query)), Some(now)) = (line.split_once("seen "), seen.last_mut()) else { continue };
        let (_, name) = query.split_once(' ').unwrap();
        *now.entry(name.trim_end_matches('.').to_owned()).or_default() += 1;
    }
    seen
}

#[test]
fn every_resolver_asks_what_the_model_says() {
    if !node::is_root() {
        common::skipped("resolvers are tried in a network of their own, for which one has to be root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    programs(folder.path());
    let mut programs: Vec<(&str, &Client)> = CLIENTS.iter().map(|client| (client.name, client)).collect();
    match python(folder.path()) {
        Some(client) => programs.push(("python", client)),
        None => common::skipped("there is no python3 whose lookups could be counted"),
    }
    let mut cases = Vec::new();
    for (program, client) in programs {
        let case = |conf, name, autopath| Case { program, client, conf, name, autopath };
        for conf in CONFS {
            cases.extend(NAMES.iter().map(|name| case(*conf, *name, None)));
        }
        for (number, conf) in with_autopath() {
            cases.extend(NAMES.iter().map(|name| case(conf, *name, Some(number))));
        }
        // Debian's c-ares is of 2021 and does not read these options.
        if client.name != "c-ares" {
            cases.extend(SLOW.iter().chain(SILENT).map(|(conf, name)| case(*conf, *name, None)));
        }
    }
    assert!(cases.len() > 600, "{}", cases.len());
    let seen = seen(&cases, folder.path());
    assert_eq!(seen.len(), cases.len());
    let mut wrong = String::new();
    for (case, seen) in cases.iter().zip(seen) {
        let predicted = case.predicted();
        if predicted != seen {
            let _ = writeln!(
                wrong,
                "{} {}{} under\n{}\n  predicted {predicted:?}\n  seen      {seen:?}",
                case.program,
                case.name,
                if case.autopath.is_some() { ", with autopath," } else { "" },
                case.conf
            );
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{wrong}", cases.len());
}
