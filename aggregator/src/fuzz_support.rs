//! What tests with hostile bytes see of the aggregator: files read at start, and batches made rows.
//! Nothing else may use it.

use crate::blocks::{Block, Entry, Store};
use crate::report::{LocatedEvent, Refunds, Report, Revision, Verdict};
use crate::sink::BlockDecoder;
use bytes::Bytes;
use event_shipping::BatchHeader;
use std::path::Path;
use storage::Disk;
use tracking_events::{ConversionKind, ConversionStatus, Micros, Money};

/// What an earlier run left in a data directory.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The number of the last block that ClickHouse has.
    pub taken: u64,
    /// The bodies of the blocks that it may not have, by their tokens.
    pub blocks: Vec<(String, Vec<u8>)>,
    /// Damaged files that were renamed.
    pub set_aside: usize,
}

/// Reads the block files and the checkpoint below `data_dir`.
///
/// # Errors
/// When the directory can't be used; what is in its files is no error.
pub fn found(data_dir: &Path) -> Result<Found, String> {
    let (_, recovered) = Store::open(Disk, data_dir).map_err(|error| error.to_string())?;
    let blocks = recovered.blocks.into_iter();
    let bodies = blocks.map(|(token, block)| block.to_body().map(|body| (token, body)));
    Ok(Found {
        taken: recovered.checkpoint.block,
        blocks: bodies
            .collect::<Result<_, _>>()
            .map_err(|it| it.to_string())?,
        set_aside: recovered.set_aside.len(),
    })
}

/// The block that `body` is, encoded again; none when it is not a block.
#[must_use]
pub fn block(body: Vec<u8>) -> Option<Vec<u8>> {
    Block::from_body(body)?.to_body().ok()
}

/// What a batch becomes: rows, events in quarantine, and the bytes of the columns.
#[must_use]
pub fn rows(header: BatchHeader, payload: Bytes, skip_through: u64) -> (usize, usize, usize) {
    let entry = Entry {
        key: header.key(1),
        skip_through,
        header,
        received_at: 1_800_000_000_000_000,
        payload,
    };
    let block = Block {
        number: 1,
        entries: vec![entry],
    };
    let mut prepared = BlockDecoder::default().prepare("token".to_owned(), block);
    let reports = std::mem::take(&mut prepared.reports);
    let placed: Vec<LocatedEvent<'_>> = reports.iter().filter_map(Report::read).collect();
    let verdict = Verdict::Revised(vec![Revision {
        kind: ConversionKind::Custom,
        kind_name: "word".to_owned(),
        revision: 1,
        status: ConversionStatus::Pending,
        payout: Money::default(),
        refunds: Refunds::default(),
        state_time: Micros(0),
        found_transaction: None,
        withdrawn: false,
    }]);
    prepared.add_reports(&placed, &vec![verdict; placed.len()]);
    let columns = prepared.tables.iter().map(|(_, columns)| columns);
    let rows = columns.clone().map(|columns| columns.rows).sum();
    let parts = columns.flat_map(|columns| &columns.parts);
    (rows, prepared.rejected.len(), parts.map(Bytes::len).sum())
}
