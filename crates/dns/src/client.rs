//! Who resolves names in a container, and how each goes on when a name is not found: one table.

/// What a resolver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It asks for the next name of its list.
    Continue,
    /// It gives up.
    Stop,
    /// It leaves the search list, and asks for the name as it stands if it has not yet.
    AsIs,
}

/// How many packets a resolver sends for a question that gets no useful answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// In each round every server once.
    Once,
    /// In each round every server once, and twice more.
    TwiceMore,
}

/// A resolver.
#[derive(Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name on the command line.
    pub name: &'static str,
    /// Who uses it.
    pub used_by: &'static str,
    /// Whether a name that was asked for as it stands is then tried with the search list.
    pub searches_afterwards: bool,
    /// After an answer without the wanted records (NOERROR, no data).
    pub no_data: Next,
    /// After a server's failure (SERVFAIL).
    pub failure: Next,
    /// After silence.
    pub silence: Next,
    /// How often it asks in each round when a server fails.
    pub failure_retries: Retries,
    /// Rounds when servers are silent or fail, where `options attempts` says nothing.
    pub attempts: u32,
    /// Whether it asks all servers at once.
    pub all_at_once: bool,
    /// Most seconds that it waits for one server, where `options timeout` says nothing.
    pub timeout: u32,
    /// Its source.
    pub source: &'static str,
}

/// The resolvers. Java, Python and Node ask the C library of their image; `java -Djava.net.preferIPv4Stack=true` asks for A
/// alone.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "glibc",
        used_by: "Debian, Ubuntu, Red Hat: Python, Java, Node, curl, PyTorch",
        searches_afterwards: true,
        no_data: Next::Continue,
        failure: Next::Continue,
        silence: Next::AsIs,
        failure_retries: Retries::Once,
        attempts: 2,
        all_at_once: false,
        timeout: 5,
        source: "glibc resolv/res_query.c (__res_context_search), resolv/res_send.c",
    },
    Client {
        name: "musl",
        used_by: "Alpine: everything but programs in Go",
        searches_afterwards: false,
        no_data: Next::Stop,
        failure: Next::Stop,
        silence: Next::Stop,
        failure_retries: Retries::TwiceMore,
        attempts: 2,
        all_at_once: true,
        timeout: 5,
        source: "musl src/network/lookup_name.c (name_from_dns_search), res_msend.c",
    },
    Client {
        name: "go",
        used_by: "programs in Go, on any image",
        searches_afterwards: true,
        no_data: Next::Continue,
        failure: Next::Continue,
        silence: Next::Continue,
        failure_retries: Retries::Once,
        attempts: 2,
        all_at_once: false,
        timeout: 5,
        source: "Go src/net/dnsclient_unix.go (nameList, goLookupIPCNAMEOrder)",
    },
    Client {
        name: "c-ares",
        used_by: "gRPC (Python, C++), Envoy, aiohttp with aiodns, Node's dns.resolve",
        searches_afterwards: true,
        no_data: Next::Continue,
        failure: Next::Stop,
        silence: Next::Stop,
        failure_retries: Retries::Once,
        attempts: 3,
        all_at_once: false,
        timeout: 2,
        source: "c-ares src/lib/ares_getaddrinfo.c, ares_search.c",
    },
];

impl Client {
    /// The one of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        CLIENTS.iter().find(|client| client.name == name)
    }
}
