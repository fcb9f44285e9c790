//! Corefiles, read as CoreDNS reads them (`github.com/coredns/caddy`, `caddyfile`): every one that it accepts, and no
//! other. Every word knows its bytes; the text itself is kept by whoever has it, and what is changed is changed there, byte
//! by byte ([`Edit`]): comments, quotes and layout of all the rest stay.

mod digest;
mod lexer;
mod parser;

use std::ops::Range;

/// A word of a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text, without quotes.
    pub text: String,
    /// Its bytes, with quotes.
    pub span: Range<usize>,
    /// The line on which it begins, from 0.
    line: usize,
}

impl Token {
    /// The line on which it ends.
    fn last_line(&self) -> usize {
        self.line + self.text.matches('\n').count()
    }
}

/// A Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corefile {
    /// Its server blocks and snippets, in order.
    pub blocks: Vec<ServerBlock>,
    /// Files that it imports: what is in them is not known. In the order of the text; once for each time.
    pub unseen: Vec<Token>,
    /// What CoreDNS accepts, and nobody can have meant.
    pub oddities: Vec<CorefileError>,
}

/// A server block, or a snippet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerBlock {
    /// Zones with ports, such as `.:53`; of a snippet its name in parentheses.
    pub keys: Vec<Token>,
    /// Its brace, where it has one.
    pub open: Option<Token>,
    /// The brace that ends it.
    pub close: Option<Token>,
    /// Its plugins, with those of the snippets that it imports; of a snippet itself none.
    pub plugins: Vec<Plugin>,
}

/// A plugin's line and its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: Token,
    /// The words behind it.
    pub args: Vec<Token>,
    /// The lines of its block, nested ones too, one after the other.
    pub lines: Vec<Vec<Token>>,
    /// The brace that opens its block.
    pub open: Option<Token>,
    /// The brace that closes it.
    pub close: Option<Token>,
    /// All words of it with the braces, as CoreDNS keeps them.
    words: Vec<Token>,
    /// Whether it stands in a snippet: its bytes are there.
    pub is_imported: bool,
}

/// Why a text is no Corefile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CorefileError {
    /// What was expected.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
}

/// A zone that a server block answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// `dns`, `tls`, `https`, …
    pub transport: String,
    /// In lower case, without its last dot; empty for the root.
    pub name: String,
    /// The port, where the key names one.
    pub port: Option<String>,
}

/// Bytes of a text, and what is put in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes; an empty range inserts.
    pub span: Range<usize>,
    /// What is put there.
    pub text: String,
}

/// A text with edits made; those are in order and do not overlap. All other bytes are as they were.
#[must_use]
pub fn edited(text: &str, edits: &[Edit]) -> String {
    let mut out = String::with_capacity(text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut from = 0;
    for edit in edits {
        out.push_str(text.get(from..edit.span.start).unwrap_or_default());
        out.push_str(&edit.text);
        from = edit.span.end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// The API server refuses ConfigMaps over 1 MiB.
const MAX_BYTES: usize = 1 << 20;

impl Corefile {
    /// Reads a Corefile. References to the environment (`{$NAME}`) stand for themselves.
    ///
    /// # Errors
    /// The first place where it is none.
    pub fn parse(text: &str) -> Result<Self, CorefileError> {
        if text.len() > MAX_BYTES {
            return Err(CorefileError { message: "a Corefile of more than 1 MiB".to_owned(), span: 0..0 });
        }
        parser::parse(&lexer::lex(text), text.len())
    }

    /// The server blocks, without snippets.
    pub fn servers(&self) -> impl Iterator<Item = &ServerBlock> {
        self.blocks.iter().filter(|block| !block.is_snippet())
    }

    /// The server blocks that know the cluster's names, each with the cluster's domain: the first zone of `kubernetes` that
    /// is no reverse one, of its block where it names none (CoreDNS `plugin/kubernetes/setup.go`).
    pub fn clusters(&self) -> impl Iterator<Item = (&ServerBlock, String)> {
        self.servers().filter_map(|block| {
            let args = &block.plugin("kubernetes")?.args;
            let zones = if args.is_empty() { &block.keys } else { args }.iter().map(|key| Zone::of(&key.text));
            let mut domains = zones.filter(|zone| !zone.is_reverse() && !zone.name.is_empty());
            domains.next().map(|zone| (block, zone.name))
        })
    }

    /// Whether this is the configuration of a NodeLocal DNSCache: it binds the link-local
    /// address that the kubelets are told to ask.
    #[must_use]
    pub fn is_node_local(&self) -> bool {
        self.servers().flat_map(|block| &block.plugins).any(|plugin| {
            plugin.name.text == "bind"
                && plugin.args.iter().any(|arg| arg.text.starts_with("169.254.") || arg.text.starts_with("__PILLAR"))
        })
    }
}

impl ServerBlock {
    /// Whether it is a snippet: `(name) { … }`.
    #[must_use]
    pub fn is_snippet(&self) -> bool {
        // A name alone, at the end of the text, is taken for a zone.
        self.snippet_name().is_some() && self.open.is_some()
    }

    /// A single key in parentheses, and nothing else.
    fn snippet_name(&self) -> Option<&str> {
        match self.keys.as_slice() {
            [key] => key.text.strip_prefix('(')?.strip_suffix(')'),
            _ => None,
        }
    }

    /// Its first plugin of a name.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<&Plugin> {
        self.plugins.iter().find(|plugin| plugin.name.text == name)
    }

    /// Its zones, each beside its key.
    pub fn zones(&self) -> impl Iterator<Item = (&Token, Zone)> {
        self.keys.iter().map(|key| (key, Zone::of(&key.text)))
    }
}

impl Plugin {
    /// The line of the plugin's block that begins with a word.
    #[must_use]
    pub fn line(&self, word: &str) -> Option<&[Token]> {
        self.lines_of(word).next()
    }

    /// All of them.
    pub fn lines_of<'a, 'w>(&'a self, word: &'w str) -> impl Iterator<Item = &'a [Token]> + use<'a, 'w> {
        self.lines.iter().filter(move |line| line.first().is_some_and(|token| token.text == word)).map(Vec::as_slice)
    }
}

impl Zone {
    /// A key's: `.:53`, `tls://example.org`, `10.0.0.0/24` (CoreDNS `plugin/normalize.go`, `core/dnsserver/address.go`).
    #[must_use]
    pub fn of(key: &str) -> Self {
        let (transport, rest) = key.split_once("://").unwrap_or(("dns", key));
        let (name, port) = match rest.rsplit_once(':') {
            // An IPv6 prefix has colons of its own.
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') => {
                (name, Some(port.to_owned()))
            }
            _ => (rest, None),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        Self { transport: transport.to_owned(), name, port }
    }

    /// Whether it holds names of addresses.
    #[must_use]
    pub fn is_reverse(&self) -> bool {
        self.name.contains('/') || self.name.ends_with("in-addr.arpa") || self.name.ends_with("ip6.arpa")
    }

    /// Whether a name of this zone is one of the other's, too.
    #[must_use]
    pub fn is_within(&self, other: &str) -> bool {
        other.is_empty() || self.name.strip_suffix(other).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: &str = "# cluster DNS\n.:53 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local in-addr.arpa {\n       pods insecure\n    }\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30\n}\n";

    #[test]
    fn the_clusters_domain_is_the_first_zone_of_kubernetes_that_is_no_reverse_one() {
        let domains = |text: &str| {
            let file = Corefile::parse(text).unwrap();
            file.clusters().map(|(_, domain)| domain).collect::<Vec<_>>()
        };
        assert_eq!(domains(".:53 {\n  kubernetes in-addr.arpa cluster.local ip6.arpa\n}\n"), ["cluster.local"]);
        assert_eq!(domains("k8s.example.:53 10.0.0.0/8 {\n  kubernetes\n}\n"), ["k8s.example"]);
        assert_eq!(domains(". {\n  kubernetes\n}\nexample.org {\n  whoami\n}\n"), [""; 0]);
    }

    #[test]
    fn the_default_corefile_is_read_with_every_byte_in_place() {
        let file = Corefile::parse(DEFAULT).unwrap();
        let block = &file.blocks[0];
        let names: Vec<_> = block.plugins.iter().map(|p| p.name.text.as_str()).collect();
        assert_eq!(names, ["errors", "health", "ready", "kubernetes", "forward", "cache"]);
        let pods = block.plugins[3].line("pods").unwrap();
        assert_eq!(&DEFAULT[pods[1].span.clone()], "insecure");
    }

    #[test]
    fn snippets_lists_of_keys_and_files_without_braces_are_read() {
        let file = Corefile::parse("(base) {\n  cache\n}\na.org,\nb.org:53 {\n  import base\n}\n").unwrap();
        assert_eq!(file.servers().count(), 1);
        let server = file.servers().next().unwrap();
        assert_eq!(server.keys.len(), 2);
        assert_eq!(server.plugins[0].name.text, "cache");
        let file = Corefile::parse(".:53\r\nforward . \"/etc/resolv.conf\"\r\ncache\r\n").unwrap();
        assert_eq!(file.blocks[0].plugins.len(), 2);
        assert_eq!(file.blocks[0].plugins[0].args[1].text, "/etc/resolv.conf");
    }

    /// Found by fuzzing: a snippet that imports itself thirty times took two gigabytes.
    #[test]
    fn snippets_that_import_each_other_end() {
        let imports = |name: &str| format!("  import {name}\n").repeat(30);
        let text = format!("(a) {{\n  cache\n{}}}\n.:53 {{\n  import a\n}}\n", imports("a"));
        assert!(Corefile::parse(&text).unwrap_err().message.contains("imports itself"));
        let text = format!("(a) {{\n{}}}\n(b) {{\n{}}}\n.:53 {{\n  import a\n}}\n", imports("b"), imports("a"));
        assert!(Corefile::parse(&text).unwrap_err().message.contains("again and again"));
        // One that comes before its snippet means a file.
        let file = Corefile::parse(".:53 {\n  import a\n  cache\n}\n(a) {\n  ready\n}\n").unwrap();
        assert_eq!((file.unseen.len(), file.servers().next().unwrap().plugins.len()), (1, 1));
    }

    /// Each of these was read otherwise here than by CoreDNS.
    #[test]
    fn words_are_cut_where_coredns_cuts_them() {
        let words = |text: &str| -> Vec<String> { lexer::lex(text).into_iter().map(|token| token.text).collect() };
        assert_eq!(words("forward#x y . 10.0.0.2"), ["forward", "y", ".", "10.0.0.2"]);
        assert_eq!(words(r#""a\\" "b\" c""#), [r"a\\", r#"b" c"#]);
        assert_eq!(words("\"a\r\nb\" c\rd"), ["a\r\nb", "cd"]);
        assert_eq!(words("\"\" \"open"), ["", "open"]);
        // Quotes make no difference to a brace.
        assert_eq!(Corefile::parse(".:53 \"{\"\n  cache\n}\n").unwrap().blocks[0].plugins.len(), 1);
    }

    #[test]
    fn what_coredns_passes_over_is_told_with_its_place() {
        let error = Corefile::parse(".:53 {\n  cache {\n").unwrap_err();
        assert_eq!((error.message.as_str(), error.span), ("this `{` is never closed", 15..16));
        for (text, span) in
            [(".:53 {\n  cache {\n  }\n", 5..6), ("}\n", 0..1), ("{\n}\n", 0..1), (".:53\ncache\n}\n", 11..12)]
        {
            let file = Corefile::parse(text).unwrap();
            assert_eq!(file.oddities.iter().map(|odd| odd.span.clone()).collect::<Vec<_>>(), [span], "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall(text in "[ \\n\\r{}\"\\\\#a.,()é]{0,60}") {
            if let Ok(file) = Corefile::parse(&text) {
                for plugin in file.blocks.iter().flat_map(|block| &block.plugins) {
                    prop_assert!(text.get(plugin.name.span.clone()).is_some());
                }
            }
        }
    }
}
