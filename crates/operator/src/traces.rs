//! Traces, where a collector is named: a span a decision and one a round of the leader, over OTLP/HTTP in protobuf.
//!
//! ```text
//!   span ends ─▶ queue (bounded; what does not fit is dropped and counted) ─▶ a task of its own ─▶ batches ─▶ collector
//! ```
//!
//! No request ever waits for a collector. The standard variables hold where no option says otherwise
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>): endpoint, headers, timeout, sampler, resource.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor};
use opentelemetry_sdk::{Resource, trace};
use prometheus_client::metrics::counter::Counter;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// Spans that wait, at most: of a kilobyte each.
const WAITING: usize = 2048;
/// Spans that are sent together, at most, and how long the first of them waits for others.
const BATCH: usize = 512;
const MOMENT: Duration = Duration::from_secs(1);
/// How long one request to a collector may take, and all that is sent when the process ends.
const PATIENCE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(2);

/// Variables that name a collector.
const VARIABLES: [&str; 2] =
    [opentelemetry_otlp::OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, opentelemetry_otlp::OTEL_EXPORTER_OTLP_ENDPOINT];

/// The authorities of a collector, as PEM, where they are not the system's.
const AUTHORITY: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";

/// What is to be sent, and where.
#[derive(Debug)]
pub struct Traces {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    /// Spans that no collector has got.
    pub dropped: Counter,
}

/// What makes spans.
#[derive(Debug)]
pub struct Tracer(trace::SdkTracer);

/// Takes spans from whoever ends them.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
    dropped: Counter,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.spans.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The collector that is named: by a base URL such as `https://collector:4318`, or by the environment; none where neither
/// names one.
///
/// # Errors
/// A URL that is none; authorities that cannot be read.
pub fn traces(endpoint: Option<&str>) -> Result<Option<(Tracer, Traces)>, String> {
    let from_environment =
        || VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if endpoint.is_some() || from_environment() { with_room(endpoint, WAITING).map(Some) } else { Ok(None) }
}

fn with_room(endpoint: Option<&str>, waiting: usize) -> Result<(Tracer, Traces), String> {
    let authority = std::env::var_os(AUTHORITY).filter(|file| !file.is_empty());
    let client = HyperClient::new(connector(authority.as_deref().map(Path::new))?, PATIENCE, None);
    let mut builder = SpanExporter::builder().with_http().with_http_client(client);
    if let Some(base) = endpoint {
        if !["http://", "https://"].iter().any(|scheme| base.starts_with(scheme)) {
            return Err(format!("{base}: expected https://HOST:PORT, or http:// where no one else can listen"));
        }
        builder = builder.with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')));
    }
    let mut exporter = builder.build().map_err(|error| error.to_string())?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("bedplate");
    }
    let resource = resource.build();
    exporter.set_resource(&resource);
    let (queue, spans) = mpsc::channel(waiting);
    let dropped = Counter::default();
    let queue = Queue { spans: queue, dropped: dropped.clone() };
    let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue).build();
    Ok((Tracer(provider.tracer("bedplate")), Traces { spans, exporter, dropped }))
}

/// TLS where the URL says https, by the authorities of a file of PEM, or by the system's. Without any, no collector
/// over TLS is believed.
fn connector(authority: Option<&Path>) -> Result<HttpsConnector<HttpConnector>, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = authority {
        let unreadable = |why: &dyn std::fmt::Display| format!("{AUTHORITY}: {}: {why}", file.display());
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))?;
        for certificate in certificates {
            roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
        }
        if roots.is_empty() {
            return Err(unreadable(&"expected certificates in PEM"));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http))
}

impl Tracer {
    /// Makes spans of our own ones. What is logged within them stands in the log.
    pub(crate) fn layer<S>(self) -> impl Layer<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(
                filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("bedplate"))
                    .with_max_level_hint(tracing::Level::INFO),
            )
    }
}

impl Traces {
    /// Sends what comes, until `stop` says true; then what waits.
    pub async fn send(mut self, mut stop: watch::Receiver<bool>) {
        let (mut well, mut batch) = (true, Vec::new());
        let mut stopping = std::pin::pin!(crate::told(&mut stop));
        loop {
            tokio::select! {
                () = next(&mut self.spans, &mut batch) => self.export(std::mem::take(&mut batch), &mut well).await,
                () = &mut stopping => break,
            }
        }
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        let _ = tokio::time::timeout(FAREWELL, self.export(batch, &mut well)).await;
    }

    async fn export(&self, batch: Vec<SpanData>, well: &mut bool) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            self.dropped.inc_by(count as u64);
            // Once, not once a batch.
            if *well {
                tracing::warn!(%error, "the collector does not take traces; what comes meanwhile is dropped");
            }
        }
        *well = sent.is_ok();
    }
}

/// Gets the next spans that belong together. Where it is broken off, the batch has those that came.
async fn next(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    batch.extend(spans.recv().await);
    let more = async {
        while batch.len() < BATCH
            && let Some(span) = spans.recv().await
        {
            batch.push(span);
        }
    };
    let _ = tokio::time::timeout(MOMENT, more).await;
}

/// A round of the leader's work as a span, with why it failed.
pub(crate) async fn traced<T, E: std::fmt::Display>(
    what: &'static str,
    round: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = tracing::info_span!("reconcile", what, failed = tracing::field::Empty);
    let outcome = round.instrument(span.clone()).await;
    if let Err(error) = &outcome {
        span.record("failed", tracing::field::display(error));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::routing::post;
    use opentelemetry_http::HttpClient as _;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use prost::Message as _;
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::certificate::issue::Rcgen;
    use crate::certificate::resolver::{Resolver, tls};
    use crate::certificate::rotation::Mint as _;
    use crate::metrics::Metrics;
    use crate::server::routes::Webhook;
    use crate::server::{Limits, Server, serve};

    /// A Job over the ceiling is asked about.
    async fn ask(router: &Router) -> String {
        let review = serde_json::json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "operation": "CREATE", "namespace": "team", "name": "j",
            "kind": { "group": "batch", "version": "v1", "kind": "Job" },
            "object": { "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "j" }, "spec": { "parallelism": 64,
                "template": { "spec": { "containers": [{ "name": "a", "image": "docker.io/library/python:3.13",
                    "resources": { "limits": { "nvidia.com/gpu": 1 } } }] } } } } } });
        let request = http::Request::post("/mutate").header("content-type", "application/json");
        let answer = router.clone().oneshot(request.body(Body::from(review.to_string())).unwrap()).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        String::from_utf8_lossy(&body).into_owned()
    }

    fn webhook() -> Router {
        Webhook::new(Arc::new(Metrics::default()), Limits::WEBHOOK, || "2026-11-25".to_owned()).router()
    }

    /// A collector with or without TLS, and what it is sent.
    async fn collector(
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> (SocketAddr, mpsc::Receiver<ExportTraceServiceRequest>) {
        let (got, requests) = mpsc::channel(8);
        let take = move |body: Bytes| async move {
            got.send(ExportTraceServiceRequest::decode(body).unwrap()).await.unwrap();
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/v1/traces", post(take));
        let server = Server { listener, tls, router, limits: Limits::HEALTH, metrics: None };
        tokio::spawn(async move {
            let (_end, ending) = watch::channel(false);
            serve(server, ending).await
        });
        (address, requests)
    }

    /// The collector listened with TLS only, and nobody ever saw a trace.
    #[tokio::test]
    async fn a_collector_over_tls_is_believed_by_its_authority_and_by_no_other() {
        let pair = Rcgen.authority(0, 4_000_000_000).unwrap();
        let stranger = Rcgen.authority(0, 4_000_000_000).unwrap();
        let resolver = Arc::new(Resolver::default());
        resolver.show(&Rcgen.serving(&pair, &["127.0.0.1".to_owned()], 0, 4_000_000_000).unwrap()).unwrap();
        let (address, mut requests) = collector(Some(tls(resolver).unwrap())).await;
        let folder = tempfile::tempdir().unwrap();
        for (authority, believed) in [(&stranger, false), (&pair, true)] {
            let file = folder.path().join("ca.crt");
            std::fs::write(&file, &authority.certificate).unwrap();
            let client = HyperClient::new(connector(Some(&file)).unwrap(), PATIENCE, None);
            let request = http::Request::post(format!("https://{address}/v1/traces"));
            let body = ExportTraceServiceRequest::default().encode_to_vec();
            let sent = client.send_bytes(request.body(body.into()).unwrap()).await;
            assert_eq!(sent.is_ok(), believed, "{sent:?}");
            assert_eq!(requests.try_recv().is_ok(), believed);
        }
        let none = folder.path().join("none.crt");
        std::fs::write(&none, "not a certificate").unwrap();
        assert!(connector(Some(&none)).unwrap_err().contains("expected certificates in PEM"));
        assert!(connector(Some(Path::new("/nonexistent.crt"))).unwrap_err().contains("/nonexistent.crt"));
    }

    #[tokio::test]
    async fn a_collector_gets_each_decision_and_each_round_with_what_it_was_about() {
        let (address, mut requests) = collector(None).await;
        let endpoint = format!("http://{address}");

        let (tracer, traces) = traces(Some(&endpoint)).unwrap().unwrap();
        let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(tracer.layer()));
        let (stop, stopping) = watch::channel(false);
        let (dropped, sending) = (traces.dropped.clone(), tokio::spawn(traces.send(stopping)));
        assert!(ask(&webhook()).await.contains("the ceiling is 8"));
        assert!(traced("guards", async { Err::<(), _>("the API server is gone") }).await.is_err());
        stop.send(true).unwrap();
        sending.await.unwrap();

        let request = requests.recv().await.unwrap();
        let resource = format!("{:?}", request.resource_spans[0].resource);
        assert!(resource.contains("service.name") && resource.contains("bedplate"), "{resource}");
        let mut told: Vec<_> = request
            .resource_spans
            .iter()
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans)
            .collect();
        told.sort_by_key(|span| &span.name);
        let told: Vec<_> = told
            .into_iter()
            .map(|span| {
                assert!(span.end_time_unix_nano > span.start_time_unix_nano && span.trace_id.len() == 16);
                let said =
                    span.attributes.iter().map(|pair| match pair.value.as_ref().and_then(|any| any.value.as_ref()) {
                        Some(Any::StringValue(text)) => format!(" {}={text}", pair.key),
                        other => format!(" {}={other:?}", pair.key),
                    });
                let mut said: Vec<_> = said.collect();
                said.sort();
                format!("{}{}", span.name, said.concat())
            })
            .collect();
        assert_eq!(
            told,
            [
                "admission decision=refused kind=Job namespace=team rules=gpu-ceiling stage=mutate",
                "reconcile failed=the API server is gone what=guards"
            ]
        );
        assert_eq!(dropped.get(), 0);
    }

    /// A collector hung, and with it every creation of a job.
    #[tokio::test]
    async fn a_collector_that_is_slow_or_gone_costs_no_request() {
        // It takes connections, and answers nothing; and one that is not there.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for address in [silent.local_addr().unwrap(), gone] {
            let (tracer, traces) = with_room(Some(&format!("http://{address}")), 4).unwrap();
            let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(tracer.layer()));
            let (_stop, stopping) = watch::channel(false);
            let (dropped, sending) = (traces.dropped.clone(), tokio::spawn(traces.send(stopping)));
            let router = webhook();
            for _ in 0..100 {
                assert!(ask(&router).await.contains("the ceiling is 8"));
            }
            assert!(dropped.get() > 0, "what does not fit is counted");
            let mut metrics = Metrics::default();
            metrics.count_dropped(&dropped);
            assert!(metrics.text().contains(&format!("bedplate_spans_dropped_total {}", dropped.get())));
            sending.abort();
        }
    }

    #[test]
    fn a_collector_that_cannot_be_asked_is_named_at_the_start() {
        for endpoint in ["grpc://collector:4317", "collector:4318", "http://a b"] {
            assert!(traces(Some(endpoint)).is_err(), "{endpoint}");
        }
    }
}
