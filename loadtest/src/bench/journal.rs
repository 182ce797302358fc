//! Reads the journal of a stopped edge.

use ahash::AHashSet;
use anyhow::ensure;
use std::path::Path;
use std::time::Duration;
use tracking_events::{Event, FORMAT_VERSION};

const READ_BYTES: usize = 4 << 20;

/// Events in a journal's files, including those that were released but not yet deleted.
#[derive(Debug, Default)]
pub(crate) struct JournalContents {
    /// Number of events; all ids are distinct.
    pub(crate) events: u64,
    /// Bytes of their frames.
    pub(crate) bytes: u64,
    /// Ids of clicks and impressions.
    pub(crate) ids: AHashSet<String>,
    /// Transactions of conversions.
    pub(crate) transactions: AHashSet<String>,
}

impl JournalContents {
    /// Reads all lanes of the journal in `dir`.
    ///
    /// # Errors
    /// If the journal can't be read, or an id or a transaction occurs twice.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let options = event_journal::Options {
            dir: dir.to_owned(),
            lanes: 1,
            format_version: FORMAT_VERSION,
            segment_bytes: 1 << 20,
            max_bytes: u64::MAX,
            sync_interval: Duration::from_secs(60),
        };
        let mut opened = event_journal::open(&options)?;
        let (mut contents, mut frames) = (Self::default(), Vec::new());
        for reader in &mut opened.readers {
            reader.seek(0);
            while let Some(run) = reader.read(READ_BYTES, &mut frames)? {
                for frame in event_journal::frames(&frames) {
                    let event = tracking_events::decode(run.format_version, frame?.payload)?;
                    contents.take(&event)?;
                }
                contents.events += u64::from(run.events);
                contents.bytes += frames.len() as u64;
                frames.clear();
            }
        }
        Ok(contents)
    }
    fn take(&mut self, event: &Event<'_>) -> anyhow::Result<()> {
        match event {
            Event::Click(visit) | Event::Impression(visit) => {
                let new = self.ids.insert(visit.id.to_string());
                ensure!(new, "two clicks have the id {}", visit.id);
            }
            Event::Conversion(conversion) => {
                let transaction = conversion.transaction;
                let new = self.transactions.insert(transaction.to_owned());
                ensure!(new, "two conversions have the transaction {transaction}");
            }
            Event::KycUpdate(_) | Event::Rejection(_) => {}
        }
        Ok(())
    }
}
