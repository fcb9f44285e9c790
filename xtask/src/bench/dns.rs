//! `cargo xtask bench dns`: a data loader opens small objects by name, with a cluster's DNS as it comes, with a low `ndots`,
//! and with autopath.

use std::fmt::Write as _;
use std::process::ExitCode;

use bedplate_cluster::dns::{Dns, Done};
use bedplate_devcluster::run::{self, Result};
use bedplate_devcluster::{AddOn, Cluster, Image, Tier, tools};
use bedplate_dns::metrics::Reading;
use serde_json::{Value, json};

use super::measure::median;
use super::scale::{connect, runtime};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Objects that the loader opens, each over a connection of its own
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    objects: u32,
    /// Rounds of each configuration
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    rounds: u32,
}

/// Processes of the loader.
const WORKERS: u32 = 4;
/// The name of the store: outside the cluster.
const STORE: &str = "s3.node.example.com";
const PORT: u16 = 9000;
const IMAGE: &str = "docker.io/local/loader:1";

/// Answers every request with 4 KiB, as an object store answers a GET.
const SERVER: &str = r#"
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", int(sys.argv[1])))
s.listen(1024)
body = b"x" * 4096
head = b"HTTP/1.0 200 OK\r\nContent-Length: 4096\r\n\r\n"
os.fork()
while True:
    c, _ = s.accept()
    if c.recv(4096):
        c.sendall(head + body)
    c.close()
"#;

/// Opens objects by name in four processes; prints the times of lookups in microseconds, and of everything.
const LOADER: &str = r#"
import os, socket, sys, time
name, port, objects, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
# Its address has to be known to CoreDNS.
time.sleep(3)
def work(part, out):
    times = []
    for number in range(part, objects, workers):
        begun = time.perf_counter()
        found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
        times.append(int((time.perf_counter() - begun) * 1e6))
        address = [one for one in found if one[0] == socket.AF_INET][0][4]
        c = socket.create_connection(address, 10)
        c.sendall(b"GET /bucket/%d HTTP/1.0\r\n\r\n" % number)
        got = 0
        while True:
            more = c.recv(65536)
            if not more: break
            got += len(more)
        c.close()
        if got < 4096: raise SystemExit("object %d is cut off" % number)
    with open(out, "w") as file: file.write("\n".join(map(str, times)))
begun = time.perf_counter()
children = []
for part in range(workers):
    child = os.fork()
    if child == 0:
        work(part, "/tmp/%d" % part)
        os._exit(0)
    children.append(child)
for child in children:
    if os.waitpid(child, 0)[1] != 0: raise SystemExit("a worker failed")
total = time.perf_counter() - begun
times = sorted(int(line) for part in range(workers) for line in open("/tmp/%d" % part))
print(total, times[len(times) // 2], times[len(times) * 99 // 100], times[-1])
"#;

/// One round.
struct Round {
    seconds: f64,
    /// Of lookups, in ms.
    p50: f64,
    p99: f64,
    most: f64,
    /// What CoreDNS has counted.
    counted: Reading,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let rounds = super::on_cluster(Tier::Node, &[AddOn::Coredns], |cluster| measure(cluster, options))?;
    let mut text = format!(
        "# A data loader opens small objects by name\n\nWritten by `cargo xtask bench dns`. {} objects of 4 KiB from a local store that answers GETs as S3 does, by {WORKERS} worker processes of \
         one pod (Debian's Python, glibc), each object a lookup of `{STORE}` and a connection of its own; CoreDNS {} in two pods with `cache 30`, on one node with 2 cores that everything shares. Median of {} rounds; times in ms.\n\n\
         | | queries a lookup | queries | CoreDNS CPU | lookup p50 | lookup p99 | longest | total |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        options.objects,
        tools::get("coredns")?.version,
        options.rounds,
    );
    let of = |rounds: &[Round], value: fn(&Round) -> f64| median(rounds.iter().map(value));
    for (name, rounds) in &rounds {
        let queries = of(rounds, |round| round.counted.queries());
        let _ = writeln!(
            text,
            "| {name} | {:.2} | {queries:.0} | {:.2} s | {:.2} | {:.2} | {:.1} | {:.1} s |",
            queries / f64::from(options.objects),
            of(rounds, |round| round.counted.cpu),
            of(rounds, |round| round.p50),
            of(rounds, |round| round.p99),
            of(rounds, |round| round.most),
            of(rounds, |round| round.seconds),
        );
    }
    if let [(_, before), others @ ..] = rounds.as_slice() {
        for (name, after) in others {
            let times = |value: fn(&Round) -> f64| of(before, value) / of(after, value).max(f64::MIN_POSITIVE);
            let _ = write!(
                text,
                "\n{name}: queries {:.1}, CPU of CoreDNS {:.1}, p50 {:.1}, p99 {:.1}, total {:.1} times less.\n",
                times(|round| round.counted.queries()),
                times(|round| round.counted.cpu),
                times(|round| round.p50),
                times(|round| round.p99),
                times(|round| round.seconds),
            );
        }
    }
    super::publish("dns", &text)
}

fn measure(cluster: &Cluster, options: &Options) -> Result<Vec<(&'static str, Vec<Round>)>> {
    let mut image = Image::debian(&["python3-minimal"])?;
    image.command = ["python3", "--version"].map(str::to_owned).to_vec();
    // Where the workers leave their times.
    image.files.push(("tmp/empty".to_owned(), 0o644, Vec::new()));
    cluster.load_image(IMAGE, &image)?;
    let server = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "store" }, "spec": {
        "hostNetwork": true,
        "containers": [{ "name": "store", "image": IMAGE, "command": ["python3", "-c", SERVER, PORT.to_string()] }],
    } });
    cluster.apply(&server.to_string())?;
    kubectl(cluster, &["wait", "--for=condition=Ready", "pod/store", "--timeout=120s"])?;
    let mut all = Vec::new();
    let low = json!({ "options": [{ "name": "ndots", "value": "2" }] });
    for (name, config) in [("as it comes (ndots 5)", json!({})), ("`ndots: 2` in the pod's dnsConfig", low)] {
        all.push((name, self::rounds(cluster, options, &config)?));
    }
    let dns = dns(cluster)?;
    let done = runtime()?.block_on(async {
        connect(cluster).await?.put_dns(&dns, |line| eprintln!("{line}")).await.map_err(|error| error.to_string())
    })?;
    if !matches!(done, Done::Changed(_)) {
        return Err("autopath could not be put into the Corefile".to_owned());
    }
    all.push(("autopath in CoreDNS", rounds(cluster, options, &json!({}))?));
    Ok(all)
}

fn rounds(cluster: &Cluster, options: &Options, config: &Value) -> Result<Vec<Round>> {
    (0..options.rounds).map(|_| round(cluster, options, config)).collect()
}

fn round(cluster: &Cluster, options: &Options, config: &Value) -> Result<Round> {
    let (objects, workers) = (options.objects.to_string(), WORKERS.to_string());
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "loader" }, "spec": {
        "restartPolicy": "Never",
        "dnsConfig": config,
        "containers": [{ "name": "loader", "image": IMAGE,
            "command": ["python3", "-c", LOADER, STORE, PORT.to_string(), objects, workers] }],
    } });
    let before = counted(cluster)?;
    cluster.apply(&pod.to_string())?;
    let done = kubectl(cluster, &["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/loader", "--timeout=300s"]);
    let said = kubectl(cluster, &["logs", "loader"])?;
    done.map_err(|error| format!("{error}: {said}"))?;
    let counted = counted(cluster)?.since(&before);
    kubectl(cluster, &["delete", "pod", "loader", "--now"])?;
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [seconds, p50, p99, most] = numbers[..] else { return Err(format!("the loader said {said:?}")) };
    Ok(Round { seconds, p50: p50 / 1e3, p99: p99 / 1e3, most: most / 1e3, counted })
}

fn dns(cluster: &Cluster) -> Result<Dns> {
    runtime()?.block_on(async { connect(cluster).await?.dns().await.map_err(|error| error.to_string()) })
}

/// What both pods of CoreDNS have counted.
fn counted(cluster: &Cluster) -> Result<Reading> {
    let dns = dns(cluster)?;
    let pods = runtime()?
        .block_on(async { connect(cluster).await?.dns_counted(&dns).await.map_err(|error| error.to_string()) })?;
    let mut sum = Reading::default();
    for pod in pods {
        sum.add(&pod.reading?);
    }
    Ok(sum)
}

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    run::output(cluster.kubectl()?.args(arguments), &[0])
}
