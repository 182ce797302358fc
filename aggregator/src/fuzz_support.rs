//! Entry points for fuzz targets: reading files at the start, and decoding batches into rows. Nothing else may use it.

use crate::blocks::{Block, Entry, Spool};
use crate::report::{LocatedEvent, Refunds, Report, Revision, Verdict};
use crate::sink::BlockDecoder;
use bytes::Bytes;
use domain::{ConversionKind, ConversionStatus, Micros, Money};
use event_shipping::BatchHeader;
use std::path::Path;
use storage::Disk;

/// The files that an earlier run left in a data directory.
#[derive(Debug, PartialEq, Eq)]
pub struct RecoveredFiles {
    /// The number of the last block that was inserted.
    pub taken: u64,
    /// The bodies of blocks that may not be inserted yet, by token.
    pub blocks: Vec<(String, Vec<u8>)>,
    /// The number of damaged files, which were renamed.
    pub set_aside: usize,
}

/// Reads the block files and the checkpoint below `data_dir`.
///
/// # Errors
/// When the directory can't be used. No content of its files is an error.
pub fn found(data_dir: &Path) -> Result<RecoveredFiles, String> {
    let (_, recovered) = Spool::open(Disk, data_dir).map_err(|error| error.to_string())?;
    let blocks = recovered.blocks.into_iter();
    let bodies = blocks.map(|(token, block)| block.to_body().map(|body| (token, body)));
    Ok(RecoveredFiles {
        taken: recovered.checkpoint.block,
        blocks: bodies
            .collect::<Result<_, _>>()
            .map_err(|it| it.to_string())?,
        set_aside: recovered.set_aside.len(),
    })
}

/// The block in `body`, encoded again; `None` when `body` is not a block.
#[must_use]
pub fn block(body: Vec<u8>) -> Option<Vec<u8>> {
    Block::from_body(body)?.to_body().ok()
}

/// Decodes a batch; returns the number of rows, of quarantined events, and of the columns' bytes.
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
    let located: Vec<LocatedEvent<'_>> = reports.iter().filter_map(Report::read).collect();
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
    prepared.add_reports(&located, &vec![verdict; located.len()]);
    let columns = prepared.tables.iter().map(|(_, columns)| columns);
    let rows = columns.clone().map(|columns| columns.rows).sum();
    let parts = columns.flat_map(|columns| &columns.parts);
    (rows, prepared.rejected.len(), parts.map(Bytes::len).sum())
}
