//! Sends a postback to an affiliate's server, and follows one redirect within the same domain.

use super::connect::{Connector, Names};
use super::message::PostbackRequest;
use super::redirect;
use crate::error_chain::explain;
use bytes::Bytes;
use daemon::traces::SPAN_TARGET;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::time::timeout;
use tracing::{Instrument as _, trace_span};

/// The limits of a response: length of its head, length and time of its body.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_IDLE_PER_HOST: usize = 4;
/// The longest `Retry-After` that is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Sends requests to affiliates' servers.
#[derive(Clone)]
pub(super) struct Client {
    client: legacy::Client<HttpsConnector<Connector>, Empty<Bytes>>,
    timeout: Duration,
}

/// The response of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostbackResponse {
    pub(super) status: StatusCode,
    /// The pause that the server requests.
    pub(super) retry_after: Option<Duration>,
}

/// Why there is no response.
#[derive(Debug, Error)]
pub(super) enum SendError {
    #[error("{0}")]
    Broken(String),
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

impl Client {
    /// A client that connects to public addresses and those in `allowed`, and trusts certificates of `roots`.
    pub(super) fn new(allowed: &[IpNet], roots: RootCertStore, timeout: Duration) -> Self {
        Self::with_names(allowed, roots, timeout, Names::System)
    }

    pub(super) fn with_names(
        allowed: &[IpNet],
        roots: RootCertStore,
        timeout: Duration,
        names: Names,
    ) -> Self {
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider supports its own versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector {
                allowed: allowed.into(),
                names,
            });
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Self { client, timeout }
    }

    /// Sends `message`. The status of the response decides; its body is read only so that the connection can be reused.
    ///
    /// # Errors
    /// When there is no response in time.
    pub(super) async fn send(
        &self,
        message: &PostbackRequest,
    ) -> Result<PostbackResponse, SendError> {
        let host = message.uri().host().unwrap_or_default();
        let span = trace_span!(target: SPAN_TARGET, "send postback", host);
        let responded = timeout(self.timeout, self.follow(message))
            .instrument(span)
            .await;
        let responded = responded.map_err(|_| SendError::TimedOut(self.timeout))??;
        let (head, body) = responded.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect();
        let _ = timeout(BODY_TIMEOUT.min(self.timeout), body).await;
        Ok(PostbackResponse {
            status: head.status,
            retry_after: retry_after(&head.headers),
        })
    }

    /// Sends the request, and follows the first redirect if its target is permitted.
    async fn follow(&self, message: &PostbackRequest) -> Result<Response<Incoming>, SendError> {
        let response = self.request(message.request()).await?;
        match redirect::target(message.uri(), &response) {
            Some(target) => self.request(message.request_to(target)).await,
            None => Ok(response),
        }
    }

    async fn request(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        let sent = self.client.request(request).await;
        sent.map_err(|error| SendError::Broken(explain(&error)))
    }
}

/// The roots that browsers trust.
pub(super) fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// The pause that the server requests: in seconds, or until a time of its own clock, which `Date` states.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.trim());
    let requested = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = requested.parse() {
        return Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    }
    let until = httpdate::parse_http_date(requested).ok()?;
    let sent = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let pause = until.duration_since(sent.unwrap_or_else(SystemTime::now));
    Some(pause.unwrap_or_default().min(MAX_RETRY_AFTER))
}
