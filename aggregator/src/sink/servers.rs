//! The servers of ClickHouse. One is used until a request fails; the next request goes to the next server.

use crate::settings::{ClickHouseSettings, Transport};
use crate::sink_error::SinkError;
use clickhouse::{Client, Compression};
use clickhouse_schema::Layout;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// Below the 3 s after which ClickHouse closes an idle connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Clients of servers with the same tables.
#[derive(Debug)]
pub(super) struct Servers {
    clients: Vec<Client>,
    preferred: AtomicUsize,
}

/// The server of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    pub(super) client: &'a Client,
    servers: &'a Servers,
    index: usize,
}

impl Servers {
    /// Clients of every server that `settings` name, without a database.
    pub(super) fn of(settings: &ClickHouseSettings) -> Result<Self, SinkError> {
        let clients = settings.urls().map(|url| client(settings, url));
        Ok(Self {
            clients: clients.collect::<Result<_, _>>()?,
            preferred: AtomicUsize::new(0),
        })
    }

    /// The same servers with this database selected.
    pub(super) fn with_database(self, database: &str) -> Self {
        let clients = self.clients.into_iter();
        Self {
            clients: clients.map(|it| it.with_database(database)).collect(),
            preferred: self.preferred,
        }
    }

    /// The server that is used now.
    pub(super) fn preferred(&self) -> Server<'_> {
        let index = self.preferred.load(Ordering::Relaxed);
        Server {
            client: &self.clients[index],
            servers: self,
            index,
        }
    }
}

impl Server<'_> {
    /// Returns the result of a request to this server. After an error the next server is preferred.
    pub(super) fn settle<T>(self, result: Result<T, SinkError>) -> Result<T, SinkError> {
        if result.is_err() {
            let next = (self.index + 1) % self.servers.clients.len();
            // Another failed request may have made the change already.
            let _ = self.servers.preferred.compare_exchange(
                self.index,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        result
    }
}

/// A client of the server at `url` with credentials, but without a database.
fn client(settings: &ClickHouseSettings, url: &str) -> Result<Client, SinkError> {
    let (client, compression) = match settings.transport(url)? {
        Transport::Tls => (encrypted(settings.authorities()?), Compression::Lz4),
        // On the same machine, compression costs more than it saves.
        Transport::Loopback => (Client::default(), Compression::None),
        Transport::Plaintext => (Client::default(), Compression::Lz4),
    };
    let client = client
        .with_url(url)
        .with_user(&settings.user)
        .with_password(settings.login()?)
        .with_compression(compression);
    let client = client.with_product_info("aggregator", env!("CARGO_PKG_VERSION"));
    if settings.cluster.is_none() {
        return Ok(client);
    }
    let on_cluster = Layout::SETTINGS_ON_CLUSTER.into_iter();
    Ok(on_cluster.fold(client, |client, (name, value)| {
        client.with_setting(name, value)
    }))
}

/// A client that connects only to servers with a certificate of one of `authorities`.
fn encrypted(authorities: RootCertStore) -> Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports its own versions")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_keepalive(Some(TCP_KEEPALIVE_INTERVAL));
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let http = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .build(connector);
    Client::with_http_client(http)
}
