use bedplate_dns::Corefile;
use bedplate_model::Finding;

use crate::dns::corefiles;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a Corefile for the cluster without `health` or without `ready`.
    ///
    /// ## Why
    /// The CoreDNS deployment probes `:8080/health` and `:8181/ready`. Without the plugins the
    /// probes fail and the pods are restarted for ever, or they were taken away and a CoreDNS
    /// that has not synchronised yet answers NXDOMAIN for every Service.
    ///
    /// ## Example
    /// ```corefile
    /// .:53 {
    ///     kubernetes cluster.local
    ///     cache 30
    ///     forward . /etc/resolv.conf {
    ///         max_concurrent 1000
    ///     }
    /// }
    /// ```
    ///
    /// ## Use instead
    /// ```corefile
    /// .:53 {
    ///     health {
    ///         lameduck 5s
    ///     }
    ///     ready
    ///     kubernetes cluster.local
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
    /// - CoreDNS `plugin/health/README.md`, `plugin/ready/README.md`.
    "no-ready-or-health", Dns, Error, High, [Corefile(check)]
}

fn check(text: &str, _: &Context<'_>, out: &mut Findings) {
    let Ok(file) = Corefile::parse(text) else { return };
    // One block with them is enough for the whole process.
    let missing: Vec<_> = ["health", "ready"]
        .into_iter()
        .filter(|name| !file.servers().any(|block| block.plugin(name).is_some()))
        .collect();
    corefiles::servers(text, |_, plugins| {
        let Some(kubernetes) = corefiles::plugin(plugins, "kubernetes").filter(|_| !missing.is_empty()) else { return };
        let names = missing.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
        out.push(
            Finding::new(
                corefiles::span(&kubernetes.name),
                format!("this CoreDNS has no {names}: its probes cannot tell whether it works"),
            )
            .help(format!("add {names} to the server block")),
        );
    });
}
