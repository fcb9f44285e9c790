//! `bedplate serve`: the operator.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bedplate_model::names;
use bedplate_operator::run::{Options, Source};
use bedplate_operator::{deploy, log, run, traces};
use clap::ValueEnum;

use super::Error;
use super::cluster::Target;
use crate::profile;

/// Options of `serve`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Where the webhook listens, with TLS
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], deploy::PORT)))]
    listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are, in plain HTTP
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from(([0, 0, 0, 0], deploy::HEALTH_PORT)))]
    health: SocketAddr,
    /// Further names or addresses by which API servers reach the webhook
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The namespace of its Secret and its Lease
    #[arg(long, value_name = "NAMESPACE", default_value = names::NAMESPACE)]
    namespace: String,
    /// Certificate that somebody else rotates (a mounted Secret of cert-manager); Bedplate then makes none
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How long a serving certificate is valid; its authority lives four times as long
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "90d")]
    certificate_life: Duration,
    /// How often the leader audits the cluster, for reports, status and metrics; 0s: never
    #[arg(long, value_name = "TIME", value_parser = time, default_value = deploy::AUDIT_EVERY)]
    audit_every: Duration,
    /// How long it answers on after SIGTERM, until nobody sends it requests any more
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    drain: Duration,
    /// Judge by this profile, without any cluster; needs --tls-cert and --tls-key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    profile: Option<PathBuf>,
    /// Send traces to this collector, over OTLP/HTTP: https://HOST:4318 [default: $OTEL_EXPORTER_OTLP_ENDPOINT, or none]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// How the log is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// Log more: what goes on underneath
    #[arg(long, short)]
    verbose: bool,
}

/// A form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A time such as `90d`, `12h`, `5m`, `10s`.
fn time(text: &str) -> Result<Duration, String> {
    let unit = |letter| match letter {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let parsed = text.char_indices().last().and_then(|(at, letter)| {
        let number: u64 = text[..at].parse().ok()?;
        number.checked_mul(unit(letter)?)
    });
    // A hundred years are enough for everybody, and safe to add to any time.
    let most = 100 * 365 * 86_400;
    parsed
        .filter(|seconds| *seconds <= most)
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a number and s, m, h or d, such as 90d".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Error> {
    if args.certificate_life < Duration::from_secs(20) {
        return Err(Error::Other("--certificate-life: a certificate has to live for 20 s at least".to_owned()));
    }
    let fixed = match &args.profile {
        Some(path) => Some(profile::load(Some(path), std::path::Path::new("."))?.profile),
        None => None,
    };
    let traced = traces::traces(args.otlp_endpoint.as_deref());
    let (tracer, traces) = traced.map_err(|why| Error::Other(format!("--otlp-endpoint: {why}")))?.unzip();
    log::start(
        args.log_format == Format::Json,
        if args.verbose { tracing::Level::DEBUG } else { tracing::Level::INFO },
        tracer,
    );
    let mut names = deploy::service_names();
    names.extend(args.name.iter().cloned());
    let host =
        std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "bedplate".to_owned());
    let options = Options {
        address: args.listen,
        health: args.health,
        names,
        namespace: args.namespace.clone(),
        // Two processes of one host are two replicas.
        identity: format!("{host}_{}", std::process::id()),
        certificate_life: args.certificate_life.as_secs(),
        files: args.tls_cert.clone().zip(args.tls_key.clone()),
        audit_every: args.audit_every,
        drain: args.drain,
        traces,
    };
    // Decisions are short; a second thread keeps them going beside a large one.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(8).enable_all().build();
    let runtime = runtime.map_err(|error| Error::Other(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let source = match fixed {
            Some(profile) => Source::Fixed(Box::new(profile)),
            None => Source::Cluster(Box::new(args.target.connect().await?)),
        };
        run::run(options, source).await.map_err(|error| Error::Other(error.to_string()))
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(time("90d").unwrap().as_secs(), 90 * 86_400);
        assert_eq!(time("10s").unwrap().as_secs(), 10);
        for wrong in ["", "s", "10", "10x", "-1s", "1.5h", "99999999999999999999d", "9999999d", "1é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
