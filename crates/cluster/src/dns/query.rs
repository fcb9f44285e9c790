//! One query of a CoreDNS by itself: what it counts tells nothing in a cluster where nobody asks.

use std::time::Duration;

use bedplate_dns::Corefile;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::NAMESPACE;
use crate::Cluster;

/// How long an answer may take: the API server and the kubelet are on the way.
const PATIENCE: Duration = Duration::from_secs(5);

/// A name that is in every cluster, and the port at which CoreDNS knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    port: u16,
    name: String,
}

impl Query {
    /// The one that a Corefile has an answer to; nothing where no server block knows the cluster's names over plain DNS.
    pub(super) fn of(corefile: &str) -> Option<Self> {
        let file = Corefile::parse(corefile).ok()?;
        file.clusters().find_map(|(server, domain)| {
            let (_, zone) = server.zones().find(|(_, zone)| zone.transport == "dns")?;
            let port = zone.port.as_deref().unwrap_or("53").parse().ok()?;
            Some(Self { port, name: format!("kubernetes.default.svc.{domain}") })
        })
    }

    /// Asks a pod for the address, over TCP through the API server. Gives the code of the answer (RFC 1035, section
    /// 4.1.1: 0 is an answer), or why there is none.
    pub(super) async fn ask(&self, cluster: &Cluster, pod: &str) -> Result<u8, String> {
        let pods: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
        let asked = async {
            let mut forwarded = pods.portforward(pod, &[self.port]).await.map_err(|error| error.to_string())?;
            let mut stream = forwarded.take_stream(self.port).ok_or("the API server forwards no port")?;
            exchange(&mut stream, &self.name).await.map_err(|error| error.to_string())
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("no answer in {} s", PATIENCE.as_secs())))
    }
}

/// Any number would do: a connection has one query.
const ID: [u8; 2] = [0xbe, 0xd0];

async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), name: &str) -> std::io::Result<u8> {
    let other = |why: &str| std::io::Error::other(why.to_owned());
    // One question, recursion desired.
    let mut message = [&ID[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).ok().filter(|length| *length < 64).ok_or_else(|| other("no name"))?);
        message.extend_from_slice(label.as_bytes());
    }
    // The root; A; IN.
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    let length = u16::try_from(message.len()).map_err(|_| other("no name"))?;
    stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).await?;
    stream.flush().await?;
    // Its length, and of the header the number, the flags and the code.
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await?;
    let [_, _, first, second, flags, code] = answer;
    if [first, second] != ID || flags & 0x80 == 0 {
        return Err(other("no answer of a name server"));
    }
    Ok(code & 0x0f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_one_that_the_corefile_knows() {
        let query = |text: &str| Query::of(text).map(|query| (query.port, query.name));
        let own = ".:53 {\n  kubernetes cluster.local in-addr.arpa\n}\n";
        assert_eq!(query(own), Some((53, "kubernetes.default.svc.cluster.local".to_owned())));
        let zone = "tls://. {\n  forward . 1.1.1.1\n}\nk8s.example.:1053 {\n  kubernetes\n}\n";
        assert_eq!(query(zone), Some((1053, "kubernetes.default.svc.k8s.example".to_owned())));
        assert_eq!(query(". {\n  forward . 1.1.1.1\n}\n"), None);
    }

    #[tokio::test]
    async fn an_answer_is_told_by_its_code_and_nothing_else_is_one() {
        for (sent, expected) in [
            (vec![0, 12, 0xbe, 0xd0, 0x81, 0x82], Ok(2)),
            (vec![0, 12, 0xbe, 0xd0, 0x81, 0x80], Ok(0)),
            (vec![0, 12, 0xbe, 0xd0, 0x01, 0x00], Err(())),
            (b"HTTP/1".to_vec(), Err(())),
            (vec![0, 12], Err(())),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(1024);
            let server = async move {
                let mut query = [0; 2 + 12 + 11 + 1 + 4];
                theirs.read_exact(&mut query).await.map(drop).unwrap_or_default();
                assert_eq!(query[14..], *b"\x07example\x02\x61\x62\0\0\x01\0\x01");
                theirs.write_all(&sent).await.unwrap_or_default();
            };
            let (answer, ()) = tokio::join!(exchange(&mut ours, "example.ab"), server);
            assert_eq!(answer.map_err(drop), expected);
        }
    }
}
