//! Corefiles as rules want them.

use bedplate_dns::{Corefile, Plugin, ServerBlock};
use bedplate_model::Span;

/// The server blocks of a Corefile with their plugins; nothing for one that is not valid, and
/// for a NodeLocal DNSCache, which follows other rules.
pub(super) fn servers(text: &str, judge: impl FnMut(&ServerBlock, &[&Plugin])) {
    let Ok(file) = Corefile::parse(text) else { return };
    if file.is_node_local() {
        return;
    }
    let mut judge = judge;
    for block in file.servers() {
        judge(block, &block.plugins.iter().collect::<Vec<_>>());
    }
}

/// The plugin of a name.
pub(super) fn plugin<'a>(plugins: &[&'a Plugin], name: &str) -> Option<&'a Plugin> {
    plugins.iter().find(|plugin| plugin.name.text == name).copied()
}

/// A token's bytes.
pub(super) const fn span(token: &bedplate_dns::Token) -> Span {
    Span::new(token.span.start, token.span.end)
}
