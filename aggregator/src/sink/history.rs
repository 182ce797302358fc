//! Reads the state that earlier aggregators and stores left in ClickHouse.

use super::connection::ClickHouse;
use crate::error_chain::explain;
use crate::history::{
    EventPlace, History, KnownCheck, KnownConversion, Page, RecordedCounts, Refunds, SpoolClaim,
};
use crate::row_outcomes::REPORT_TABLES;
use crate::sink_error::SinkError;
use clickhouse::error::Error;
use clickhouse::query::Query;
use clickhouse::{Client, Row, RowOwned, RowRead};
use clickhouse_schema::first_row;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;

/// The limit of a query, and of each next row.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

const PAGE_ROWS: usize = 1_000;

const CLAIM: &str = "SELECT generation, spool FROM aggregator_generations WHERE instance = ? \
     ORDER BY generation DESC, spool LIMIT 1";

const CONVERSIONS: &str = "SELECT advertiser, click_id, kind, custom_kind, transaction, epoch, revision, status, \
     payout_minor, currency, refunded_minor, last_refund, toUnixTimestamp64Micro(time) AS micros \
     FROM current_conversions";

const CHECKS: &str = "SELECT provider, delivery, affiliate, status, tier, \
     toUnixTimestamp64Micro(happened) AS happened_micros, toUnixTimestamp64Micro(time) AS micros \
     FROM kyc_events WHERE outcome != 'repeat'";

#[derive(Row, Deserialize)]
struct ClaimRow {
    generation: u64,
    spool: u64,
}

#[derive(Row, Deserialize)]
struct ConversionRow {
    advertiser: String,
    click_id: String,
    kind: String,
    custom_kind: String,
    transaction: String,
    epoch: u64,
    revision: u32,
    status: String,
    payout_minor: i64,
    currency: String,
    refunded_minor: i64,
    last_refund: String,
    micros: i64,
}

#[derive(Row, Deserialize)]
struct CheckRow {
    provider: String,
    delivery: String,
    affiliate: String,
    status: String,
    tier: u8,
    happened_micros: i64,
    micros: i64,
}

#[derive(Row, Deserialize)]
struct PlaceRow {
    node: u16,
    lane: u8,
    journal: u64,
    seq: u64,
    micros: i64,
}

impl History for ClickHouse {
    async fn latest_claim(&self, instance: &str) -> Result<Option<SpoolClaim>, SinkError> {
        let server = self.servers.preferred();
        let query = server.client.query(CLAIM).bind(instance);
        let found = server.settle(answered(first_row::<ClaimRow>(query)).await);
        Ok(found?.map(|row| SpoolClaim {
            generation: row.generation,
            spool: row.spool,
        }))
    }

    async fn claim(&self, instance: &str, claim: SpoolClaim) -> Result<(), SinkError> {
        let sql =
            "INSERT INTO aggregator_generations (instance, generation, spool) VALUES (?, ?, ?)";
        let server = self.servers.preferred();
        let query = server.client.query(sql).bind(instance);
        let query = query.bind(claim.generation).bind(claim.spool);
        server.settle(answered(query.execute()).await)
    }

    async fn recorded(&self) -> Result<RecordedCounts, SinkError> {
        let server = self.servers.preferred();
        server.settle(recorded(server.client).await)
    }

    async fn stored(&self, places: &[EventPlace]) -> Result<BTreeSet<EventPlace>, SinkError> {
        let times = || places.iter().map(|place| place.time);
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            return Ok(BTreeSet::new());
        };
        let wanted: BTreeSet<_> = places.iter().copied().collect();
        let keys: Vec<_> = wanted
            .iter()
            .map(|it| (it.node, it.lane, it.journal, it.seq))
            .collect();
        let server = self.servers.preferred();
        let mut stored = BTreeSet::new();
        for table in REPORT_TABLES {
            let sql = format!(
                "SELECT node, lane, journal, seq, toUnixTimestamp64Micro(time) AS micros FROM {table} \
                 WHERE time >= fromUnixTimestamp64Micro(toInt64(?)) \
                 AND time <= fromUnixTimestamp64Micro(toInt64(?)) AND (node, lane, journal, seq) IN ?"
            );
            let query = server.client.query(&sql).bind(first).bind(last).bind(&keys);
            for row in server.settle(answered(query.fetch_all::<PlaceRow>()).await)? {
                stored.insert(EventPlace {
                    node: row.node,
                    lane: row.lane,
                    journal: row.journal,
                    seq: row.seq,
                    time: row.micros.cast_unsigned(),
                });
            }
        }
        stored.retain(|place| wanted.contains(place));
        Ok(stored)
    }

    async fn conversions(&self, pages: Page<KnownConversion>) -> Result<(), SinkError> {
        let server = self.servers.preferred();
        let sent = send(server.client, CONVERSIONS, pages, |row: ConversionRow| {
            KnownConversion {
                advertiser: row.advertiser,
                click_id: row.click_id,
                kind: row.kind,
                custom_kind: row.custom_kind,
                transaction: row.transaction,
                epoch: row.epoch,
                revision: row.revision,
                status: row.status,
                payout_minor: row.payout_minor,
                currency: row.currency,
                refunds: Refunds {
                    minor: row.refunded_minor,
                    last: row.last_refund,
                },
                time: row.micros,
            }
        });
        server.settle(sent.await)
    }

    async fn checks(&self, pages: Page<KnownCheck>) -> Result<(), SinkError> {
        let server = self.servers.preferred();
        let sent = send(server.client, CHECKS, pages, |row: CheckRow| KnownCheck {
            provider: row.provider,
            delivery: row.delivery,
            affiliate: row.affiliate,
            status: row.status,
            tier: row.tier,
            happened: row.happened_micros,
            time: row.micros,
        });
        server.settle(sent.await)
    }
}

/// Sends the rows of a query in pages.
async fn send<R, T>(
    client: &Client,
    sql: &str,
    pages: Page<T>,
    known: impl Fn(R) -> T + Send,
) -> Result<(), SinkError>
where
    R: RowOwned + RowRead + Send,
    T: Send,
{
    let cursor = client.query(sql).fetch::<R>();
    let mut cursor = cursor.map_err(|error| failed(&error))?;
    let mut page = Vec::with_capacity(PAGE_ROWS);
    while let Some(row) = answered(cursor.next()).await? {
        page.push(known(row));
        if page.len() == PAGE_ROWS && pages.send(std::mem::take(&mut page)).await.is_err() {
            return Ok(());
        }
    }
    // The receiver notices the end of the rows by the end of the channel.
    let _ = pages.send(page).await;
    Ok(())
}

async fn recorded(client: &Client) -> Result<RecordedCounts, SinkError> {
    let conversions = client.query("SELECT count(), max(epoch) FROM conversions");
    let (conversions, highest_epoch) = only_row::<(u64, u64)>(conversions).await?;
    let checks = client.query("SELECT count() FROM kyc_events");
    Ok(RecordedCounts {
        conversions,
        checks: only_row(checks).await?,
        highest_epoch,
    })
}

async fn answered<T>(query: impl Future<Output = Result<T, Error>>) -> Result<T, SinkError> {
    let result = timeout(RESPONSE_TIMEOUT, query).await;
    result
        .map_err(|_| SinkError::TimedOut(RESPONSE_TIMEOUT))?
        .map_err(|error| failed(&error))
}

/// The row of a query that always has one.
async fn only_row<T: RowOwned + RowRead>(query: Query) -> Result<T, SinkError> {
    let row = answered(first_row(query)).await?;
    row.ok_or_else(|| failed(&Error::RowNotFound))
}

fn failed(error: &Error) -> SinkError {
    SinkError::ClickHouse(explain(error))
}
