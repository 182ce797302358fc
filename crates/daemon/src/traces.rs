//! Spans of background work for an OpenTelemetry collector: OTLP over HTTP, in protobuf. Off unless a URL is set.
//!
//! Invariant: the path of a click makes no span.

use crate::settings::Bounded;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The target of exported spans. They have the level TRACE, so that the log does not show them.
pub const SPAN_TARGET: &str = "traced";
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RESPONSE_BYTES: u64 = 64 << 10;

/// Spans of shipping, inserting, functions and postbacks, for an OpenTelemetry collector.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceSettings {
    /// The collector's OTLP receiver: `http://127.0.0.1:4318/v1/traces`. HTTP without TLS: run the collector on the
    /// same machine. Without it no span is made.
    #[schemars(with = "Option<String>")]
    pub otlp_url: Option<OtlpUrl>,
    /// Of how many traces one is exported.
    pub one_in: Bounded<usize, 1, 1_000_000>,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            otlp_url: None,
            one_in: Bounded::new(1),
        }
    }
}

/// The URL of a collector.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct OtlpUrl(Uri);

impl TryFrom<String> for OtlpUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let uri: Option<Uri> = text.parse().ok();
        let has_host = |uri: &Uri| uri.scheme_str() == Some("http") && uri.host().is_some();
        uri.filter(has_host)
            .map(Self)
            .ok_or("expected http://HOST:PORT/v1/traces")
    }
}

/// The process that makes the spans.
#[derive(Debug, Clone, Copy)]
pub struct TracedProcess<'a> {
    /// The program's name.
    pub program: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// Which of several processes of the program it is.
    pub instance: &'a str,
}

/// Exports spans on a thread of its own; dropping it exports the remaining ones.
#[derive(Debug)]
pub struct SpanExport {
    provider: SdkTracerProvider,
}

impl SpanExport {
    /// Starts the export, if it is configured.
    ///
    /// # Errors
    /// If the exporter rejects its settings.
    pub fn start(
        settings: &TraceSettings,
        process: TracedProcess<'_>,
    ) -> Result<Option<Self>, ExporterBuildError> {
        let Some(url) = &settings.otlp_url else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url.0.to_string())
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", process.program),
            KeyValue::new("service.version", process.version),
            KeyValue::new("service.instance.id", process.instance.to_owned()),
        ]);
        let share = 1.0 / settings.one_in.get() as f64;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
                share,
            ))))
            .with_resource(resource.build())
            .build();
        Ok(Some(Self { provider }))
    }

    /// The layer that turns spans with [`SPAN_TARGET`] into exported ones.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("fanzfiliate-edge"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_filter(filter_fn(|metadata| metadata.target() == SPAN_TARGET))
    }
}

impl Drop for SpanExport {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "failed to export the last spans");
        }
    }
}

/// Sends spans to the collector; the log says when that begins to fail.
#[derive(Debug)]
struct Collector {
    agent: ureq::Agent,
    fails: AtomicBool,
}

impl Collector {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(EXPORT_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        Self {
            agent: config.build().into(),
            fails: AtomicBool::new(false),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let response = self.agent.run(request.map(|body| body.to_vec()))?;
        let (head, mut body) = response.into_parts();
        let body = body.with_config().limit(MAX_RESPONSE_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The exporter has a thread of its own, which may block.
        let sent = self.send(request);
        let failure = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let failed_before = self.fails.swap(failure.is_some(), Ordering::Relaxed);
        if let Some(reason) = failure.filter(|_| !failed_before) {
            tracing::warn!(
                reason,
                "the trace collector does not accept spans; they are dropped until it does"
            );
        }
        Ok(sent?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collector_urls_without_http_and_host_are_refused() {
        let settings = |url: &str| toml::from_str::<TraceSettings>(&format!("otlp_url = {url:?}"));
        assert!(settings("http://127.0.0.1:4318/v1/traces").is_ok());
        for url in [
            "https://collector/v1/traces",
            "collector:4318",
            "/v1/traces",
            "",
        ] {
            let error = settings(url).expect_err(url).to_string();
            assert!(error.contains("expected http://HOST:PORT"), "{error}");
        }
    }
}
