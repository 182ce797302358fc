//! Decodes a block into columns for ClickHouse, once, so that every attempt sends the same bytes.

use super::columns::{self, Columns};
use super::decode::{DecodedRow, DecodedRows, Rejected, unseal};
use super::reports;
use crate::blocks::Block;
use crate::report::{LocatedEvent, Report, Verdict};

/// The epoch of rows that no store evaluated.
const NO_EPOCH: u64 = 0;

/// A decoded block: columns for each table, reports, and rejected events.
pub(crate) struct PreparedBlock {
    pub(crate) token: String,
    pub(crate) block: Block,
    pub(crate) tables: Vec<(&'static str, Columns)>,
    /// Reports; their evaluation decides on their tables.
    pub(crate) reports: Vec<Report>,
    /// The time of each event, in microseconds since 1970.
    pub(crate) times: Vec<u64>,
    pub(crate) rejected: Vec<Rejected>,
}

impl PreparedBlock {
    /// Adds the rows of reports with these verdicts. The same verdicts always give the same columns.
    pub(crate) fn add_reports(&mut self, reports: &[LocatedEvent<'_>], verdicts: &[Verdict]) {
        self.tables
            .extend(reports::build(reports, verdicts, NO_EPOCH));
        self.times.extend(reports.iter().map(reports::time));
    }
}

/// Decodes blocks, each in the memory of the one before: new allocations would cost a seventh of the aggregator's
/// processor time.
#[derive(Default)]
pub(crate) struct BlockDecoder {
    raws: Vec<Vec<u8>>,
    clicks: Vec<DecodedRow<'static>>,
    impressions: Vec<DecodedRow<'static>>,
}

impl BlockDecoder {
    /// Decodes a block. The same block always gives the same columns.
    pub(crate) fn prepare(&mut self, token: String, block: Block) -> PreparedBlock {
        let entries = &block.entries;
        if self.raws.len() < entries.len() {
            self.raws.resize_with(entries.len(), Vec::new);
        }
        let mut rows = DecodedRows {
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
        let DecodedRows {
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
        PreparedBlock {
            token,
            block,
            tables,
            reports,
            times,
            rejected,
        }
    }
}

/// Empties `rows`, and keeps the allocation.
fn emptied(mut rows: Vec<DecodedRow<'_>>) -> Vec<DecodedRow<'static>> {
    rows.clear();
    let none = rows
        .into_iter()
        .map(|_| unreachable!("all rows were removed"));
    none.collect()
}
