use bedplate_model::Finding;

use crate::dns::corefiles;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a `forward` without `max_concurrent`.
    ///
    /// ## Why
    /// When the upstream is slow, every waiting query keeps its memory (about 2 KB). A flood of
    /// lookups then grows CoreDNS until it is killed, and names inside the cluster are gone
    /// with it. With a bound the surplus is refused at once and the rest works.
    ///
    /// ## Example
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     cache 30
    ///     forward . /etc/resolv.conf
    /// }
    /// ```
    ///
    /// ## Use instead
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     cache 30
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
    /// - CoreDNS `plugin/forward/README.md`, `max_concurrent`.
    "unbounded-forward", Dns, Warning, High, [Corefile(check)]
}

fn check(text: &str, _: &Context<'_>, out: &mut Findings) {
    corefiles::servers(text, |_, plugins| {
        let Some(forward) = corefiles::plugin(plugins, "forward") else { return };
        if forward.line("max_concurrent").is_none() {
            out.push(
                Finding::new(
                    corefiles::span(&forward.name),
                    "`forward` has no bound: a slow upstream grows CoreDNS until it is killed",
                )
                .help("add `max_concurrent 1000` to its block"),
            );
        }
    });
}
