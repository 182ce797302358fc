//! What ClickHouse has of the clicks that were sent: waiting for them, and each there once.

use crate::clickhouse::Analyst;
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};

/// Rows are visible within this after the last answer, or the benchmark fails.
pub(super) const VISIBLE_WITHIN: Duration = Duration::from_secs(60);

/// Waits until ClickHouse has `rows` clicks.
///
/// # Errors
/// When it has fewer after [`VISIBLE_WITHIN`], or does not answer.
pub(super) fn wait_for_rows(analyst: &Analyst, rows: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + VISIBLE_WITHIN;
    loop {
        let found = count(analyst, "SELECT count() FROM clicks")?;
        if found >= rows {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{rows} clicks were sent but ClickHouse has {found} after {VISIBLE_WITHIN:?}"
        );
        // Asking costs the engine, whose processor time is being taken.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Checks that ClickHouse has each of `rows` clicks once, in the table and in the roll-up.
///
/// # Errors
/// When it has not, with the figures.
pub(super) fn check_rows(analyst: &Analyst, rows: u64) -> anyhow::Result<()> {
    let found = count(analyst, "SELECT count() FROM clicks")?;
    let distinct = count(analyst, "SELECT uniqExact(id) FROM clicks")?;
    let rolled = count(
        analyst,
        "SELECT toUInt64(sum(counted) + sum(bots) + sum(prefetches) + sum(heads)) FROM clicks_hourly",
    )?;
    ensure!(
        (found, distinct, rolled) == (rows, rows, rows),
        "{rows} clicks were sent but ClickHouse has {found}, {distinct} of them different, and \
         {rolled} by the hour"
    );
    Ok(())
}

/// The one number that `sql` asks for.
///
/// # Errors
/// When ClickHouse does not answer, or with something else.
pub(super) fn count(analyst: &Analyst, sql: &str) -> anyhow::Result<u64> {
    let answer = analyst.query(sql)?;
    let text = answer.rows.first().and_then(|row| row.first());
    text.context("a number")?.parse().context("a number")
}
