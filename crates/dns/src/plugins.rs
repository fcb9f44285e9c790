//! The plugins of CoreDNS, in the order in which they run: that of the build, whatever the order of a Corefile's lines.

/// The version of [`PLUGINS`].
pub const VERSION: &str = "1.15";

/// The plugins of CoreDNS 1.15.0 (`plugin.cfg`).
#[rustfmt::skip]
pub const PLUGINS: &[&str] = &[
    "root", "metadata", "geoip", "cancel", "proxyproto", "quic", "grpc_server", "https", "https3", "timeouts",
    "multisocket", "reload", "nsid", "bufsize", "bind", "debug", "trace", "ready", "health", "pprof", "shed",
    "prometheus", "errors", "log", "dnstap", "local", "dns64", "siit", "any", "chaos", "loadbalance", "tsig", "rewrite",
    "autopath", "acl", "cache", "header", "dnssec", "tls", "minimal", "template", "transfer", "dynupdate", "hosts",
    "route53", "azure", "clouddns", "k8s_external", "kubernetes", "file", "auto", "secondary", "etcd", "loop",
    "forward", "grpc", "erratic", "whoami", "on", "sign", "view", "nomad",
];

/// When a plugin is asked; nothing for one that CoreDNS does not have.
#[must_use]
pub fn place(name: &str) -> Option<usize> {
    PLUGINS.iter().position(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_run_in_the_order_of_the_build() {
        assert!(place("rewrite") < place("autopath") && place("autopath") < place("cache"));
        assert!(place("cache") < place("kubernetes") && place("kubernetes") < place("forward"));
        assert_eq!(place("kuberntes"), None);
    }
}
