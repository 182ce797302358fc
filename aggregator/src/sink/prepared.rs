//! A block made ready for ClickHouse: decoded once, so that every attempt sends the same.

use super::columns::{self, Columns};
use super::decode::{Rejected, Rows, unseal};
use crate::blocks::Block;

/// Columns per table, and what could not be made one of their rows.
pub(crate) struct Prepared {
    pub(crate) token: String,
    pub(crate) block: Block,
    pub(crate) tables: Vec<(&'static str, Columns)>,
    /// When each event happened, in microseconds since 1970.
    pub(crate) times: Vec<u64>,
    pub(crate) rejected: Vec<Rejected>,
}

/// Decodes a block. Rows keep the order of the block, so a block always gives the same columns.
pub(crate) fn prepare(token: String, block: Block) -> Prepared {
    let mut raws = Vec::with_capacity(block.entries.len());
    let mut unopened = Vec::new();
    for entry in &block.entries {
        match unseal(entry) {
            Ok(raw) => raws.push((entry, raw)),
            Err(rejected) => unopened.push(rejected),
        }
    }
    let mut rows = Rows {
        rejected: unopened,
        ..Rows::default()
    };
    for (entry, raw) in &raws {
        rows.add(entry, raw);
    }
    let mut tables = Vec::new();
    for (name, rows) in [("clicks", &rows.clicks), ("impressions", &rows.impressions)] {
        tables.extend(columns::build(rows).map(|columns| (name, columns)));
    }
    let times = rows
        .clicks
        .iter()
        .chain(&rows.impressions)
        .map(|row| row.visit.time.0)
        .collect();
    let rejected = rows.rejected;
    drop(raws);
    Prepared {
        token,
        block,
        tables,
        times,
        rejected,
    }
}
