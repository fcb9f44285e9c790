//! Corefiles, read as CoreDNS reads them (`github.com/coredns/caddy`, `caddyfile/lexer.go` and
//! `parse.go`). Every token knows its bytes; the text itself is kept by whoever has it.

use std::collections::HashSet;
use std::ops::Range;

/// A word of a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The text, without quotes.
    pub text: String,
    /// Its bytes, with quotes.
    pub span: Range<usize>,
    /// Its line, from 0.
    line: usize,
    quoted: bool,
}

/// A Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Corefile {
    /// Its server blocks and snippets, in order.
    pub blocks: Vec<ServerBlock>,
}

/// A server block, or a snippet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerBlock {
    /// Zones with ports, such as `.:53`; of a snippet its name in parentheses.
    pub keys: Vec<Token>,
    /// Its plugins.
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

/// The API server refuses ConfigMaps over 1 MiB.
const MAX_BYTES: usize = 1 << 20;

impl Corefile {
    /// Reads a Corefile.
    ///
    /// # Errors
    /// The first place where it is none.
    pub fn parse(text: &str) -> Result<Self, CorefileError> {
        if text.len() > MAX_BYTES {
            return Err(CorefileError { message: "a Corefile of more than 1 MiB".to_owned(), span: 0..0 });
        }
        let tokens = lex(text);
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            at = block(&tokens, at, text.len(), &mut blocks)?;
        }
        Ok(Self { blocks })
    }

    /// The server blocks, without snippets.
    pub fn servers(&self) -> impl Iterator<Item = &ServerBlock> {
        self.blocks.iter().filter(|block| !block.is_snippet())
    }

    /// The plugins of a block, with those of the snippets that it imports. A snippet counts
    /// once: a plugin of the same name twice configures nothing new, and files whose snippets
    /// import each other stay linear.
    #[must_use]
    pub fn plugins<'a>(&'a self, block: &'a ServerBlock) -> Vec<&'a Plugin> {
        let mut found = Vec::new();
        self.collect(block, &mut found, &mut HashSet::new());
        found
    }

    fn collect<'a>(&'a self, block: &'a ServerBlock, found: &mut Vec<&'a Plugin>, seen: &mut HashSet<&'a str>) {
        for plugin in &block.plugins {
            let name = plugin.args.first().filter(|_| plugin.name.text == "import").map(|arg| arg.text.as_str());
            match name.and_then(|name| self.snippet(name)) {
                Some((name, snippet)) => {
                    if seen.insert(name) {
                        self.collect(snippet, found, seen);
                    }
                }
                None => found.push(plugin),
            }
        }
    }

    fn snippet(&self, name: &str) -> Option<(&str, &ServerBlock)> {
        self.blocks.iter().find_map(|block| (block.snippet_name()? == name).then_some((block.snippet_name()?, block)))
    }

    /// Whether this is the configuration of a NodeLocal DNSCache: it binds the link-local
    /// address that the kubelets are told to ask.
    #[must_use]
    pub fn is_node_local(&self) -> bool {
        self.servers().flat_map(|block| self.plugins(block)).any(|plugin| {
            plugin.name.text == "bind"
                && plugin.args.iter().any(|arg| arg.text.starts_with("169.254.") || arg.text.starts_with("__PILLAR"))
        })
    }
}

impl ServerBlock {
    /// Whether it is a snippet: `(name) { … }`.
    #[must_use]
    pub fn is_snippet(&self) -> bool {
        self.snippet_name().is_some()
    }

    fn snippet_name(&self) -> Option<&str> {
        self.keys.first()?.text.strip_prefix('(')?.strip_suffix(')')
    }
}

impl Plugin {
    /// The line of the plugin's block that begins with a word.
    #[must_use]
    pub fn line(&self, word: &str) -> Option<&[Token]> {
        self.lines.iter().find(|line| line.first().is_some_and(|token| token.text == word)).map(Vec::as_slice)
    }
}

/// Cuts a text into words. A `#` begins a comment only where a word would begin; quotes may
/// span lines, and `\"` stands for a quote in them.
fn lex(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 0;
    let mut chars = text.char_indices().peekable();
    if text.starts_with('\u{feff}') {
        chars.next();
    }
    while let Some((start, c)) = chars.next() {
        if c == '\n' {
            line += 1;
        }
        if c.is_whitespace() {
            continue;
        }
        if c == '#' {
            while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            continue;
        }
        let first_line = line;
        let mut word = String::new();
        let mut end = start + c.len_utf8();
        if c == '"' {
            while let Some((at, c)) = chars.next() {
                end = at + c.len_utf8();
                if c == '\n' {
                    line += 1;
                }
                if c == '"' {
                    break;
                }
                let escaped = (c == '\\').then(|| chars.next_if(|(_, next)| *next == '"')).flatten();
                match escaped {
                    Some((at, quote)) => {
                        end = at + 1;
                        word.push(quote);
                    }
                    None if c == '\r' => {}
                    None => word.push(c),
                }
            }
        } else {
            word.push(c);
            while let Some((at, c)) = chars.next_if(|(_, c)| !c.is_whitespace()) {
                end = at + c.len_utf8();
                word.push(c);
            }
        }
        tokens.push(Token { text: word, span: start..end, line: first_line, quoted: c == '"' });
    }
    tokens
}

fn is(token: &Token, brace: &str) -> bool {
    token.text == brace && !token.quoted
}

/// Reads one block from `at`; gives where the next begins.
fn block(tokens: &[Token], mut at: usize, end: usize, blocks: &mut Vec<ServerBlock>) -> Result<usize, CorefileError> {
    let fail = |message: &str, token: Option<&Token>| CorefileError {
        message: message.to_owned(),
        span: token.map_or(end..end, |token| token.span.clone()),
    };
    let mut keys = Vec::new();
    let mut braces = false;
    while let Some(token) = tokens.get(at) {
        if is(token, "{") {
            braces = true;
            at += 1;
            break;
        }
        // Keys go on over a line end only behind a comma.
        let comma = keys.last().is_some_and(|key: &Token| key.text.ends_with(','));
        if !comma && keys.last().is_some_and(|key| key.line != token.line) {
            break;
        }
        if is(token, "}") {
            return Err(fail("a `}` that closes nothing", Some(token)));
        }
        keys.push(token.clone());
        at += 1;
    }
    if keys.is_empty() {
        return Err(fail("expected a zone in front of `{`", tokens.get(at.saturating_sub(1))));
    }
    // `import` at the top names snippets or files.
    if !braces && keys[0].text == "import" {
        return Ok(at);
    }
    for key in &mut keys {
        key.text = key.text.trim_end_matches(',').to_owned();
    }
    keys.retain(|key| !key.text.is_empty());
    let opened = tokens.get(at.saturating_sub(1)).cloned();
    let mut plugins: Vec<Plugin> = Vec::new();
    loop {
        let Some(token) = tokens.get(at) else {
            if braces {
                return Err(fail("this `{` is never closed", opened.as_ref()));
            }
            break;
        };
        if is(token, "}") {
            if !braces {
                return Err(fail("a `}` that closes nothing", Some(token)));
            }
            at += 1;
            break;
        }
        if is(token, "{") {
            return Err(fail("expected a plugin, found `{`", Some(token)));
        }
        let mut plugin = Plugin { name: token.clone(), args: Vec::new(), lines: Vec::new() };
        at += 1;
        while let Some(arg) =
            tokens.get(at).filter(|arg| arg.line == plugin.name.line && !is(arg, "{") && !is(arg, "}"))
        {
            plugin.args.push(arg.clone());
            at += 1;
        }
        if let Some(open) = tokens.get(at).filter(|open| is(open, "{") && open.line == plugin.name.line) {
            at += 1;
            let mut depth = 1;
            while depth > 0 {
                let Some(token) = tokens.get(at) else {
                    return Err(fail("this `{` is never closed", Some(open)));
                };
                at += 1;
                if is(token, "{") {
                    depth += 1;
                } else if is(token, "}") {
                    depth -= 1;
                } else {
                    match plugin.lines.last_mut().filter(|line| line.last().is_some_and(|last| last.line == token.line))
                    {
                        Some(line) => line.push(token.clone()),
                        None => plugin.lines.push(vec![token.clone()]),
                    }
                }
            }
        }
        plugins.push(plugin);
    }
    blocks.push(ServerBlock { keys, plugins });
    Ok(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: &str = "# cluster DNS\n.:53 {\n    errors\n    health {\n       lameduck 5s\n    }\n    ready\n    kubernetes cluster.local in-addr.arpa {\n       pods insecure\n    }\n    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n    cache 30\n}\n";

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
        assert_eq!(file.plugins(server)[0].name.text, "cache");
        let file = Corefile::parse(".:53\r\nforward . \"/etc/resolv.conf\"\r\ncache\r\n").unwrap();
        assert_eq!(file.blocks[0].plugins.len(), 2);
        assert_eq!(file.blocks[0].plugins[0].args[1].text, "/etc/resolv.conf");
    }

    /// Found by fuzzing: a snippet that imports itself thirty times took two gigabytes.
    #[test]
    fn snippets_that_import_each_other_are_read_once() {
        let imports = "  import a\n  import b\n".repeat(30);
        let text =
            format!("(a) {{\n  cache\n{imports}}}\n(b) {{\n  ready\n{imports}}}\n.:53 {{\n  import a\n  errors\n}}\n");
        let file = Corefile::parse(&text).unwrap();
        let server = file.servers().next().unwrap();
        let names: Vec<_> = file.plugins(server).iter().map(|p| p.name.text.as_str()).collect();
        assert_eq!(names, ["cache", "ready", "errors"]);
    }

    #[test]
    fn an_open_brace_is_told_with_its_place() {
        let error = Corefile::parse(".:53 {\n  cache {\n}\n").unwrap_err();
        assert_eq!((error.message.as_str(), error.span), ("this `{` is never closed", 5..6));
        assert!(Corefile::parse("}\n").is_err() && Corefile::parse("{\n}\n").is_err());
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
