//! Talking to ClickHouse: migrations, then one insert per block and table, named by a token so that
//! ClickHouse takes a repetition only once.

use super::columns::Columns;
use super::database::{Database, Tables};
use crate::error_chain::explain;
use crate::settings::{self, Transport};
use crate::sink_error::SinkError;
use clickhouse::{Client, Compression};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// Sending a chunk, and everything ClickHouse does until it answers, may each take this long.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// Below the 3 s after which ClickHouse closes a connection that is idle.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sent, and compressed if that is worth it, at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Rows, far above what the largest block can hold.
const LARGEST_BLOCK: &str = "20000000";

/// A database that is there and has our tables.
#[derive(Debug)]
pub struct ClickHouse {
    pub(super) client: Client,
}

impl Database for settings::ClickHouse {
    type Tables = ClickHouse;

    /// Reads the password, applies migrations, and so finds out whether ClickHouse answers.
    async fn connect(&self) -> Result<ClickHouse, SinkError> {
        let client = client(self)?;
        let migrating = clickhouse_schema::migrate(&client, &self.database);
        let migrated = tokio::time::timeout(QUERY_TIMEOUT, migrating).await;
        migrated
            .map_err(|_| SinkError::Silent(QUERY_TIMEOUT))?
            .map_err(|error| SinkError::Migrate(explain(&error)))?;
        Ok(ClickHouse {
            client: client.with_database(&self.database),
        })
    }
}

impl Tables for ClickHouse {
    async fn insert(&self, table: &str, token: &str, block: &Columns) -> Result<(), SinkError> {
        let limit = SEND_TIMEOUT + QUERY_TIMEOUT;
        let attempt = tokio::time::timeout(limit, self.insert_once(table, token, block));
        let answered = attempt.await.map_err(|_| SinkError::Silent(limit))?;
        answered.map_err(|error| SinkError::ClickHouse(explain(&error)))
    }
}

impl ClickHouse {
    async fn insert_once(
        &self,
        table: &str,
        token: &str,
        block: &Columns,
    ) -> clickhouse::error::Result<()> {
        // The server must neither split the block nor wait for another to join it: the token names
        // exactly these rows. A wrong clock on an edge may spread them over many partitions.
        let mut insert = self
            .client
            .insert_formatted_with(format!("INSERT INTO {table} FORMAT Native"))
            .with_timeouts(Some(SEND_TIMEOUT), Some(QUERY_TIMEOUT))
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", format!("{token}-{table}"))
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("max_insert_block_size", LARGEST_BLOCK)
            .with_setting("min_insert_block_size_rows", LARGEST_BLOCK)
            .with_setting("min_insert_block_size_bytes", "0")
            .with_setting("max_partitions_per_insert_block", "0")
            // The roll-up's query lives for one block: compiling it costs more than it ever saves.
            .with_setting("compile_expressions", "0")
            .with_setting("compile_aggregate_expressions", "0");
        for part in &block.parts {
            for start in (0..part.len()).step_by(CHUNK_BYTES) {
                let end = (start + CHUNK_BYTES).min(part.len());
                insert.send(part.slice(start..end)).await?;
            }
        }
        insert.end().await
    }
}

/// A client that knows who it is, and no database.
pub(super) fn client(settings: &settings::ClickHouse) -> Result<Client, SinkError> {
    let (client, compression) = match settings.transport()? {
        Transport::Tls => (encrypted(settings.authorities()?), Compression::Lz4),
        // Compressing for the same machine costs both sides and saves nothing.
        Transport::Loopback => (Client::default(), Compression::None),
        Transport::Plaintext => (Client::default(), Compression::Lz4),
    };
    let client = client
        .with_url(&settings.url)
        .with_user(&settings.user)
        .with_password(settings.login()?)
        .with_compression(compression);
    Ok(client.with_product_info("aggregator", env!("CARGO_PKG_VERSION")))
}

/// A client that sends nothing to a server without a certificate of one of `authorities`.
fn encrypted(authorities: RootCertStore) -> Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions it comes with")
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
