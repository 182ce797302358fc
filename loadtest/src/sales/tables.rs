//! What the tables hold of sales, and whether it is what was sent. How it was sent never belongs here.

use super::{Sales, Sent};
use crate::clickhouse::{Analyst, Answer};
use anyhow::{Context as _, bail};
use comfy_table::{CellAlignment, Table, presets};
use std::time::{Duration, Instant};

/// For so long nothing more must come, where something may.
const QUIET: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until the tables hold what was `sent`, and says what they hold.
///
/// # Errors
/// When they hold something else after `within`.
pub fn arrived(analyst: &Analyst, sent: &Sent, within: Duration) -> anyhow::Result<Sales> {
    let deadline = Instant::now() + within;
    let quiet = if sent.again() == 0 {
        Duration::ZERO
    } else {
        QUIET
    };
    let (mut last, mut since) = (Sales::default(), Instant::now());
    loop {
        let found = found(analyst)?;
        if found != last {
            (last, since) = (found, Instant::now());
        }
        if sent.is(&last) && since.elapsed() >= quiet {
            return Ok(last);
        }
        if Instant::now() >= deadline {
            bail!("sales were lost or doubled: sent {sent:?}, found {last:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Sent {
    /// Whether the tables hold just that. What was sent again may be there once more as a repeat or a
    /// refusal, for its first answer may have been lost.
    fn is(&self, found: &Sales) -> bool {
        let Sales {
            conversions,
            revisions,
            duplicates,
            ref refused,
            kyc_updates,
        } = self.sales;
        let again = |number| self.refused_again.get(number).copied().unwrap_or(0);
        let numbers = refused.keys().eq(found.refused.keys());
        let mut each = refused.iter().zip(&found.refused);
        (conversions, revisions, kyc_updates)
            == (found.conversions, found.revisions, found.kyc_updates)
            && (duplicates..=duplicates + self.taken_again).contains(&found.duplicates)
            && numbers
            && each
                .all(|((number, sent), (_, found))| (*sent..=sent + again(number)).contains(found))
    }

    /// Refusals by reason: sent, sent again, and found.
    #[must_use]
    pub fn refusals(&self, found: &Sales) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["refused by reason", "sent", "sent again", "in the table"]);
        for (number, sent) in &self.sales.refused {
            let again = self.refused_again.get(number).unwrap_or(&0);
            let found = found.refused.get(number).unwrap_or(&0);
            table.add_row([&u64::from(*number), sent, again, found].map(u64::to_string));
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

fn found(analyst: &Analyst) -> anyhow::Result<Sales> {
    let answer = analyst.query(
        "SELECT (SELECT count() FROM current_conversions), (SELECT countIf(revision > 1) FROM conversions), \
         (SELECT count() FROM conversion_repeats), \
         (SELECT countIf(outcome = 'applied') FROM kyc_events)",
    )?;
    let [conversions, revisions, duplicates, kyc_updates] = numbers(answer)?[..] else {
        bail!("four numbers were asked for");
    };
    let mut sales = Sales {
        conversions,
        revisions,
        duplicates,
        kyc_updates,
        ..Sales::default()
    };
    let by_reason = analyst.query("SELECT reason, count() FROM rejections GROUP BY reason")?;
    for row in by_reason.rows {
        let [reason, count] = <[String; 2]>::try_from(row).ok().context("two columns")?;
        sales.refused.insert(reason.parse()?, count.parse()?);
    }
    Ok(sales)
}

fn numbers(answer: Answer) -> anyhow::Result<Vec<u64>> {
    let row = answer.rows.into_iter().next().context("one row")?;
    let numbers: Result<Vec<u64>, _> = row.iter().map(|text| text.parse()).collect();
    Ok(numbers?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_again_may_be_there_once_more_and_nothing_else_may() {
        let sales = Sales {
            conversions: 3,
            duplicates: 2,
            refused: [(103, 4)].into(),
            ..Sales::default()
        };
        let sent = Sent {
            sales: sales.clone(),
            taken_again: 1,
            refused_again: [(103, 2)].into(),
            kyc_again: 0,
        };
        let with = |change: fn(&mut Sales)| {
            let mut found = sales.clone();
            change(&mut found);
            sent.is(&found)
        };
        assert!(with(|_| ()));
        assert!(with(|it| it.duplicates = 3));
        assert!(with(|it| it.refused.extend([(103, 6)])));
        for other in [
            with(|it| it.conversions = 4),
            with(|it| it.duplicates = 1),
            with(|it| it.duplicates = 4),
            with(|it| it.refused.extend([(103, 7)])),
            with(|it| it.refused.extend([(103, 3)])),
            with(|it| it.refused.extend([(106, 1)])),
            with(|it| it.refused.clear()),
        ] {
            assert!(!other);
        }
    }
}
