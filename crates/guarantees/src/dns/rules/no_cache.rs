use bedplate_model::Finding;

use crate::dns::corefiles;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a server block that forwards or answers for the cluster without `cache`.
    ///
    /// ## Why
    /// A data loader asks for the same few names again and again. Without a cache each is a
    /// query to the upstream, which limits the rate (1024 packets a second and interface on
    /// AWS) and drops what is over it.
    ///
    /// ## Example
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     forward . /etc/resolv.conf {
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
    /// - CoreDNS `plugin/cache/README.md`; the Corefile that kubeadm writes.
    "no-cache", Dns, Warning, High, [Corefile(check)]
}

fn check(text: &str, _: &Context<'_>, out: &mut Findings) {
    corefiles::servers(text, |_, plugins| {
        let works = ["forward", "kubernetes"].into_iter().find_map(|name| corefiles::plugin(plugins, name));
        if let Some(works) = works.filter(|_| corefiles::plugin(plugins, "cache").is_none()) {
            out.push(
                Finding::new(
                    corefiles::span(&works.name),
                    "no `cache` in this server block: every lookup is a query upstream",
                )
                .help("add `cache 30` to the block"),
            );
        }
    });
}
