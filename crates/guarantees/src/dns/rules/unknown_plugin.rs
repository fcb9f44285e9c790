use bedplate_dns::Corefile;
use bedplate_dns::plugins::{self, PLUGINS, VERSION};
use bedplate_model::{Finding, profile};

use crate::dns::corefiles;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a plugin in a Corefile that CoreDNS is not built with.
    ///
    /// ## Why
    /// CoreDNS reads the whole Corefile before it serves: a slip of the pen in one line, and no pod of it starts again. One
    /// that runs keeps the old file, says so in its log alone, and falls at its next restart: that of its node's upgrade.
    ///
    /// ## Example
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     cache 30
    ///     kuberntes cluster.local
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
    ///     kubernetes cluster.local
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
    /// - CoreDNS 1.15 `plugin.cfg`; `github.com/coredns/caddy`, `caddyfile/parse.go` (`directive`). A build of your own may
    ///   have more.
    "unknown-plugin", Dns, Error, Medium, [Corefile(check)]
}

fn check(text: &str, _: &Context<'_>, out: &mut Findings) {
    let Ok(file) = Corefile::parse(text) else { return };
    let mut seen = Vec::new();
    for plugin in file.servers().flat_map(|block| &block.plugins) {
        let name = plugin.name.text.as_str();
        // The environment may name it.
        if plugins::place(name).is_some()
            || name.contains("{$")
            || name.contains("{%")
            || seen.contains(&plugin.name.span)
        {
            continue;
        }
        // What several blocks import is told once.
        seen.push(plugin.name.span.clone());
        let help = match profile::nearest(name, PLUGINS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "take it away, or build CoreDNS with it".to_owned(),
        };
        out.push(
            Finding::new(
                corefiles::span(&plugin.name),
                format!("CoreDNS {VERSION} has no plugin `{name}`: it does not start with this Corefile"),
            )
            .help(help),
        );
    }
}
