//! HTTP requests to the provider: one trait, and a client on hyper and rustls.

use crate::fault::HttpError;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 256 << 10;

/// Sends requests to the provider. Redirects are not followed.
#[async_trait]
pub trait HttpClient: fmt::Debug + Send + Sync {
    /// Sends a request and returns the response with its complete body.
    ///
    /// # Errors
    /// When there is no response within a time and length that the client chooses.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError>;
}

/// A client on hyper and rustls. A response has 10 seconds and at most 256 KiB.
#[derive(Clone)]
pub struct HyperClient(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl fmt::Debug for HyperClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HyperClient")
    }
}

impl HyperClient {
    /// A client that trusts certificates of `roots`.
    ///
    /// # Panics
    /// Never: the cryptographic provider supports its own versions of TLS.
    #[must_use]
    pub fn new(roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports its own versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = legacy::Client::builder(TokioExecutor::new())
            // Requests are rare, and a kept connection may have been closed.
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Self(client)
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.0.request(request.map(Full::new)).await;
        let (head, body) = sent.map_err(|_| HttpError::Unreachable)?.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|_| HttpError::Body)?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

#[async_trait]
impl HttpClient for HyperClient {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let exchanged = tokio::time::timeout(RESPONSE_TIMEOUT, self.exchange(request)).await;
        exchanged.map_err(|_| HttpError::TimedOut)?
    }
}
