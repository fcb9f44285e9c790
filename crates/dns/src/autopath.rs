//! `autopath @kubernetes` in a Corefile: where it does nothing or harm, and the edit that puts it there.
//!
//! autopath goes through the search list of a pod itself, at the pod's first query, so that an outside name costs two
//! queries. It asks only the plugins of its own server block behind it (`plugin/autopath/autopath.go`), and knows only pods
//! that the `kubernetes` plugin knows by address (`plugin/kubernetes/autopath.go`): from these two facts come the
//! obstacles. The first lookups of a pod's life, before the kubelet has told its address, cost what they cost without.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use crate::corefile::{Corefile, Edit, Plugin, ServerBlock, edited};

/// Why autopath does nothing in a Corefile, or does harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is so, and what comes of it.
    pub why: String,
    /// What to do.
    pub help: String,
    /// The bytes that it is about.
    pub span: Range<usize>,
}

/// What an edit makes of a Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edited {
    /// The edits, in order; none where everything was there.
    pub edits: Vec<Edit>,
    /// The new text.
    pub text: String,
}

/// What is known of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Pods.
    pub pods: u64,
    /// Services.
    pub services: u64,
    /// Pods on their node's network.
    pub host_network: u64,
    /// Pods whose `dnsConfig` has search domains, or whose `dnsPolicy` is not the cluster's.
    pub own_search: u64,
    /// Nodes that run Windows.
    pub windows_nodes: u64,
    /// Whether a NodeLocal DNSCache stands in front of CoreDNS.
    pub node_local: bool,
    /// The memory that a CoreDNS pod may have, in bytes.
    pub memory_limit: Option<u64>,
    /// Whether CoreDNS may list and watch pods, where that is known.
    pub may_watch_pods: Option<bool>,
}

/// A megabyte, as the formula counts.
const MEGABYTE: u64 = 1_000_000;

impl Facts {
    /// Memory of CoreDNS without and with autopath, in MB, by the formula that the project publishes
    /// (`coredns/deployment`, `kubernetes/Scaling_CoreDNS.md`).
    #[must_use]
    pub const fn megabytes(&self) -> (u64, u64) {
        let objects = self.pods + self.services;
        (objects.div_ceil(1000) + 54, objects.div_ceil(250) + 56)
    }

    /// Why autopath should not be put into this cluster: what is so and what to do. Nothing where it may.
    #[must_use]
    pub fn obstacles(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut add = |why: String, help: &str| found.push((why, help.to_owned()));
        let instead = "lower `ndots` in the pods that talk to outside hosts instead";
        if self.node_local {
            add(
                "a NodeLocal DNSCache stands in front of CoreDNS: every query comes from a node, and autopath finds no pod".to_owned(),
                instead,
            );
        }
        if self.windows_nodes > 0 {
            add(format!("{} nodes run Windows, whose search list autopath does not know", self.windows_nodes), instead);
        }
        if self.pods > 0 && self.host_network == self.pods {
            add("every pod is on its node's network: autopath finds none by its address".to_owned(), instead);
        }
        if self.may_watch_pods == Some(false) {
            add(
                "CoreDNS may not list and watch pods, which `pods verified` needs: it would never become ready"
                    .to_owned(),
                "add `pods` with the verbs `list` and `watch` to its ClusterRole, system:coredns",
            );
        }
        let (_, with) = self.megabytes();
        if let Some(limit) = self.memory_limit.filter(|limit| with * MEGABYTE > *limit) {
            add(
                format!(
                    "with `pods verified` CoreDNS takes {with} MB for {} pods and {} Services, and its limit is {} MB: it would be killed",
                    self.pods,
                    self.services,
                    limit / MEGABYTE
                ),
                "raise `resources.limits.memory` of its Deployment first",
            );
        }
        found
    }

    /// Whom autopath does not help, each as a sentence.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.host_network > 0 && self.host_network < self.pods {
            notes.push(format!(
                "{} pods are on their node's network: autopath does nothing for them",
                self.host_network
            ));
        }
        if self.own_search > 0 {
            notes.push(format!(
                "{} pods have a dnsPolicy or search domains of their own: a name that is both outside and in one of these domains is found outside",
                self.own_search
            ));
        }
        notes
    }
}

/// Why `autopath @kubernetes` does nothing in a block, or does harm there, whatever the cluster.
#[must_use]
pub fn obstacles(file: &Corefile, block: &ServerBlock) -> Vec<Obstacle> {
    let mut found = Vec::new();
    let mut add = |why: String, help: &str, span: &Range<usize>| {
        found.push(Obstacle { why, help: help.to_owned(), span: span.clone() });
    };
    let Some(kubernetes) = block.plugin("kubernetes") else { return found };
    let from_root = |plugin: &&Plugin| {
        matches!(plugin.name.text.as_str(), "forward" | "grpc")
            && plugin.args.first().is_some_and(|from| from.text == ".")
    };
    if !block.plugins.iter().any(|plugin| from_root(&plugin)) {
        add(
            "this block answers for no name outside the cluster: autopath looks them up here, and would answer SERVFAIL".to_owned(),
            "put `forward . /etc/resolv.conf` into the block, or the `kubernetes` plugin into the block of `.`",
            &kubernetes.name.span,
        );
    }
    for plugin in block.plugins.iter().filter(|plugin| plugin.name.text == "rewrite") {
        let words: Vec<&str> = plugin.args.iter().map(|arg| arg.text.as_str()).collect();
        // Without a block, the kind stands in the line, behind `continue` or `stop`; `name` is the usual one.
        let kind = words.iter().find(|word| !matches!(**word, "continue" | "stop"));
        if kind.is_none_or(|kind| !matches!(*kind, "type" | "class" | "ttl" | "edns0" | "rcode")) {
            add(
                "`rewrite` comes before autopath: names that autopath finds by itself are not rewritten".to_owned(),
                "leave autopath away, or answer these names with `hosts` or `template`, which come behind it",
                &plugin.name.span,
            );
        }
    }
    if let Some(other) =
        block.plugin("autopath").filter(|plugin| plugin.args.last().is_none_or(|arg| arg.text != "@kubernetes"))
    {
        add(
            "autopath is there with another search list".to_owned(),
            "take it away first: one search list does not fit the pods of two namespaces",
            &other.name.span,
        );
    }
    let port = |port: Option<String>| port.unwrap_or_else(|| "53".to_owned());
    let own: Vec<_> = block.zones().map(|(_, zone)| (zone.transport, port(zone.port))).collect();
    let inside: Vec<String> = kubernetes.args.iter().map(|zone| crate::corefile::Zone::of(&zone.text).name).collect();
    for other in file.servers().filter(|other| !std::ptr::eq(*other, block)) {
        for (key, zone) in other.zones() {
            let same_port = own.contains(&(zone.transport.clone(), port(zone.port.clone())));
            let within = inside.iter().any(|cluster| !cluster.is_empty() && zone.is_within(cluster));
            if same_port && !zone.name.is_empty() && !zone.is_reverse() && !within {
                add(
                    format!(
                        "`{}` has a server block of its own, which autopath does not ask: its names would be looked up outside",
                        zone.name
                    ),
                    "move it into this block, as a `forward` for its zone in front of that for `.` (a block may have several)",
                    &key.span,
                );
            }
        }
    }
    found
}

/// Puts `autopath @kubernetes` and `pods verified` into every block that has the `kubernetes` plugin, and `cache 30` where
/// there is no cache.
///
/// # Errors
/// Why not, with the places: a text that is no Corefile, one that imports files which are not seen, and the obstacles.
pub fn add(text: &str) -> Result<Edited, Vec<Obstacle>> {
    let one = |why: String, help: &str, span: Range<usize>| vec![Obstacle { why, help: help.to_owned(), span }];
    let file = Corefile::parse(text).map_err(|error| {
        one(format!("not a valid Corefile: {error}"), "CoreDNS does not start with it either", error.span)
    })?;
    if file.is_node_local() {
        return Err(one(
            "this is the configuration of a NodeLocal DNSCache, which serves a node and not pods".to_owned(),
            "change the Corefile of the cluster's CoreDNS; behind a NodeLocal DNSCache autopath does nothing",
            0..0,
        ));
    }
    let blocks: Vec<&ServerBlock> = file.servers().filter(|block| block.plugin("kubernetes").is_some()).collect();
    let mut found: Vec<Obstacle> = file
        .oddities
        .iter()
        .map(|odd| Obstacle { why: odd.message.clone(), help: "set it right first".to_owned(), span: odd.span.clone() })
        .collect();
    if blocks.is_empty() {
        found.extend(one(
            "no server block has the `kubernetes` plugin".to_owned(),
            "autopath asks it for the pods",
            0..0,
        ));
    }
    for name in &file.unseen {
        found.push(Obstacle {
            why: format!("what `{}` holds cannot be seen here", name.text),
            help: "give the Corefile with the files put in place of their imports".to_owned(),
            span: name.span.clone(),
        });
    }
    found.extend(blocks.iter().flat_map(|block| obstacles(&file, block)));
    if !found.is_empty() {
        found.sort_by_key(|obstacle| obstacle.span.start);
        found.dedup();
        return Err(found);
    }
    let layout = Layout::of(text);
    let mut edits = Vec::new();
    // What stands in a snippet that several blocks import is changed once.
    let mut done = BTreeSet::new();
    for block in &blocks {
        let Some(kubernetes) = block.plugin("kubernetes") else { continue };
        if done.insert(kubernetes.name.span.start) {
            let missing = ["autopath @kubernetes", "cache 30"].into_iter().filter(|line| {
                let name = line.split(' ').next().unwrap_or_default();
                block.plugin(name).is_none()
            });
            let at = kubernetes.name.span.start;
            let indent = layout.indent(at);
            let lines: String = missing.map(|line| format!("{line}{}{indent}", layout.end)).collect();
            if !lines.is_empty() {
                edits.push(Edit { span: at..at, text: lines });
            }
        }
        for edit in verified(kubernetes, &layout) {
            if done.insert(edit.span.start) {
                edits.push(edit);
            }
        }
    }
    edits.sort_by_key(|edit| edit.span.start);
    let text = edited(text, &edits);
    if !has_it(&text) {
        let place = edits.first().map_or(0..0, |edit| edit.span.clone());
        return Err(one(
            "the edit would not do what it should in this layout".to_owned(),
            "put `autopath @kubernetes` and `pods verified` there by hand",
            place,
        ));
    }
    Ok(Edited { edits, text })
}

/// Whether every block with the `kubernetes` plugin has an autopath that works, and a cache.
#[must_use]
pub fn has_it(text: &str) -> bool {
    let Ok(file) = Corefile::parse(text) else { return false };
    let mut blocks = file.servers().filter_map(|block| Some((block, block.plugin("kubernetes")?))).peekable();
    blocks.peek().is_some()
        && blocks.all(|(block, kubernetes)| {
            let pods = kubernetes.lines_of("pods").last().and_then(|line| line.get(1));
            let autopath = block.plugin("autopath").and_then(|plugin| plugin.args.last());
            pods.is_some_and(|mode| mode.text == "verified")
                && autopath.is_some_and(|from| from.text == "@kubernetes")
                && block.plugin("cache").is_some()
        })
}

/// The edits that give the `kubernetes` plugin `pods verified`.
fn verified(kubernetes: &Plugin, layout: &Layout<'_>) -> Vec<Edit> {
    let insert = |at: usize, text: String| vec![Edit { span: at..at, text }];
    let modes: Vec<_> = kubernetes.lines_of("pods").map(|line| (line[0].span.end, line.get(1))).collect();
    if !modes.is_empty() {
        let wrong = modes.into_iter().filter(|(_, mode)| mode.is_none_or(|mode| mode.text != "verified"));
        return wrong
            .map(|(end, mode)| match mode {
                Some(mode) => Edit { span: mode.span.clone(), text: "verified".to_owned() },
                None => Edit { span: end..end, text: " verified".to_owned() },
            })
            .collect();
    }
    let indent = layout.indent(kubernetes.name.span.start);
    let (end, step) = (layout.end, layout.step);
    match (&kubernetes.close, kubernetes.lines.first().and_then(|line| line.first())) {
        (Some(close), first) => {
            // As its neighbours are, where these stand in the same text.
            let at = close.span.start;
            let own = first.filter(|first| kubernetes.name.span.start < first.span.start && first.span.start < at);
            let inner = own.map_or(String::new(), |first| layout.indent(first.span.start));
            let outer = layout.indent(at);
            match inner.strip_prefix(&outer).filter(|more| !more.is_empty()) {
                Some(more) => insert(at, format!("{more}pods verified{end}{outer}")),
                None => insert(at, format!("{step}pods verified{end}{outer}")),
            }
        }
        (None, _) => {
            let last = kubernetes.args.last().unwrap_or(&kubernetes.name).span.end;
            insert(last, format!(" {{{end}{indent}{step}pods verified{end}{indent}}}"))
        }
    }
}

/// How a text is laid out.
struct Layout<'a> {
    text: &'a str,
    /// What ends a line.
    end: &'static str,
    /// By how much a block is set in.
    step: &'static str,
}

impl<'a> Layout<'a> {
    fn of(text: &'a str) -> Self {
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let step = if text.contains("\n\t") { "\t" } else { "    " };
        Self { text, end, step }
    }

    /// The blanks in front of a word; what stands before it on its line is passed over.
    fn indent(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect()
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.help)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: &str = "# ours, see OPS-12\n.:53 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local in-addr.arpa ip6.arpa { # do not touch\n       pods insecure\n       fallthrough in-addr.arpa ip6.arpa\n       ttl 30\n    }\n    prometheus :9153\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30 # seconds\n    loop\n    reload\n    loadbalance\n}\n";

    #[test]
    fn the_corefile_of_kubeadm_gets_one_line_and_one_word() {
        let edited = add(DEFAULT).unwrap();
        let expected = DEFAULT
            .replace("    kubernetes", "    autopath @kubernetes\n    kubernetes")
            .replace("insecure", "verified");
        assert_eq!(edited.text, expected);
        assert_eq!(add(&edited.text).unwrap().edits, []);
    }

    #[test]
    fn every_layout_is_kept() {
        for (before, after) in [
            (
                ".:53 {\n\tkubernetes cluster.local # theirs\n\tforward . 10.0.0.2\n}\n",
                ".:53 {\n\tautopath @kubernetes\n\tcache 30\n\tkubernetes cluster.local {\n\t\tpods verified\n\t} # theirs\n\tforward . 10.0.0.2\n}\n",
            ),
            (
                ". {\r\n  cache\r\n  kubernetes cluster.local {\r\n    ttl 5\r\n  }\r\n  forward . 10.0.0.2\r\n}\r\n",
                ". {\r\n  cache\r\n  autopath @kubernetes\r\n  kubernetes cluster.local {\r\n    ttl 5\r\n    pods verified\r\n  }\r\n  forward . 10.0.0.2\r\n}\r\n",
            ),
            (
                "(k) {\n  kubernetes cluster.local {\n    pods disabled\n    pods insecure\n  }\n}\n.:53 {\n  import k\n  forward . 10.0.0.2\n  cache\n}\n.:5353 {\n  import k\n  forward . 10.0.0.3\n  cache\n}\n",
                "(k) {\n  autopath @kubernetes\n  kubernetes cluster.local {\n    pods verified\n    pods verified\n  }\n}\n.:53 {\n  import k\n  forward . 10.0.0.2\n  cache\n}\n.:5353 {\n  import k\n  forward . 10.0.0.3\n  cache\n}\n",
            ),
            (
                ".:53\nkubernetes \"cluster.local\" {\n}\nforward . 10.0.0.2\ncache",
                ".:53\nautopath @kubernetes\nkubernetes \"cluster.local\" {\n    pods verified\n}\nforward . 10.0.0.2\ncache",
            ),
        ] {
            assert_eq!(add(before).unwrap().text, after);
        }
    }

    /// Each of these made names wrong, or did nothing, on somebody's cluster.
    #[test]
    fn where_it_does_nothing_or_harm_it_is_refused_with_the_place() {
        let block =
            |more: &str| format!(".:53 {{\n  kubernetes cluster.local\n  forward . 10.0.0.2\n  cache\n{more}}}\n");
        for (text, place, why) in [
            ("cluster.local {\n  kubernetes cluster.local\n}\n".to_owned(), "kubernetes", "SERVFAIL"),
            (block("  rewrite name shop.example.com shop.web.svc.cluster.local\n"), "rewrite", "not rewritten"),
            (block("  rewrite stop {\n    name regex (.*) a\n  }\n"), "rewrite", "not rewritten"),
            (block("  import custom/*.override\n"), "custom/*.override", "cannot be seen"),
            (block("  autopath /etc/resolv.conf\n"), "autopath", "another search list"),
            (block("") + "corp.example.com:53 {\n  forward . 10.1.0.1\n}\n", "corp.example.com:53", "of its own"),
            (".:53 {\n  forward . 10.0.0.2\n}\n".to_owned(), "", "no server block"),
            (".:53 {\n  bind 169.254.20.10\n  kubernetes\n}\n".to_owned(), "", "NodeLocal"),
            (".:53 {\n  cache {\n".to_owned(), "{", "not a valid Corefile"),
            (".:53 {\n  kubernetes\n  forward . 10.0.0.2\n  cache {\n  }\n".to_owned(), "{", "never closed"),
        ] {
            let found = add(&text).unwrap_err();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].why.contains(why), "{found:?}");
            assert_eq!(&text[found[0].span.clone()], place);
        }
        for harmless in [
            block("  rewrite ttl exact example.com 30\n"),
            block("") + "10.0.0.0/8 {\n  forward . 10.1.0.1\n}\n",
            block("") + "corp.example.com:5353 {\n  forward . 10.1.0.1\n}\n",
        ] {
            assert!(add(&harmless).is_ok(), "{harmless}");
        }
    }

    #[test]
    fn the_memory_is_counted_by_the_published_formula() {
        let facts = Facts { pods: 40_000, services: 5_000, memory_limit: Some(170 << 20), ..Facts::default() };
        assert_eq!(facts.megabytes(), (99, 236));
        let why = facts.obstacles().remove(0).0;
        assert!(why.contains("236 MB") && why.contains("178 MB"), "{why}");
        assert_eq!(Facts { memory_limit: Some(256 << 20), ..facts }.obstacles(), []);
        let odd = Facts { node_local: true, windows_nodes: 2, host_network: 3, pods: 3, ..Facts::default() };
        assert_eq!(odd.obstacles().len(), 3);
        let some = Facts { host_network: 2, own_search: 1, pods: 9, ..Facts::default() };
        assert_eq!((some.obstacles().len(), some.notes().len()), (0, 2));
    }

    /// Pieces of Corefiles, as people write them and as they should not.
    fn corefiles() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "\n",
            "\n",
            "\n",
            " ",
            "\t",
            "\r\n",
            " {\n",
            "}\n",
            " }\n",
            "{",
            "}",
            "# it's ours\n",
            "#x",
            "\"",
            "\\",
            ",",
            "é",
            ".:53",
            "cluster.local",
            "kubernetes cluster.local",
            "kubernetes cluster.local {\n pods insecure\n}\n",
            "pods ",
            "cache 30\n",
            "forward . 10.0.0.2\n",
            "autopath @kubernetes\n",
            "errors\n",
            "import a\n",
            "(a) {\n",
            ".:53 {\n",
            "\"quoted word\"",
        ]);
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever the text: no panic, and what is edited has autopath, is left alone from then on, and has every other
        /// byte that it had.
        #[test]
        fn an_edit_keeps_every_other_byte(middle in corefiles(), tail in corefiles()) {
            for text in [middle.clone() + &tail, format!(".:53 {{\n  forward . 10.0.0.2\n{middle}\n  kubernetes cluster.local\n{tail}")] {
                let Ok(edited) = add(&text) else { continue };
                prop_assert!(has_it(&edited.text));
                prop_assert_eq!(&add(&edited.text).unwrap().text, &edited.text);
                let mut rest = edited.text.as_str();
                let mut from = 0;
                for edit in &edited.edits {
                    let kept = &text[from..edit.span.start];
                    rest = rest.strip_prefix(kept).unwrap().strip_prefix(edit.text.as_str()).unwrap();
                    from = edit.span.end;
                    prop_assert!(["", "insecure", "disabled"].contains(&&text[edit.span.clone()]) || text[..edit.span.start].contains("pods"));
                }
                prop_assert_eq!(rest, &text[from..]);
            }
        }
    }
}
