//! Corefiles as we read and edit them, beside CoreDNS's own parser and the real CoreDNS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bedplate_devcluster::{node, tools};
use bedplate_dns::{Corefile, autopath};
use serde_json::{Value, json};

/// What people have in their clusters. `kubernetes` asks an API server that is not there, which CoreDNS gives up after a
/// while.
const SEEDS: &[&str] = &[
    // kubeadm.
    "# cluster DNS\n.:1053 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local in-addr.arpa ip6.arpa {\n       endpoint http://127.0.0.1:1\n       pods insecure\n       fallthrough in-addr.arpa ip6.arpa\n       ttl 30\n    }\n    prometheus :9153\n    forward . 127.0.0.2 {\n       max_concurrent 1000\n    }\n    cache 30 {\n       disable success cluster.local\n       disable denial cluster.local\n    }\n    loop\n    reload\n    loadbalance\n}\n",
    // Snippets, a list of zones, tabs, no `pods` line.
    "(common) {\n\terrors\n\tcache 10\n}\n(k8s) {\n\tkubernetes cluster.local { # theirs\n\t\tendpoint http://127.0.0.1:1\n\t}\n}\n.:1053,\nexample.org:1053 {\n\timport common\n\timport k8s\n\tforward . 127.0.0.2 # upstream\n}\n10.0.0.0/24:1053 {\n\timport common\n\twhoami\n}\n",
    // Neither braces nor a last line end; quotes over lines; a comment in a word.
    ".:1053\r\nkubernetes \"cluster.local\" {\r\n  endpoint http://127.0.0.1:1\r\n}\r\ntemplate IN A#any\r\nforward . \"127.0.0.2\"\r\nlog . \"{remote}\r\n {name}\"",
    // Imports in a plugin's block and at the top, braces in odd places.
    "(options) {\n  pods verified\n  ttl 5\n}\n(whole) {\n  example.net:1053 {\n    whoami\n  }\n}\nimport whole\n.:1053 {\n  kubernetes cluster.local\n  {\n    endpoint http://127.0.0.1:1\n    import options\n  }\n  erratic { } x\n  forward . 127.0.0.2\n}\n",
];

/// Words that change what a text means.
const PIECES: &[&str] = &[
    "{",
    "}",
    " { ",
    " }\n",
    "\n",
    "\r\n",
    "#",
    "\"",
    "\\\"",
    "\\",
    ",",
    "import common\n",
    "import options",
    "import",
    " ",
    "(a) {\n",
    "errors\n",
    "cache 5",
    "é",
    "\u{feff}",
    "\u{a0}",
    "()",
    "\t",
    ".:1053",
];

/// Texts near the seeds.
fn mutated(random: &mut fastrand::Rng) -> String {
    let mut text = SEEDS[random.usize(..SEEDS.len())].to_owned();
    for _ in 0..random.usize(..5) {
        let mut place = || {
            let mut at = random.usize(..=text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (a, b) = (place(), place());
        let (from, to) = (a.min(b), a.max(b));
        match random.u8(..4) {
            // A line less.
            0 => {
                let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
                lines.remove(random.usize(..lines.len()));
                text = lines.concat();
            }
            1 if to - from < 12 => text.replace_range(from..to, ""),
            2 => text.truncate(to),
            _ => text.insert_str(from, PIECES[random.usize(..PIECES.len())]),
        }
        if text.is_empty() {
            break;
        }
    }
    text
}

fn is_brace(word: &str) -> bool {
    word == "{" || word == "}"
}

/// Keys and words of each block.
type Read = Vec<(Vec<String>, BTreeMap<String, Vec<String>>)>;

fn ours(file: &Corefile) -> Read {
    let mut read = Vec::new();
    for block in file.servers() {
        let mut plugins: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for plugin in &block.plugins {
            let words = std::iter::once(&plugin.name).chain(&plugin.args).chain(plugin.lines.iter().flatten());
            let words = words.map(|word| word.text.clone()).filter(|word| !is_brace(word));
            plugins.entry(plugin.name.text.clone()).or_default().extend(words);
        }
        read.push((block.keys.iter().map(|key| key.text.clone()).collect(), plugins));
    }
    read
}

fn theirs(answer: &Value) -> Read {
    let words = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let blocks = answer["blocks"].as_array().into_iter().flatten();
    blocks
        .map(|block| {
            let plugins = block["plugins"].as_object().into_iter().flatten();
            let plugins = plugins
                .map(|(name, list)| (name.clone(), words(list).into_iter().filter(|word| !is_brace(word)).collect()));
            (words(&block["keys"]), plugins.collect())
        })
        .collect()
}

#[test]
fn every_text_is_read_as_coredns_reads_it() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut texts: Vec<String> = SEEDS.iter().map(|seed| (*seed).to_owned()).collect();
    texts.extend((0..20_000).map(|_| mutated(&mut random)));
    let edited: Vec<String> = texts.iter().filter_map(|text| Some(autopath::add(text).ok()?.text)).collect();
    assert!(edited.len() > 1000, "{} could be edited", edited.len());
    texts.extend(edited.iter().cloned());

    let program = tools::get("corefile-replay").unwrap().program().unwrap();
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = texts.iter().map(|text| format!("{}\n", json!(text))).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(answers.len(), texts.len());

    let (mut accepted, mut digests, mut wrong, mut told) = (0, 0, 0, String::new());
    for (text, answer) in texts.iter().zip(&answers) {
        let refused = answer["error"].as_str().filter(|error| !error.is_empty());
        let same = match (Corefile::parse(text), refused) {
            // A file that is not there, where we have to take it as it may be.
            (Ok(file), Some(error)) => {
                !file.unseen.is_empty()
                    && (error.contains("File to import not found") || error.contains("Failed to use import pattern"))
            }
            (Ok(file), None) => {
                let digest = file.digest();
                digests += usize::from(digest.is_some());
                ours(&file) == theirs(answer) && digest.is_none_or(|digest| answer["digest"] == digest)
            }
            (Err(_), refused) => refused.is_some(),
        };
        accepted += usize::from(refused.is_none());
        if !same {
            wrong += 1;
            if wrong < 5 {
                let _ = writeln!(
                    told,
                    "{text:?}\n  ours:   {:?}\n  theirs: {answer}\n",
                    Corefile::parse(text).map(|file| ours(&file))
                );
            }
        }
    }
    assert_eq!(wrong, 0, "of {} texts, of which {accepted} are Corefiles:\n{told}", texts.len());
    assert!(accepted > 5000 && digests > 5000, "{accepted}, {digests}");
    // Edits are made of Corefiles, and are some.
    let of_edited = &answers[answers.len() - edited.len()..];
    assert!(of_edited.iter().all(|answer| answer["error"] == ""));
}

/// Whether the real CoreDNS starts with each text, in a network of its own; and what it says.
fn started(texts: &[String], folder: &Path) -> Vec<(bool, String)> {
    let coredns = tools::get("coredns").unwrap().program().unwrap();
    let mut all = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let (conf, log) = (folder.join(format!("{number}.conf")), folder.join(format!("{number}.log")));
        std::fs::write(&conf, text).unwrap();
        let out = std::fs::File::create(&log).unwrap();
        let script = "ip link set lo up && exec \"$0\" -conf \"$1\"";
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .arg(&coredns)
            .arg(&conf)
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        all.push((child, log));
    }
    all.into_iter()
        .map(|(mut child, log)| {
            let begun = Instant::now();
            loop {
                let said = std::fs::read_to_string(&log).unwrap();
                let up = said.contains("CoreDNS-1.");
                let ended = child.try_wait().unwrap().is_some();
                if up || ended || begun.elapsed() > Duration::from_secs(60) {
                    let _ = child.kill();
                    let _ = child.wait();
                    return (up, said);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
        .collect()
}

#[test]
fn the_real_coredns_starts_with_what_was_edited() {
    if !node::is_root() {
        common::skipped("CoreDNS is started in a network of its own, for which one has to be root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let mut texts: Vec<String> = SEEDS.iter().map(|seed| (*seed).to_owned()).collect();
    texts.extend((0..12).map(|_| mutated(&mut random)));
    let before = started(&texts, folder.path());
    assert!(before[..SEEDS.len()].iter().filter(|(up, _)| *up).count() >= 2, "{before:?}");
    for (text, (up, said)) in texts.iter().zip(&before) {
        assert!(!up || Corefile::parse(text).is_ok(), "CoreDNS starts with {text}\n{said}");
    }
    let edited: Vec<String> = texts
        .iter()
        .zip(&before)
        .filter_map(|(text, (up, _))| autopath::add(text).ok().filter(|_| *up).map(|edited| edited.text))
        .collect();
    assert!(edited.len() >= 2, "{}", edited.len());
    for (text, (up, said)) in edited.iter().zip(started(&edited, folder.path())) {
        assert!(up, "CoreDNS does not start with {text}\n{said}");
    }
}
