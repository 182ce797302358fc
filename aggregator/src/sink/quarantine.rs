//! What could not be decoded, kept for a person to look at: one file of JSON lines per block.

use super::decode::Rejected;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// No more files are kept; what comes after is only counted.
const MAX_FILES: usize = 10_000;

/// The folder of such files.
#[derive(Debug, Clone)]
pub(crate) struct Quarantine {
    dir: PathBuf,
}

#[derive(Serialize)]
struct Line<'a> {
    node: u16,
    lane: u8,
    journal: String,
    seq: u64,
    format_version: u16,
    reason: &'a str,
    /// In hexadecimal, for it may be anything.
    bytes: String,
}

impl Quarantine {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join("quarantine"),
        }
    }

    /// Writes what was rejected of the block `token`; doing so again changes nothing.
    pub(crate) fn keep(&self, token: &str, rejected: &[Rejected]) -> io::Result<()> {
        if rejected.is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir)?;
        if fs::read_dir(&self.dir)?.count() >= MAX_FILES {
            tracing::error!(folder = %self.dir.display(), "the quarantine is full; look at it and empty it");
            return Ok(());
        }
        let (beside, path) = (
            self.dir.join(format!("{token}.tmp")),
            self.dir.join(format!("{token}.jsonl")),
        );
        let mut file = BufWriter::new(File::create(&beside)?);
        for event in rejected {
            serde_json::to_writer(&mut file, &line(event))?;
            file.write_all(b"\n")?;
        }
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(beside, path)?;
        File::open(&self.dir)?.sync_all()
    }
}

fn line(event: &Rejected) -> Line<'_> {
    Line {
        node: event.key.node,
        lane: event.key.lane,
        journal: format!("{:016x}", event.key.journal),
        seq: event.seq,
        format_version: event.format_version,
        reason: event.reason,
        bytes: data_encoding::HEXLOWER.encode(&event.bytes),
    }
}
