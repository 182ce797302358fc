//! Rows of the sent clicks in ClickHouse: waits for them and checks that each exists once.

use crate::clickhouse::Analyst;
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};

/// Maximum time until rows are visible after the last response.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until ClickHouse has `rows` clicks.
///
/// # Errors
/// If there are fewer after [`VISIBILITY_TIMEOUT`], or ClickHouse does not respond.
pub(super) fn wait_for_rows(analyst: &Analyst, rows: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + VISIBILITY_TIMEOUT;
    loop {
        let found = count(analyst, "SELECT count() FROM clicks")?;
        if found >= rows {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{rows} clicks were sent but ClickHouse has {found} after {VISIBILITY_TIMEOUT:?}"
        );
        // Queries cost CPU time of ClickHouse, which is being measured.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Checks that ClickHouse has each of `rows` clicks once, in the table and in the hourly sums.
///
/// # Errors
/// If it does not; the message contains the numbers.
pub(super) fn check_rows(analyst: &Analyst, rows: u64) -> anyhow::Result<()> {
    let found = count(analyst, "SELECT count() FROM clicks")?;
    let distinct = count(analyst, "SELECT uniqExact(id) FROM clicks")?;
    let rolled = count(
        analyst,
        "SELECT toUInt64(sum(counted) + sum(bots) + sum(prefetches) + sum(heads)) FROM clicks_hourly",
    )?;
    ensure!(
        (found, distinct, rolled) == (rows, rows, rows),
        "{rows} clicks were sent but ClickHouse has {found}, {distinct} of them distinct, and \
         {rolled} in the hourly sums"
    );
    Ok(())
}

/// The single number that `sql` returns.
///
/// # Errors
/// If ClickHouse does not respond or returns something else.
pub(super) fn count(analyst: &Analyst, sql: &str) -> anyhow::Result<u64> {
    let response = analyst.query(sql)?;
    let text = response.rows.first().and_then(|row| row.first());
    text.context("a number")?.parse().context("a number")
}
