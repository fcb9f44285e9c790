//! Who asks, and for what: CoreDNS's own log of queries (`plugin/log`), where the Corefile has it.
//!
//! The text is that of every 1.x (`CommonLogFormat` in `plugin/log/log.go`); since 1.15 CoreDNS may write JSON instead
//! (`-log-format=json`). What stands in a name was chosen by whoever asked: it is read as CoreDNS escapes it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::corefile::{Corefile, ServerBlock, Token, Zone};

/// A query, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Who asked: the address that CoreDNS sees.
    pub client: IpAddr,
    /// `A`, `AAAA`.
    pub family: String,
    /// In lower case, without its last dot; the root is `.`.
    pub name: String,
    /// `NOERROR`, `NXDOMAIN`; nothing where the query was dropped.
    pub code: Option<String>,
}

/// A line with `-log-format=json`.
#[derive(Deserialize)]
struct Record {
    plugin: String,
    client_ip: IpAddr,
    qname: String,
    qtype: String,
    rcode: Option<String>,
}

/// Longest name as it is written: 255 bytes, each of which may be escaped (`\000`).
const MOST_BYTES: usize = 1020;

impl Query {
    /// Reads a line of the log; nothing where it is no query, or cut off before the answer's code.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (client, family, name, code) = if line.starts_with('{') {
            let record: Record = serde_json::from_str(line).ok()?;
            (record.plugin == "log").then_some((record.client_ip, record.qtype, record.qname, record.rcode))?
        } else {
            let (head, rest) = line.split_once(" \"")?;
            let mut head = head.rsplit(' ');
            head.next()?.parse::<u16>().ok()?;
            head.next().filter(|word| *word == "-")?;
            let client = head.next()?.parse::<SocketAddr>().ok()?.ip();
            let (family, rest) = rest.split_once(' ')?;
            let (_, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_at_checked(first_space(rest)?)?;
            let (_, rest) = rest.split_once("\" ")?;
            // What is cut off here could be half a word.
            let (code, _) = rest.split_once(' ')?;
            (client, family.to_owned(), name.to_owned(), (code != "-").then(|| code.to_owned()))
        };
        let printable = |text: &str| text.len() <= MOST_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        // A space in a name is escaped, and still a space.
        let shown = name.replace("\\ ", "\\032");
        let all = [&shown, &family].into_iter().chain(&code).all(|text| printable(text));
        let name = if shown == "." { shown } else { shown.strip_suffix('.').map(str::to_owned).unwrap_or(shown) };
        all.then(|| Self { client: client.to_canonical(), family, name, code })
    }
}

/// Where the first space stands that is not escaped.
fn first_space(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let found = byte == b' ' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// The time in front of a line that the API server gives with `timestamps=true` (RFC 3339), as seconds of its day, and the
/// line.
#[must_use]
pub fn stamped(line: &str) -> Option<(f64, &str)> {
    let (time, rest) = line.split_once(' ')?;
    let (_, clock) = time.split_once('T')?;
    let clock = clock.trim_end_matches('Z');
    let clock = clock.split(['+', '-']).next()?;
    let mut parts = clock.splitn(3, ':');
    let mut part = |most: f64| parts.next()?.parse::<f64>().ok().filter(|value| (0.0..most).contains(value));
    Some((part(24.0)? * 3600.0 + part(60.0)? * 60.0 + part(61.0)?, rest))
}

/// Queries, and what was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Queries.
    pub queries: u64,
    /// Of these, those that were told that there is no such name (NXDOMAIN).
    pub missing: u64,
    /// Those that got no answer to go by: SERVFAIL, REFUSED, nothing.
    pub failed: u64,
}

impl Count {
    fn count(&mut self, code: Option<&str>) {
        self.queries += 1;
        match code {
            Some("NXDOMAIN") => self.missing += 1,
            Some("NOERROR") => {}
            _ => self.failed += 1,
        }
    }

    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.queries += other.queries;
        self.missing += other.missing;
        self.failed += other.failed;
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut all, count| {
            all.add(count);
            all
        })
    }
}

/// What was read of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    asked: BTreeMap<IpAddr, BTreeMap<String, Count>>,
}

/// What one name costs, whichever search domains were tried behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// As a program has it.
    pub name: String,
    /// Queries of all its lookups.
    pub count: Count,
    /// How many addresses asked.
    pub clients: usize,
}

impl Sample {
    /// Takes a query.
    pub fn add(&mut self, query: Query) {
        let count = self.asked.entry(query.client).or_default().entry(query.name).or_default();
        count.count(query.code.as_deref());
    }

    /// All queries.
    #[must_use]
    pub fn all(&self) -> Count {
        self.asked.values().flat_map(BTreeMap::values).copied().sum()
    }

    /// Who asked, those who asked most first.
    #[must_use]
    pub fn clients(&self) -> Vec<(IpAddr, Count)> {
        let sums = self.asked.iter().map(|(client, names)| (*client, names.values().copied().sum::<Count>()));
        let mut clients: Vec<_> = sums.collect();
        clients.sort_by_key(|(client, count)| (Reverse(count.queries), *client));
        clients
    }

    /// What was asked for, the search domains of each client taken off; what costs most first. `domain` is the cluster's,
    /// `namespaces` those of the clients that are known; of others the namespace is read out of what they ask.
    #[must_use]
    pub fn names(&self, domain: &str, namespaces: &BTreeMap<IpAddr, String>) -> Vec<Cost> {
        let mut costs: BTreeMap<String, (Count, usize)> = BTreeMap::new();
        for (client, asked) in &self.asked {
            let namespace = namespaces.get(client).cloned().or_else(|| namespace_of(asked, domain));
            let search: Vec<String> = namespace
                .iter()
                .map(|namespace| format!(".{namespace}.svc.{domain}"))
                .chain([format!(".svc.{domain}"), format!(".{domain}")])
                .collect();
            let mut of_client: BTreeMap<&str, Count> = BTreeMap::new();
            for (name, count) in asked {
                of_client.entry(base(name, asked, &search)).or_default().add(*count);
            }
            for (name, count) in of_client {
                let (sum, clients) = costs.entry(name.to_owned()).or_default();
                sum.add(count);
                *clients += 1;
            }
        }
        let mut costs: Vec<Cost> =
            costs.into_iter().map(|(name, (count, clients))| Cost { name, count, clients }).collect();
        costs.sort_by(|a, b| b.count.queries.cmp(&a.count.queries).then_with(|| a.name.cmp(&b.name)));
        costs
    }
}

/// The name without the search domain behind it. What the same client has asked with an earlier domain of the list behind it
/// is what its program has written: `minio.ml.svc.cluster.local` where that went through the whole list, and `minio.ml`, not
/// `minio`, for `minio.ml.svc.cluster.local` in the namespace `ml`.
fn base<'a>(name: &'a str, asked: &BTreeMap<String, Count>, search: &[String]) -> &'a str {
    let tried = |base: &str, domain: &String| asked.contains_key(&format!("{base}{domain}"));
    if search.iter().any(|domain| tried(name, domain)) {
        return name;
    }
    let bases = search.iter().enumerate().filter_map(|(at, domain)| Some((at, name.strip_suffix(domain.as_str())?)));
    let bases: Vec<_> = bases.filter(|(_, base)| !base.is_empty()).collect();
    let seen = bases.iter().rev().find(|(at, base)| search.iter().take(*at).any(|domain| tried(base, domain)));
    seen.or_else(|| bases.first()).map_or(name, |(_, base)| base)
}

/// The namespace of a client, by what it asks: the first search domain has it, the second has not, and a lookup that goes
/// on asks for both. The one that most names speak for.
fn namespace_of(asked: &BTreeMap<String, Count>, domain: &str) -> Option<String> {
    let end = format!(".svc.{domain}");
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for name in asked.keys() {
        let Some((base, namespace)) = name.strip_suffix(&end).and_then(|inner| inner.rsplit_once('.')) else {
            continue;
        };
        if asked.contains_key(&format!("{base}{end}")) {
            *votes.entry(namespace).or_default() += 1;
        }
    }
    let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
    most.map(|(namespace, _)| namespace.to_owned())
}

/// What of the queries a CoreDNS with this Corefile logs: a sentence for each thing that is missing.
///
/// # Errors
/// Where it logs none: why, and what to add.
pub fn logged(corefile: &str) -> Result<Vec<String>, String> {
    let file = Corefile::parse(corefile).map_err(|error| format!("its Corefile is none: {error}"))?;
    let (with, without): (Vec<&ServerBlock>, Vec<&ServerBlock>) =
        file.servers().partition(|block| block.plugin("log").is_some());
    let mut notes = Vec::new();
    if with.is_empty() && file.unseen.is_empty() {
        let at = file.servers().find(|block| block.plugin("kubernetes").is_some()).or_else(|| file.servers().next());
        return Err(format!(
            "its Corefile has no `log`: who asks is not written anywhere\n\
             add a line `log` to the block of `{}` for a while (a line for each query costs CoreDNS time, and the node disk), \
             wait until it is loaded, and take it out afterwards",
            at.map_or_else(String::new, keys)
        ));
    }
    if with.is_empty() {
        notes.push("whether the Corefile has `log` cannot be seen: it imports files".to_owned());
    } else if !without.is_empty() {
        let zones: Vec<String> = without.into_iter().map(keys).collect();
        notes.push(format!("without `log`, and not counted: {}", zones.join(", ")));
    }
    let plugins: BTreeSet<_> = with
        .iter()
        .flat_map(|block| &block.plugins)
        .filter(|plugin| plugin.name.text == "log")
        .map(|plugin| {
            let texts = |tokens: &[Token]| tokens.iter().map(|token| token.text.clone()).collect::<Vec<_>>();
            let classes: Vec<String> = plugin.lines_of("class").flat_map(|line| texts(&line[1..])).collect();
            (texts(&plugin.args), classes)
        })
        .collect();
    for (mut words, classes) in plugins {
        // A last word of several that has a brace is a format (`logParse`).
        let format = (words.len() > 1 && words.last().is_some_and(|word| word.contains('{'))).then(|| words.pop());
        if let Some(format) = format.flatten().filter(|format| !is_readable(format)) {
            notes.push(format!("`log` has a format of its own, which is not read: {format}"));
        }
        if !words.is_empty() && !words.iter().any(|zone| Zone::of(zone).name.is_empty()) {
            notes.push(format!("only queries for {} are logged", words.join(", ")));
        }
        if !classes.is_empty() && !classes.iter().any(|class| class == "all") {
            notes
                .push(format!("only answers of the class {} are logged: their parts are of these", classes.join(", ")));
        }
    }
    Ok(notes)
}

/// Whether [`Query::parse`] reads lines of a format.
fn is_readable(format: &str) -> bool {
    ["{common}", "{combined}"].iter().any(|known| format.ends_with(known))
}

fn keys(block: &ServerBlock) -> String {
    block.keys.iter().map(|key| key.text.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by CoreDNS 1.15.0.
    const TEXT: &str = r#"[INFO] 127.0.0.1:49028 - 25206 "HINFO IN 807936561352321370.664542968620476213. udp 55 false 512" NXDOMAIN qr,aa,rd 55 0.000990552s
[INFO] 10.244.1.6:54311 - 15858 "A IN s3.example.com.default.svc.cluster.local. udp 58 false 512" NXDOMAIN qr,aa,rd 151 0.000208921s
[INFO] 10.244.1.6:42857 - 30916 "A IN s3.example.com.svc.cluster.local. udp 50 false 512" NXDOMAIN qr,aa,rd 143 0.00011424s
[INFO] 10.244.1.6:33122 - 8202 "A IN s3.example.com.cluster.local. udp 46 false 512" NXDOMAIN qr,aa,rd 139 0.000399804s
[INFO] 10.244.1.6:48895 - 59699 "A IN s3.example.com. udp 32 false 512" NOERROR qr,aa,rd 62 0.000261879s
[INFO] 10.244.1.8:56883 - 84 "A IN we\"ird\ name.default.svc.cluster.local. udp 55 false 512" NXDOMAIN qr,aa,rd 148 0.001216624s
"#;
    /// The same with `-log-format=json`; the third was dropped.
    const JSON: &str = r#"{"time":"2026-11-27T07:46:15.099483766Z","level":"INFO","msg":"CoreDNS-1.15.0\nlinux/amd64, go1.26.8, "}
{"time":"2026-11-27T07:46:17.197459562Z","level":"INFO","msg":"127.0.0.1:50199 - 4711 \"A IN s3.example.com. udp 32 false 512\" NXDOMAIN qr,aa,rd 32 0.000239265s","plugin":"log","client_ip":"127.0.0.1","client_port":50199,"qname":"s3.example.com.","qtype":"A","qclass":"IN","protocol":"udp","id":4711,"opcode":0,"request_size":32,"dnssec_ok":false,"bufsize":512,"rcode":"NXDOMAIN","response_size":32,"duration_seconds":0.000246336}
{"time":"2026-11-27T07:46:17.197703495Z","level":"INFO","msg":"127.0.0.1:33276 - 4711 \"AAAA IN a\\\"b\\ \\027.x. udp 25 false 512\" NXDOMAIN qr,aa,rd 25 0.000071406s","plugin":"log","client_ip":"127.0.0.1","client_port":33276,"qname":"a\\\"b\\ \\027.x.","qtype":"AAAA","qclass":"IN","protocol":"udp","id":4711,"opcode":0,"request_size":25,"dnssec_ok":false,"bufsize":512,"rcode":"NXDOMAIN","response_size":25,"duration_seconds":0.00007362}
{"time":"2026-11-27T07:46:17.197914698Z","level":"INFO","msg":"127.0.0.1:38250 - 4711 \"A IN a.example.net. udp 31 false 512\" - - 0 0.000045147s","plugin":"log","client_ip":"127.0.0.1","client_port":38250,"qname":"a.example.net.","qtype":"A","qclass":"IN","protocol":"udp","id":4711,"opcode":0,"request_size":31,"dnssec_ok":false,"bufsize":512,"rcode":null,"response_size":0,"duration_seconds":0.000048001}
"#;

    fn query(line: &str) -> Option<(String, String, Option<String>)> {
        Query::parse(line).map(|query| (query.client.to_string(), query.name, query.code))
    }

    fn sample<'a>(asked: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Sample {
        let mut sample = Sample::default();
        for (client, name, code) in asked {
            sample.add(Query {
                client: client.parse().unwrap(),
                family: "A".to_owned(),
                name: name.to_owned(),
                code: Some(code.to_owned()),
            });
        }
        sample
    }

    #[test]
    fn lines_are_read_in_text_and_in_json() {
        let mut sample = Sample::default();
        TEXT.lines().filter_map(Query::parse).for_each(|query| sample.add(query));
        let client: IpAddr = "10.244.1.6".parse().unwrap();
        assert_eq!(sample.clients()[0], (client, Count { queries: 4, missing: 3, failed: 0 }));
        assert_eq!(sample.all(), Count { queries: 6, missing: 5, failed: 0 });
        let local = |name: &str, code: Option<&str>| ("127.0.0.1".to_owned(), name.to_owned(), code.map(str::to_owned));
        let expected = [
            local("s3.example.com", Some("NXDOMAIN")),
            local(r#"a\"b\032\027.x"#, Some("NXDOMAIN")),
            local("a.example.net", None),
        ];
        assert_eq!(JSON.lines().filter_map(query).collect::<Vec<_>>(), expected);
        // The message of each is the line of the other format.
        for (line, expected) in JSON.lines().skip(1).zip(&expected) {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(query(&format!("[INFO] {}", record["msg"].as_str().unwrap())).as_ref(), Some(expected));
        }
        let six = "[INFO] [::ffff:10.0.0.1]:50759 - 29008 \"AAAA IN example.org. tcp 41 true 4096\" SERVFAIL qr,rd,ra,ad 68 0.1s";
        assert_eq!(query(six).map(|(client, ..)| client).as_deref(), Some("10.0.0.1"));
    }

    /// Whoever asks chooses the name: it must not pass for the rest of the line, nor for another client.
    #[test]
    fn a_name_cannot_pass_for_something_else() {
        let line =
            |name: &str| format!("[INFO] 10.0.0.1:5 - 7 \"A IN {name} udp 40 false 512\" NXDOMAIN qr,rd 40 0.1s");
        for (name, read) in [
            (r#"a\"\ NOERROR\ qr."#, Some(r#"a\"\032NOERROR\032qr"#)),
            (r"a\\\ b.", Some(r"a\\\032b")),
            (r"\027[31m.example.com.", Some(r"\027[31m.example.com")),
            (".", Some(".")),
            ("\u{1b}[31m.", None),
        ] {
            let found = query(&line(name));
            assert_eq!(found.as_ref().map(|(_, name, _)| name.as_str()), read, "{name}");
            assert!(found.is_none_or(|(client, _, code)| client == "10.0.0.1" && code.as_deref() == Some("NXDOMAIN")));
        }
        for other in [
            "[INFO] plugin/reload: Running configuration SHA512 = ab",
            "[ERROR] plugin/errors: 2 example.org. A: read udp 10.0.0.1:5->10.0.0.2:53: i/o timeout",
            "[INFO] 10.0.0.1:5 - 7 \"A IN a. udp 40 false 512\" NXDOM",
            "[INFO] 10.0.0.1:5 - 7 \"A IN a. ud",
            "",
        ] {
            assert_eq!(query(other), None, "{other}");
        }
    }

    #[test]
    fn a_lookup_is_one_name_however_many_search_domains_it_went_through() {
        let none = BTreeMap::new();
        let mut sample = Sample::default();
        TEXT.lines().filter_map(Query::parse).for_each(|query| sample.add(query));
        let costs = sample.names("cluster.local", &none);
        let told: Vec<_> = costs.iter().map(|cost| (cost.name.as_str(), cost.count.queries)).collect();
        let odd = "807936561352321370.664542968620476213";
        assert_eq!(told, [("s3.example.com", 4), (odd, 1), (r#"we\"ird\032name.default"#, 1)]);

        // Behind autopath a lookup asks once: then the namespace has to be known.
        let once = self::sample([("10.0.0.1", "s3.example.com.team.svc.cluster.local", "NOERROR")]);
        let known = [("10.0.0.1".parse().unwrap(), "team".to_owned())].into_iter().collect();
        assert_eq!(once.names("cluster.local", &known)[0].name, "s3.example.com");

        // Three ways to write the name of a Service, from two namespaces.
        let services = self::sample([
            ("10.0.0.1", "minio.ml.team.svc.cluster.local", "NXDOMAIN"),
            ("10.0.0.1", "minio.ml.svc.cluster.local", "NOERROR"),
            ("10.0.0.2", "minio.ml.svc.cluster.local.ml.svc.cluster.local", "NXDOMAIN"),
            ("10.0.0.2", "minio.ml.svc.cluster.local.svc.cluster.local", "NXDOMAIN"),
            ("10.0.0.2", "minio.ml.svc.cluster.local.cluster.local", "NXDOMAIN"),
            ("10.0.0.2", "minio.ml.svc.cluster.local", "NOERROR"),
            ("10.0.0.2", "4.3.2.1.in-addr.arpa", "NXDOMAIN"),
            ("10.0.0.3", "feast.ml.ml.svc.cluster.local", "NXDOMAIN"),
            ("10.0.0.3", "feast.ml.svc.cluster.local", "NOERROR"),
        ]);
        let costs = services.names("cluster.local", &none);
        let told: Vec<_> = costs.iter().map(|cost| (cost.name.as_str(), cost.count.queries, cost.clients)).collect();
        assert_eq!(
            told,
            [
                ("minio.ml.svc.cluster.local", 4, 1),
                ("feast.ml", 2, 1),
                ("minio.ml", 2, 1),
                ("4.3.2.1.in-addr.arpa", 1, 1)
            ]
        );
    }

    #[test]
    fn what_is_not_logged_is_told() {
        let corefile = |log: &str| format!(".:53 {{\n  {log}\n  kubernetes cluster.local in-addr.arpa\n}}\n");
        let why = logged(&corefile("errors")).unwrap_err();
        assert!(why.contains("add a line `log` to the block of `.:53`"), "{why}");
        for (log, told) in [
            ("log", ""),
            ("log .", ""),
            ("log . {combined}", ""),
            ("log . \"{remote} {name}\"", "format of its own"),
            ("log example.org", "only queries for example.org"),
            ("log {\n    class denial\n  }", "only answers of the class denial"),
            ("log {\n    class denial all\n  }", ""),
            ("import custom/*.override", "cannot be seen"),
            ("log\n}\nexample.org {\n  whoami", "not counted: example.org"),
        ] {
            let notes = logged(&corefile(log)).unwrap().join("; ");
            assert!(if told.is_empty() { notes.is_empty() } else { notes.contains(told) }, "{log}: {notes}");
        }
    }

    #[test]
    fn the_time_of_a_line_is_read() {
        assert_eq!(stamped("2026-11-27T01:00:02.5Z [INFO] x"), Some((3602.5, "[INFO] x")));
        assert_eq!(stamped("2026-11-27T01:00:02.5+09:30 x"), Some((3602.5, "x")));
        assert_eq!(stamped("[INFO] T x"), None);
    }

    proptest! {
        /// Whatever stands in a log: no panic, and what is taken for a query can be shown on a terminal.
        #[test]
        fn any_line_is_read_or_passed_over(a in ".{0,40}", b in "[ -~]{0,60}", cut in 0_usize..200) {
            for line in [a.clone(), format!("[INFO] 10.0.0.1:5 - 7 \"A IN {a}{b}. udp 40 false 512\" NXDOMAIN qr 40 0.1s")] {
                let mut end = cut.min(line.len());
                while !line.is_char_boundary(end) { end -= 1; }
                for line in [line.as_str(), &line[..end]] {
                    if let Some(query) = Query::parse(line) {
                        prop_assert!(query.name.bytes().all(|byte| byte.is_ascii_graphic()));
                    }
                    let _ = stamped(line);
                }
            }
        }
    }
}
