//! Sends one request to an affiliate's server: names are looked up here, so that the address that is
//! connected to is the one that was judged, and nothing is followed anywhere else.

use super::reach::may_reach;
use crate::explain::explain;
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

/// The longest head of an answer, and as much of its body as is read.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 64 << 10;
const IDLE: Duration = Duration::from_secs(20);
const IDLE_PER_HOST: usize = 4;
/// A longer wish of the receiver's is not granted.
const LONGEST_WISH: Duration = Duration::from_secs(3_600);

/// Asks affiliates' servers.
#[derive(Clone)]
pub(super) struct Client {
    client: legacy::Client<HttpsConnector<Connector>, Empty<Bytes>>,
    timeout: Duration,
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// For how long it wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// Why nothing was answered.
#[derive(Debug, Error)]
pub(super) enum SendError {
    #[error("{0}")]
    Broken(String),
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
}

#[derive(Debug, Error)]
enum ConnectError {
    #[error("the address has no host")]
    NoHost,
    #[error("{host} can't be looked up: {cause}")]
    Unknown { host: String, cause: io::Error },
    #[error("{host} is not at a public address, nor in allowed_networks")]
    NotPublic { host: String },
    #[error("{address}: {cause}")]
    Refused {
        address: SocketAddr,
        cause: io::Error,
    },
}

impl Client {
    /// A client that goes to public addresses and `allowed` ones, and believes certificates of `roots`.
    pub(super) fn new(allowed: &[IpNet], roots: RootCertStore, timeout: Duration) -> Self {
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider knows the versions it comes with")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Connector {
                allowed: allowed.into(),
            });
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Self { client, timeout }
    }

    /// Sends `request` and reads the answer to its end.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub(super) async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Answer, SendError> {
        let answered = tokio::time::timeout(self.timeout, self.send_once(request)).await;
        answered.map_err(|_| SendError::Silent(self.timeout))?
    }

    async fn send_once(&self, request: Request<Empty<Bytes>>) -> Result<Answer, SendError> {
        let sent = self.client.request(request).await;
        let (head, body) = sent
            .map_err(|error| SendError::Broken(explain(&error)))?
            .into_parts();
        // What it says matters to nobody; a connection is used again when all of it was read.
        let _ = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let wish = head.headers.get(header::RETRY_AFTER);
        let seconds = wish.and_then(|wish| wish.to_str().ok()?.trim().parse().ok());
        Ok(Answer {
            status: head.status,
            retry_after: seconds.map(|it| Duration::from_secs(it).min(LONGEST_WISH)),
        })
    }
}

/// The roots that browsers believe.
pub(super) fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// Connects to what may be reached.
#[derive(Clone)]
struct Connector {
    allowed: Arc<[IpNet]>,
}

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, ConnectError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let allowed = self.allowed.clone();
        Box::pin(async move { connect(&uri, &allowed).await.map(TokioIo::new) })
    }
}

async fn connect(uri: &Uri, allowed: &[IpNet]) -> Result<TcpStream, ConnectError> {
    let host = uri.host().ok_or(ConnectError::NoHost)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let usual = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let port = uri.port_u16().unwrap_or(usual);
    let mut failed = ConnectError::NotPublic { host: host.into() };
    for address in addresses(host, port).await? {
        if !may_reach(address.ip(), allowed) {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A request is one small write.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(cause) => failed = ConnectError::Refused { address, cause },
        }
    }
    Err(failed)
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let found = lookup_host((host, port)).await;
    let found = found.map_err(|cause| ConnectError::Unknown {
        host: host.into(),
        cause,
    })?;
    Ok(found.collect())
}
