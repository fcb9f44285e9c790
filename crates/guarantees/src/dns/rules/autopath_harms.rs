use bedplate_dns::{Corefile, autopath};
use bedplate_model::{Finding, Span};

use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a Corefile in which `autopath @kubernetes` gives wrong answers: its block answers for no outside name, other
    /// zones have blocks of their own, or names are rewritten before it.
    ///
    /// ## Why
    /// autopath looks the names of a pod's search list up itself, and last the name as it stands, with the plugins that come
    /// behind it in its own server block. What another block knows, or `rewrite` would have changed, it does not see: the
    /// name of an internal host gets its public address or SERVFAIL, from one program and not from another, since only a
    /// name under the first search domain is handled so.
    ///
    /// ## Example
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     autopath @kubernetes
    ///     cache 30
    ///     kubernetes cluster.local {
    ///         pods verified
    ///     }
    ///     forward . /etc/resolv.conf {
    ///         max_concurrent 1000
    ///     }
    /// }
    /// corp.example.com:53 {
    ///     cache 30
    ///     forward . 10.1.0.53 {
    ///         max_concurrent 1000
    ///     }
    /// }
    /// ```
    ///
    /// ## Use instead
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     autopath @kubernetes
    ///     cache 30
    ///     kubernetes cluster.local {
    ///         pods verified
    ///     }
    ///     forward corp.example.com 10.1.0.53 {
    ///         max_concurrent 1000
    ///     }
    ///     forward . /etc/resolv.conf {
    ///         max_concurrent 1000
    ///     }
    /// }
    /// ```
    ///
    /// ## Options
    /// None.
    ///
    /// ## Sources
    /// - CoreDNS `plugin/autopath/autopath.go` (it asks `Next`, the plugins behind it), order: `plugin.cfg`;
    ///   `plugin/forward/README.md`: a block may have several.
    "autopath-harms", Dns, Error, High, [Corefile(check)]
}

fn check(text: &str, _: &Context<'_>, out: &mut Findings) {
    let Ok(file) = Corefile::parse(text) else { return };
    for block in file.servers() {
        let Some(autopath) = block.plugin("autopath") else { continue };
        if autopath.args.last().is_none_or(|from| from.text != "@kubernetes") {
            continue;
        }
        for obstacle in autopath::obstacles(&file, block) {
            let span = Span::new(obstacle.span.start, obstacle.span.end);
            let autopath = Span::new(autopath.name.span.start, autopath.name.span.end);
            out.push(Finding::new(span, obstacle.why).related(autopath, "autopath is here").help(obstacle.help));
        }
    }
}
