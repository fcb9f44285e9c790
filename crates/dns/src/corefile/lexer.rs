//! Words of a Corefile, as `github.com/coredns/caddy`, `caddyfile/lexer.go`, cuts them.

use super::Token;

/// Cuts a text into words.
///
/// As CoreDNS does it, and no other way: a `#` begins a comment wherever it stands, also in a word, which goes on to the
/// first space behind it and leaves what follows on the line in force; a carriage return ends no word and is in none; a
/// quote has a meaning only where a word begins; in quotes a backslash escapes nothing but a quote.
pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut chars = text.char_indices();
    if text.starts_with('\u{feff}') {
        chars.next();
    }
    let mut tokens = Vec::new();
    let mut line = 0;
    while let Some(token) = next(&mut chars, &mut line, text.len()) {
        tokens.push(token);
    }
    tokens
}

fn next(chars: &mut std::str::CharIndices<'_>, line: &mut usize, end_of_text: usize) -> Option<Token> {
    let mut token: Option<Token> = None;
    let (mut comment, mut quoted, mut escaped) = (false, false, false);
    for (at, c) in chars.by_ref() {
        if quoted {
            // A quote was seen, so there is a token.
            let word = token.as_mut()?;
            match c {
                '\\' if !escaped => {
                    escaped = true;
                    continue;
                }
                '"' if !escaped => {
                    word.span.end = at + 1;
                    return token;
                }
                _ => {}
            }
            if c == '\n' {
                *line += 1;
            }
            if escaped && c != '"' {
                word.text.push('\\');
            }
            word.text.push(c);
            escaped = false;
            continue;
        }
        if c.is_whitespace() {
            if c == '\r' {
                continue;
            }
            let begun = token.is_some();
            if c == '\n' {
                *line += 1;
                comment = false;
            }
            if begun {
                return token;
            }
            continue;
        }
        comment |= c == '#';
        if comment {
            continue;
        }
        match &mut token {
            None => {
                quoted = c == '"';
                let text = if quoted { String::new() } else { c.to_string() };
                token = Some(Token { text, span: at..at + c.len_utf8(), line: *line });
            }
            Some(word) => {
                word.text.push(c);
                word.span.end = at + c.len_utf8();
            }
        }
    }
    // Quotes that are never closed hold all that follows, where that is anything.
    let mut last = token.filter(|token| !token.text.is_empty())?;
    if quoted {
        last.span.end = end_of_text;
    }
    Some(last)
}
