//! Connects to ClickHouse: applies migrations, then inserts one block per table. Each insert has a token by which
//! ClickHouse ignores a repetition.

use super::columns::Columns;
use super::database::{Database, Tables};
use super::servers::{Server, Servers};
use crate::error_chain::explain;
use crate::settings::ClickHouseSettings;
use crate::sink_error::SinkError;
use clickhouse::Client;
use clickhouse_schema::Layout;
use std::time::Duration;

/// The limit of each: sending a chunk, and ClickHouse's processing until its response.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// The limit of all migrations of a cluster, whose servers execute each statement in turn.
const CLUSTER_MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);

/// The size of a chunk, which is compressed (if that is useful) and sent at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A number of rows far above the largest block.
const LARGEST_BLOCK: &str = "20000000";

/// A reachable database with our tables.
#[derive(Debug)]
pub struct ClickHouse {
    pub(super) servers: Servers,
}

impl Database for ClickHouseSettings {
    type Tables = ClickHouse;

    /// Reads the password and applies migrations, which checks the connection; with the first server that is able to.
    async fn connect(&self) -> Result<ClickHouse, SinkError> {
        let servers = Servers::of(self)?;
        for _ in self.urls().skip(1) {
            match self.migrate(servers.preferred()).await {
                Ok(()) => return Ok(servers.with_database(&self.database).into()),
                Err(error) => {
                    tracing::warn!(%error, "a server of ClickHouse is unavailable, trying the next one")
                }
            }
        }
        self.migrate(servers.preferred()).await?;
        Ok(servers.with_database(&self.database).into())
    }
}

impl ClickHouseSettings {
    async fn migrate(&self, server: Server<'_>) -> Result<(), SinkError> {
        let (layout, limit) = match &self.cluster {
            None => (Layout::Server, QUERY_TIMEOUT),
            Some(cluster) => (Layout::Cluster(cluster.clone()), CLUSTER_MIGRATION_TIMEOUT),
        };
        let migrating = clickhouse_schema::migrate(server.client, &self.database, &layout);
        server.settle(match tokio::time::timeout(limit, migrating).await {
            Ok(migrated) => migrated
                .map(drop)
                .map_err(|error| SinkError::Migrate(explain(&error))),
            Err(_) => Err(SinkError::TimedOut(limit)),
        })
    }
}

impl From<Servers> for ClickHouse {
    fn from(servers: Servers) -> Self {
        Self { servers }
    }
}

impl Tables for ClickHouse {
    async fn insert(&self, table: &str, token: &str, block: &Columns) -> Result<(), SinkError> {
        let limit = SEND_TIMEOUT + QUERY_TIMEOUT;
        let server = self.servers.preferred();
        let insert = insert(server.client, table, token, block);
        let result = match tokio::time::timeout(limit, insert).await {
            Ok(result) => result.map_err(|error| SinkError::ClickHouse(explain(&error))),
            Err(_) => Err(SinkError::TimedOut(limit)),
        };
        server.settle(result)
    }
}

async fn insert(
    client: &Client,
    table: &str,
    token: &str,
    block: &Columns,
) -> clickhouse::error::Result<()> {
    // The server must neither split the block nor merge it with another: the token stands for exactly these rows.
    // An edge with a wrong clock may spread them over many partitions.
    let mut insert = client
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
        // The roll-up's query runs once per block: compiling it costs more than it saves.
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
