//! Server blocks out of words, as `github.com/coredns/caddy`, `caddyfile/parse.go`, makes them: what it accepts is accepted
//! here, and what it refuses is refused. What it accepts though nobody can have meant it is told of
//! ([`Corefile::oddities`]).

use std::collections::HashMap;
use std::rc::Rc;

use super::{Corefile, CorefileError, Plugin, ServerBlock, Token};

/// Most snippets that are put in place of their imports (`maxSnippetExpansions`).
const MOST_IMPORTS: usize = 10_000;

/// Most words with those of imported snippets: CoreDNS has no such bound, and takes gigabytes for some files of a few lines.
const MOST_WORDS: usize = 1 << 20;

type Parsed<T> = Result<T, CorefileError>;

pub(super) fn parse(tokens: &[Token], end: usize) -> Parsed<Corefile> {
    let mut parser = Parser {
        tokens,
        end,
        rest: (0..tokens.len()).rev().collect(),
        at: None,
        before: None,
        snippets: HashMap::new(),
        of_snippets: vec![false; tokens.len()],
        imports: 0,
        words: tokens.len(),
        file: Corefile::default(),
    };
    while parser.next() {
        parser.block()?;
    }
    Ok(parser.file)
}

/// Words are named by their place in the text: an imported snippet's come more than once.
struct Parser<'a> {
    tokens: &'a [Token],
    end: usize,
    /// What is still to be read, the next one last.
    rest: Vec<usize>,
    /// The word that is looked at.
    at: Option<usize>,
    /// The one before it, where it matters.
    before: Option<usize>,
    /// The words of each snippet.
    snippets: HashMap<String, Rc<[usize]>>,
    /// Whether a word is one of a snippet.
    of_snippets: Vec<bool>,
    imports: usize,
    words: usize,
    file: Corefile,
}

impl<'a> Parser<'a> {
    /// Goes to the next word; stays at the last one.
    fn next(&mut self) -> bool {
        let Some(next) = self.rest.pop() else { return false };
        self.before = self.at;
        self.at = Some(next);
        true
    }

    /// Goes back by one word.
    fn back(&mut self) {
        self.rest.extend(self.at);
        self.at = self.before.take();
    }

    fn token(&self) -> Option<&'a Token> {
        self.tokens.get(self.at?)
    }

    fn text(&self) -> &'a str {
        self.token().map_or("", |token| &token.text)
    }

    /// Whether this word begins a line.
    fn begins_line(&self) -> bool {
        match (self.before.and_then(|before| self.tokens.get(before)), self.token()) {
            (Some(before), Some(token)) => before.last_line() < token.line,
            (None, _) => true,
            (_, None) => false,
        }
    }

    /// Goes to the next word of the same line.
    fn next_of_line(&mut self) -> bool {
        let next = self.rest.last().and_then(|next| self.tokens.get(*next));
        let same = self.token().zip(next).is_some_and(|(token, next)| token.last_line() == next.line);
        same && self.next()
    }

    fn fail<T>(&self, message: impl Into<String>, place: Option<&Token>) -> Parsed<T> {
        let span = place.map_or(self.end..self.end, |token| token.span.clone());
        Err(CorefileError { message: message.into(), span })
    }

    fn odd(&mut self, message: &str, place: Option<&Token>) {
        let span = place.map_or(self.end..self.end, |token| token.span.clone());
        self.file.oddities.push(CorefileError { message: message.to_owned(), span });
    }

    /// A server block, or a snippet.
    fn block(&mut self) -> Parsed<()> {
        let mut block = ServerBlock::default();
        if self.keys(&mut block)? {
            if let Some(name) = block.keys.first().filter(|_| block.snippet_name().is_some()) {
                self.odd("a snippet without a block; CoreDNS takes its name for a zone", Some(name));
            }
            self.file.blocks.push(block);
            return Ok(());
        }
        if block.snippet_name().is_some() {
            return self.snippet(block);
        }
        let open = self.token().filter(|token| token.text == "{");
        match open {
            Some(open) => block.open = Some(open.clone()),
            None => self.back(),
        }
        self.plugins(&mut block)?;
        if let Some(open) = open {
            if self.text() != "}" {
                return self.fail("this `{` is never closed", Some(open));
            }
            // Where the text ends behind a plugin's own block, its brace is taken for this one's, too.
            block.close = self.token().filter(|_| self.ends_block(&block)).cloned();
            if block.close.is_none() {
                self.odd("this `{` is never closed; CoreDNS takes the last `}` for it", Some(open));
            }
        } else if let Some(stray) = self.token().filter(|token| token.text == "}" && self.ends_block(&block)) {
            self.odd("a `}` that closes nothing; CoreDNS passes it over", Some(stray));
        }
        if block.keys.is_empty() {
            self.odd("expected a zone in front of `{`; CoreDNS passes the whole block over", open);
        } else {
            self.file.blocks.push(block);
        }
        Ok(())
    }

    /// Whether the word that is looked at is a brace of its own and none of a plugin.
    fn ends_block(&self, block: &ServerBlock) -> bool {
        block.plugins.iter().all(|plugin| plugin.close.as_ref() != self.token())
    }

    /// Reads the zones of a block up to its first word behind them; gives whether the text ends there.
    fn keys(&mut self, block: &mut ServerBlock) -> Parsed<bool> {
        let mut another = false;
        loop {
            let Some(token) = self.token() else { return Ok(true) };
            if token.text == "import" && self.begins_line() {
                self.import()?;
                if self.next() {
                    continue;
                }
                return if another { self.fail("expected another zone behind the `,`", None) } else { Ok(true) };
            }
            if token.text == "{" {
                if another {
                    return self.fail("expected another zone behind the `,`, found `{`", Some(token));
                }
                return Ok(false);
            }
            if !token.text.is_empty() {
                if token.text == "}" {
                    self.odd("a `}` that closes nothing; CoreDNS takes it for a zone", Some(token));
                }
                let key = token.text.strip_suffix(',');
                another = key.is_some();
                block.keys.push(Token { text: key.unwrap_or(&token.text).to_owned(), ..token.clone() });
            }
            if !self.next() {
                return if another { self.fail("expected another zone behind the `,`", None) } else { Ok(true) };
            }
            if !another && self.begins_line() {
                return Ok(false);
            }
        }
    }

    /// Keeps the words of a snippet. What it imports is put in its place where it is imported itself.
    fn snippet(&mut self, mut block: ServerBlock) -> Parsed<()> {
        let name = block.snippet_name().unwrap_or_default().to_owned();
        let key = block.keys.first();
        if self.snippets.contains_key(&name) {
            return self.fail(format!("the snippet `({name})` is there already"), key);
        }
        let Some(open) = self.token().filter(|token| token.text == "{") else {
            return self.fail("expected `{` behind the name of a snippet", self.token().or(key));
        };
        let mut words = Vec::new();
        let mut depth = 1;
        while self.next() {
            match self.text() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            words.extend(self.at);
        }
        if depth > 0 {
            return self.fail("this `{` is never closed", Some(open));
        }
        let tokens: Vec<&Token> = words.iter().filter_map(|at| self.tokens.get(*at)).collect();
        for (at, pair) in tokens.windows(2).enumerate() {
            let begins = at == 0 || tokens[at - 1].line != pair[0].line;
            if begins && pair[0].text == "import" && pair[1].text == name {
                return self.fail(format!("the snippet `({name})` imports itself"), Some(pair[0]));
            }
        }
        words.iter().for_each(|at| self.of_snippets[*at] = true);
        (block.open, block.close) = (Some(open.clone()), self.token().cloned());
        self.snippets.insert(name, words.into());
        self.file.blocks.push(block);
        Ok(())
    }

    /// Reads plugins up to the brace that ends the block, or the end of the text.
    fn plugins(&mut self, block: &mut ServerBlock) -> Parsed<()> {
        while self.next() {
            match self.text() {
                "}" => break,
                "import" => self.import()?,
                _ => {
                    let plugin = self.plugin()?;
                    block.plugins.push(plugin);
                }
            }
        }
        Ok(())
    }

    fn plugin(&mut self) -> Parsed<Plugin> {
        let Some(name) = self.token() else { return self.fail("expected a plugin", None) };
        if name.text == "{" {
            self.odd("expected a plugin, found `{`", Some(name));
        }
        let is_imported = self.at.is_some_and(|at| self.of_snippets[at]);
        let mut plugin = Plugin {
            name: name.clone(),
            args: Vec::new(),
            lines: Vec::new(),
            open: None,
            close: None,
            words: vec![name.clone()],
            is_imported,
        };
        let mut depth = 0;
        while self.next() {
            let Some(token) = self.token() else { break };
            match token.text.as_str() {
                "{" => {
                    depth += 1;
                    plugin.open.get_or_insert_with(|| token.clone());
                }
                _ if depth == 0 && self.begins_line() => {
                    self.back();
                    break;
                }
                "}" if depth == 0 => return self.fail("a `}` that closes nothing", Some(token)),
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        plugin.close = Some(token.clone());
                    }
                }
                "import" if self.begins_line() => {
                    self.import()?;
                    continue;
                }
                _ if depth == 0 && plugin.open.is_none() => plugin.args.push(token.clone()),
                _ => match plugin.lines.last_mut() {
                    Some(line) if line.last().is_some_and(|last| last.last_line() == token.line) => {
                        line.push(token.clone());
                    }
                    _ => plugin.lines.push(vec![token.clone()]),
                },
            }
            plugin.words.push(token.clone());
        }
        if depth > 0 {
            return self.fail("this `{` is never closed", plugin.open.as_ref());
        }
        Ok(plugin)
    }

    /// Puts the words of a snippet in place of its import, and goes back to the word before it. Files are not seen: what
    /// they hold is nothing here.
    fn import(&mut self) -> Parsed<()> {
        let before = self.before;
        let word = self.token();
        if !self.next_of_line() {
            return self.fail("`import` of what? Expected a snippet or a file", word);
        }
        let Some(name) = self.token() else { return Ok(()) };
        if name.text.is_empty() {
            return self.fail("`import` of nothing", Some(name));
        }
        if self.next_of_line() {
            return self.fail("`import` takes one snippet or file", self.token());
        }
        match self.snippets.get(name.text.as_str()).cloned() {
            Some(words) => {
                self.imports += 1;
                self.words += words.len();
                if self.imports > MOST_IMPORTS || self.words > MOST_WORDS {
                    return self.fail("snippets that import each other again and again", Some(name));
                }
                self.rest.extend(words.iter().rev());
            }
            None => {
                let count = |wildcard| name.text.matches(wildcard).count();
                if count('*') > 1 || count('?') > 1 || name.text.contains('[') && name.text.contains(']') {
                    return self.fail("a pattern may have one wildcard", Some(name));
                }
                self.file.unseen.push(name.clone());
            }
        }
        (self.at, self.before) = (before, None);
        Ok(())
    }
}
