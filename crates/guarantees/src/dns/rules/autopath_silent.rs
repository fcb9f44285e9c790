use bedplate_model::{Edit, Finding, Fix, Span};

use crate::dns::corefiles;
use crate::{Context, Findings, rule};

rule! {
    /// ## What it does
    /// Finds a Corefile in which `autopath @kubernetes` does nothing: the `kubernetes` plugin
    /// lacks `pods verified` or is not in the block, or a NodeLocal DNSCache stands in front.
    ///
    /// ## Why
    /// autopath answers an outside name at the first query, so that eight become two. To know a
    /// pod's search list it looks the pod up by its address; without `pods verified` CoreDNS
    /// keeps no pods, finds none, and passes every query on as if autopath were not there. No
    /// log, no metric, no effect. Behind a NodeLocal DNSCache every query comes from the node.
    /// The order of the lines has no effect: CoreDNS runs its plugins in the order of its build.
    ///
    /// ## Example
    /// ```corefile
    /// .:53 {
    ///     health
    ///     ready
    ///     autopath @kubernetes
    ///     cache 30
    ///     kubernetes cluster.local {
    ///         pods insecure
    ///     }
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
    ///     autopath @kubernetes
    ///     cache 30
    ///     kubernetes cluster.local {
    ///         pods verified
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
    /// - CoreDNS `plugin/kubernetes/autopath.go`, `plugin/autopath/README.md`; order: `plugin.cfg`; NodeLocal: coredns#4308.
    "autopath-silent", Dns, Error, High, [Corefile(check)]
}

fn check(text: &str, cx: &Context<'_>, out: &mut Findings) {
    corefiles::servers(text, |_, plugins| {
        let Some(autopath) = corefiles::plugin(plugins, "autopath") else { return };
        let Some(source) = autopath.args.iter().find_map(|arg| arg.text.strip_prefix('@')) else { return };
        let place = corefiles::span(&autopath.name);
        let Some(kubernetes) = corefiles::plugin(plugins, source) else {
            out.push(
                Finding::new(place, format!("`autopath @{source}` does nothing: `{source}` is not in this block"))
                    .help(format!("put it into the block that has `{source}`")),
            );
            return;
        };
        if source == "kubernetes" {
            let pods = kubernetes.line("pods");
            let mode = pods.and_then(|line| line.get(1));
            if mode.is_none_or(|mode| mode.text != "verified") {
                let mut finding = Finding::new(place, "`autopath @kubernetes` does nothing without `pods verified`")
                    .label("finds no pod, passes every query on");
                finding = match mode {
                    Some(mode) => finding.related(corefiles::span(mode), "needs `verified`").fix(Fix::unsafe_(
                        "set `pods verified`, and give CoreDNS the memory: (pods + services) / 250 + 56 MB",
                        vec![Edit::Replace(corefiles::span(mode), "verified".to_owned())],
                    )),
                    None => finding
                        .related(Span::new(kubernetes.name.span.start, kubernetes.name.span.end), "has no `pods` line")
                        .help(
                            "add `pods verified` to it, and give CoreDNS the memory: (pods + services) / 250 + 56 MB",
                        ),
                };
                out.push(finding);
                return;
            }
        }
        if cx.neighbours.node_local_dns {
            out.push(
                Finding::new(
                    place,
                    "`autopath` does nothing behind a NodeLocal DNSCache: queries come from the node, not from a pod",
                )
                .help("take autopath away and lower `ndots` in the pods that talk to outside hosts"),
            );
        }
    });
}
