//! Talking to ClickHouse: migrations, then one insert per block and table, named by a token so that
//! ClickHouse takes a repetition only once.

use super::columns::Columns;
use super::database::{Database, SinkError, Tables};
use crate::explain::explain;
use crate::settings;
use clickhouse::{Client, Compression};
use std::time::Duration;

/// Sending a chunk, and everything ClickHouse does until it answers, may each take this long.
const SEND: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(120);

/// Sent, and compressed if that is worth it, at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Rows, far above what the largest block can hold.
const LARGEST_BLOCK: &str = "20000000";

/// A database that is there and has our tables.
#[derive(Debug)]
pub struct ClickHouse {
    client: Client,
}

impl Database for settings::ClickHouse {
    type Tables = ClickHouse;

    /// Reads the password, applies migrations, and so finds out whether ClickHouse answers.
    async fn connect(&self) -> Result<ClickHouse, SinkError> {
        let client = client(self)?;
        let migrating = clickhouse_schema::migrate(&client, &self.database);
        let migrated = tokio::time::timeout(ANSWER, migrating).await;
        migrated
            .map_err(|_| SinkError::Silent(ANSWER))?
            .map_err(|error| SinkError::Migrate(explain(&error)))?;
        Ok(ClickHouse {
            client: client.with_database(&self.database),
        })
    }
}

impl Tables for ClickHouse {
    async fn insert(&self, table: &str, token: &str, block: &Columns) -> Result<(), SinkError> {
        let limit = SEND + ANSWER;
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
            .with_timeouts(Some(SEND), Some(ANSWER))
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
    let client = Client::default()
        .with_url(&settings.url)
        .with_user(&settings.user)
        .with_password(settings.login()?)
        .with_compression(compression(&settings.url));
    Ok(client.with_product_info("aggregator", env!("CARGO_PKG_VERSION")))
}

/// Compressing for the same machine costs both sides and saves nothing.
fn compression(url: &str) -> Compression {
    let host = url.trim_start_matches("http://");
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let near = ["127.0.0.1", "localhost", "[::1]"].contains(&host.trim_end_matches('/'));
    if near {
        Compression::None
    } else {
        Compression::Lz4
    }
}
