//! Reads sales from the tables and compares them with the sent ones. No request is sent from here.

use super::{SalesCounts, SentSales};
use crate::clickhouse::{Analyst, QueryResult};
use anyhow::{Context as _, bail};
use comfy_table::{CellAlignment, Table, presets};
use std::time::{Duration, Instant};

/// Minimum time without changes before the tables count as complete, if retries may add rows.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until the tables hold exactly the `sent` sales and returns their counts.
///
/// # Errors
/// If the tables hold something else after `within`.
pub fn wait_until_stored(
    analyst: &Analyst,
    sent: &SentSales,
    within: Duration,
) -> anyhow::Result<SalesCounts> {
    let deadline = Instant::now() + within;
    let quiet = if sent.retries() == 0 {
        Duration::ZERO
    } else {
        QUIET_PERIOD
    };
    let (mut last, mut since) = (SalesCounts::default(), Instant::now());
    loop {
        let found = stored(analyst)?;
        if found != last {
            (last, since) = (found, Instant::now());
        }
        if sent.matches(&last) && since.elapsed() >= quiet {
            return Ok(last);
        }
        if Instant::now() >= deadline {
            bail!("sales were lost or duplicated: sent {sent:?}, found {last:?}");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

impl SentSales {
    /// Whether the tables hold exactly that. A retried request may also be stored as a repeat or a second rejection,
    /// because only the first response may have been lost.
    fn matches(&self, found: &SalesCounts) -> bool {
        let SalesCounts {
            conversions,
            revisions,
            duplicates,
            ref rejected,
            kyc_updates,
        } = self.sales;
        let retries = |number| self.rejected_retries.get(number).copied().unwrap_or(0);
        let numbers = rejected.keys().eq(found.rejected.keys());
        let mut each = rejected.iter().zip(&found.rejected);
        (conversions, revisions, kyc_updates)
            == (found.conversions, found.revisions, found.kyc_updates)
            && (duplicates..=duplicates + self.accepted_retries).contains(&found.duplicates)
            && numbers
            && each.all(|((number, sent), (_, found))| {
                (*sent..=sent + retries(number)).contains(found)
            })
    }

    /// A table of rejections by reason: sent, retried and stored.
    #[must_use]
    pub fn rejections_table(&self, found: &SalesCounts) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["rejected by reason", "sent", "retried", "in the table"]);
        for (number, sent) in &self.sales.rejected {
            let retries = self.rejected_retries.get(number).unwrap_or(&0);
            let found = found.rejected.get(number).unwrap_or(&0);
            table.add_row([&u64::from(*number), sent, retries, found].map(u64::to_string));
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

fn stored(analyst: &Analyst) -> anyhow::Result<SalesCounts> {
    let result = analyst.query(
        "SELECT (SELECT count() FROM current_conversions), (SELECT countIf(revision > 1) FROM conversions), \
         (SELECT count() FROM conversion_repeats), \
         (SELECT countIf(outcome = 'applied') FROM kyc_events)",
    )?;
    let [conversions, revisions, duplicates, kyc_updates] = numbers(result)?[..] else {
        bail!("the query returns four numbers");
    };
    let mut sales = SalesCounts {
        conversions,
        revisions,
        duplicates,
        kyc_updates,
        ..SalesCounts::default()
    };
    let by_reason = analyst.query("SELECT reason, count() FROM rejections GROUP BY reason")?;
    for row in by_reason.rows {
        let [reason, count] = <[String; 2]>::try_from(row).ok().context("two columns")?;
        sales.rejected.insert(reason.parse()?, count.parse()?);
    }
    Ok(sales)
}

fn numbers(result: QueryResult) -> anyhow::Result<Vec<u64>> {
    let row = result.rows.into_iter().next().context("one row")?;
    let numbers: Result<Vec<u64>, _> = row.iter().map(|text| text.parse()).collect();
    Ok(numbers?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_retried_requests_may_be_stored_twice() {
        let sales = SalesCounts {
            conversions: 3,
            duplicates: 2,
            rejected: [(103, 4)].into(),
            ..SalesCounts::default()
        };
        let sent = SentSales {
            sales: sales.clone(),
            accepted_retries: 1,
            rejected_retries: [(103, 2)].into(),
            kyc_retries: 0,
        };
        let with = |change: fn(&mut SalesCounts)| {
            let mut found = sales.clone();
            change(&mut found);
            sent.matches(&found)
        };
        assert!(with(|_| ()));
        assert!(with(|it| it.duplicates = 3));
        assert!(with(|it| it.rejected.extend([(103, 6)])));
        for other in [
            with(|it| it.conversions = 4),
            with(|it| it.duplicates = 1),
            with(|it| it.duplicates = 4),
            with(|it| it.rejected.extend([(103, 7)])),
            with(|it| it.rejected.extend([(103, 3)])),
            with(|it| it.rejected.extend([(106, 1)])),
            with(|it| it.rejected.clear()),
        ] {
            assert!(!other);
        }
    }
}
