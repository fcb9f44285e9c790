//! The name by which CoreDNS tells which Corefile it has loaded.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest, Sha512};

use super::{Corefile, Token};

/// As Go's `encoding/json` writes `caddyfile.ServerBlock`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Block<'a> {
    keys: Vec<&'a str>,
    tokens: BTreeMap<&'a str, Vec<Word<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Word<'a> {
    /// Named in words of imported files alone.
    file: &'static str,
    line: usize,
    text: &'a str,
}

impl<'a> Word<'a> {
    fn of(token: &'a Token) -> Self {
        Self { file: "", line: token.line + 1, text: &token.text }
    }
}

impl Corefile {
    /// The hash that a CoreDNS which has loaded this file shows in `coredns_reload_version_info`
    /// (`plugin/reload/reload.go`, with SHA-512: 1.9 and newer); lower-case hexadecimal digits. Nothing where that
    /// depends on what is not seen: imported files, the environment.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let mut blocks = Vec::new();
        for server in self.servers() {
            let mut block =
                Block { keys: server.keys.iter().map(|key| key.text.as_str()).collect(), tokens: BTreeMap::new() };
            for plugin in &server.plugins {
                let words = plugin.words.iter().map(Word::of);
                block.tokens.entry(plugin.name.text.as_str()).or_default().extend(words);
            }
            blocks.push(block);
        }
        let json = if blocks.is_empty() { "null".to_owned() } else { serde_json::to_string(&blocks).ok()? };
        // `{$NAME}` and `{%NAME%}` (`caddyfile/parse.go`, `replaceEnvVars`).
        if !self.unseen.is_empty() || json.contains("{$") || json.contains("{%") {
            return None;
        }
        Some(Sha512::digest(escaped(&json)).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }
}

/// Go escapes what HTML and JavaScript would take for theirs, too.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            _ => text.push(c),
        }
    }
    text
}
