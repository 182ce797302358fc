//! The quarantine: events that could not be decoded, kept for examination in one file of JSON lines per block.

use super::decode::Rejected;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use storage::Storage;

/// The limit of files; later events are only counted.
const MAX_FILES: usize = 10_000;

/// The quarantine's directory.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine<S> {
    storage: S,
    dir: PathBuf,
}

#[derive(Serialize)]
struct QuarantinedEvent<'a> {
    node: u16,
    lane: u8,
    journal: String,
    seq: u64,
    format_version: u16,
    reason: &'a str,
    /// In hexadecimal: the bytes may be anything.
    bytes: String,
}

impl<S: Storage> Quarantine<S> {
    pub(crate) fn new(storage: S, data_dir: &Path) -> Self {
        Self {
            storage,
            dir: data_dir.join("quarantine"),
        }
    }

    /// Writes the rejected events of the block `token`. Repeating it changes nothing.
    pub(crate) fn keep(&self, token: &str, rejected: &[Rejected]) -> io::Result<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        storage::create_dir_all(&self.storage, &self.dir)?;
        if self.storage.list(&self.dir)?.len() >= MAX_FILES {
            tracing::error!(directory = %self.dir.display(), "the quarantine is full; examine and delete its files");
            return Ok(());
        }
        let mut text = Vec::new();
        for event in rejected {
            serde_json::to_writer(&mut text, &line(event))?;
            text.push(b'\n');
        }
        let path = self.dir.join(format!("{token}.jsonl"));
        storage::replace(&self.storage, &path, &text, true)
    }
}

fn line(event: &Rejected) -> QuarantinedEvent<'_> {
    QuarantinedEvent {
        node: event.key.node,
        lane: event.key.lane,
        journal: format!("{:016x}", event.key.journal),
        seq: event.seq,
        format_version: event.format_version,
        reason: event.reason,
        bytes: data_encoding::HEXLOWER.encode(&event.bytes),
    }
}
