//! `cargo xtask bench dns`: a data loader opens small objects by name, with a cluster's DNS as it comes, with a low `ndots`,
//! and with autopath; as fast as it can, and at a pace that all three keep up with.

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
    /// Objects a second, for the lookups' times at the same work
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pace: u32,
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

/// Opens objects by name in some processes, so many a second (0: as fast as they can); prints the seconds of everything,
/// and the times of lookups in microseconds.
const LOADER: &str = r#"
import os, socket, sys, time
name, port, objects, workers, pace = sys.argv[1], *map(int, sys.argv[2:])
# Its address has to be known to CoreDNS.
time.sleep(3)
def work(part, out):
    times = []
    start = time.perf_counter()
    for number in range(part, objects, workers):
        if pace: time.sleep(max(0, start + number / pace - time.perf_counter()))
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

/// One configuration: its rounds as fast as it goes, and at the pace.
struct Measured {
    name: &'static str,
    fast: Vec<Round>,
    paced: Vec<Round>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let all = super::on_cluster(Tier::Node, &[AddOn::Coredns], |cluster| measure(cluster, options))?;
    let Options { objects, pace, rounds } = options;
    let mut text = format!(
        "# A data loader opens small objects by name\n\nWritten by `cargo xtask bench dns`. {objects} objects of 4 KiB from a local store that answers GETs as S3 does, by {WORKERS} worker processes of \
         one pod (Debian's Python, glibc), each object a lookup of `{STORE}` and a connection of its own; CoreDNS {} in two pods with `cache 30`, on one node with 2 cores that everything shares. Median of {rounds} rounds; times in ms.\n",
        tools::get("coredns")?.version,
    );
    let fast = "As fast as it goes: 4 workers keep both cores busy in all three, with ever more objects a second";
    let paced = format!("{pace} objects a second in all three: what a lookup takes at the same work");
    text += &table(fast, *objects, &all, |one| &one.fast);
    text += &table(&paced, *objects, &all, |one| &one.paced);
    super::publish("dns", &text)
}

fn table(title: &str, objects: u32, all: &[Measured], rounds: fn(&Measured) -> &[Round]) -> String {
    let of = |one: &Measured, value: fn(&Round) -> f64| median(rounds(one).iter().map(value));
    let mut text = format!(
        "\n## {title}\n\n| | queries a lookup | queries | CoreDNS CPU | lookup p50 | lookup p99 | longest | total |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for one in all {
        let queries = of(one, |round| round.counted.queries());
        let _ = writeln!(
            text,
            "| {} | {:.2} | {queries:.0} | {:.2} s | {:.2} | {:.2} | {:.1} | {:.1} s |",
            one.name,
            queries / f64::from(objects),
            of(one, |round| round.counted.cpu),
            of(one, |round| round.p50),
            of(one, |round| round.p99),
            of(one, |round| round.most),
            of(one, |round| round.seconds),
        );
    }
    if let [before, others @ ..] = all {
        for after in others {
            let times = |value: fn(&Round) -> f64| of(before, value) / of(after, value).max(f64::MIN_POSITIVE);
            let _ = write!(
                text,
                "\n{}: queries {:.1}, CPU of CoreDNS {:.1}, p50 {:.1}, p99 {:.1}, total {:.1} times less.\n",
                after.name,
                times(|round| round.counted.queries()),
                times(|round| round.counted.cpu),
                times(|round| round.p50),
                times(|round| round.p99),
                times(|round| round.seconds),
            );
        }
    }
    text
}

fn measure(cluster: &Cluster, options: &Options) -> Result<Vec<Measured>> {
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
        all.push(measured(cluster, options, name, &config)?);
    }
    let dns = dns(cluster)?;
    let done = runtime()?.block_on(async {
        connect(cluster).await?.put_dns(&dns, |line| eprintln!("{line}")).await.map_err(|error| error.to_string())
    })?;
    if !matches!(done, Done::Changed(_)) {
        return Err("autopath could not be put into the Corefile".to_owned());
    }
    all.push(measured(cluster, options, "autopath in CoreDNS", &json!({}))?);
    Ok(all)
}

fn measured(cluster: &Cluster, options: &Options, name: &'static str, config: &Value) -> Result<Measured> {
    let rounds = |pace| (0..options.rounds).map(|_| round(cluster, options.objects, pace, config)).collect();
    let fast: Result<_> = rounds(0);
    Ok(Measured { name, fast: fast?, paced: rounds(options.pace)? })
}

fn round(cluster: &Cluster, objects: u32, pace: u32, config: &Value) -> Result<Round> {
    let arguments = [PORT.into(), objects, WORKERS, pace].map(|number: u32| number.to_string());
    let command = ["python3", "-c", LOADER, STORE].map(str::to_owned).into_iter().chain(arguments);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "loader" }, "spec": {
        "restartPolicy": "Never",
        "dnsConfig": config,
        "containers": [{ "name": "loader", "image": IMAGE, "command": command.collect::<Vec<_>>() }],
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
