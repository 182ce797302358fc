//! A block made ready for ClickHouse: decoded once, so that every attempt sends the same.

use super::columns::{self, Columns};
use super::decode::{Rejected, Row, Rows, unseal};
use super::reports;
use crate::blocks::Block;
use crate::report::{LocatedEvent, Report, Verdict};

/// The epoch of rows that no store evaluated.
const NO_EPOCH: u64 = 0;

/// Columns per table, and what could not be made one of their rows.
pub(crate) struct Prepared {
    pub(crate) token: String,
    pub(crate) block: Block,
    pub(crate) tables: Vec<(&'static str, Columns)>,
    /// What has to be judged before it has a table.
    pub(crate) reports: Vec<Report>,
    /// When each event happened, in microseconds since 1970.
    pub(crate) times: Vec<u64>,
    pub(crate) rejected: Vec<Rejected>,
}

impl Prepared {
    /// Adds the rows of reports by what became of them. The same verdicts always give the same columns.
    pub(crate) fn add_reports(&mut self, reports: &[LocatedEvent<'_>], verdicts: &[Verdict]) {
        self.tables
            .extend(reports::build(reports, verdicts, NO_EPOCH));
        self.times.extend(reports.iter().map(reports::time));
    }
}

/// Decodes blocks, each in the memory of the one before: to allocate as much again each time
/// would cost a seventh of what the aggregator does.
#[derive(Default)]
pub(crate) struct BlockDecoder {
    raws: Vec<Vec<u8>>,
    clicks: Vec<Row<'static>>,
    impressions: Vec<Row<'static>>,
}

impl BlockDecoder {
    /// Decodes a block. The same block always gives the same columns.
    pub(crate) fn prepare(&mut self, token: String, block: Block) -> Prepared {
        let entries = &block.entries;
        if self.raws.len() < entries.len() {
            self.raws.resize_with(entries.len(), Vec::new);
        }
        let mut rows = Rows {
            clicks: std::mem::take(&mut self.clicks),
            impressions: std::mem::take(&mut self.impressions),
            reports: Vec::new(),
            rejected: Vec::new(),
        };
        for (entry, raw) in entries.iter().zip(&mut self.raws) {
            match unseal(entry, raw) {
                Ok(()) => rows.add(entry, raw),
                Err(rejected) => rows.rejected.push(rejected),
            }
        }
        let Rows {
            clicks,
            impressions,
            reports,
            rejected,
        } = rows;
        let mut tables = Vec::new();
        for (name, rows) in [("clicks", &clicks), ("impressions", &impressions)] {
            tables.extend(columns::build(rows).map(|columns| (name, columns)));
        }
        let all = clicks.iter().chain(&impressions);
        let times = all.map(|row| row.visit.time.0).collect();
        self.clicks = emptied(clicks);
        self.impressions = emptied(impressions);
        Prepared {
            token,
            block,
            tables,
            reports,
            times,
            rejected,
        }
    }
}

/// The memory of `rows`, for others.
fn emptied(mut rows: Vec<Row<'_>>) -> Vec<Row<'static>> {
    rows.clear();
    let none = rows.into_iter().map(|_| unreachable!("they were removed"));
    none.collect()
}
