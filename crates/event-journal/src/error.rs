//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// The journal can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A file or folder can't be used.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process has the journal.
    #[error("{} is in use by another process; stop it, or give this one a folder of its own", .0.display())]
    InUse(PathBuf),
    /// The options contradict each other.
    #[error(
        "{lanes} lanes with segments of {segment_bytes} bytes need max_bytes of at least {least}"
    )]
    TooSmall {
        /// The lanes asked for.
        lanes: u8,
        /// The size of a segment asked for.
        segment_bytes: u32,
        /// The least that works.
        least: u64,
    },
}

/// An event was not accepted; nothing of it is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The journal has as many bytes as it may.
    #[error("the journal is full: raise max_bytes or bring the aggregator back")]
    SpoolFull,
    /// The disk has no room for another segment.
    #[error("the disk is full: free space under the journal's folder")]
    DiskFull,
    /// Another segment could not be made.
    #[error("the journal's folder can't be written; see the log")]
    Failed,
    /// The event is longer than 128 KiB or a segment.
    #[error("the event is longer than 128 KiB or a segment")]
    TooLong,
    /// The caller could not write the event into the room it asked for.
    #[error("the event did not fit into the room asked for")]
    Abandoned,
}

impl AppendError {
    /// All that [`AppendError::reason`] can say.
    pub const REASONS: [&str; 5] = [
        "spool_full",
        "disk_full",
        "journal_failed",
        "event_too_long",
        "event_abandoned",
    ];

    /// A word for metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SpoolFull => Self::REASONS[0],
            Self::DiskFull => Self::REASONS[1],
            Self::Failed => Self::REASONS[2],
            Self::TooLong => Self::REASONS[3],
            Self::Abandoned => Self::REASONS[4],
        }
    }
}

/// The journal can't be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// A segment can't be read.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A frame that was whole when written or recovered no longer is.
    #[error("{} has changed at byte {offset} since it was written", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// The journal does not hold exactly the run asked for.
    #[error("the journal does not hold the events {first} to {last} any more")]
    Gone {
        /// The first sequence asked for.
        first: u64,
        /// The last sequence asked for.
        last: u64,
    },
}

/// A sync failed, so nothing more of this lane can be called durable in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the journal could not be synced to disk; restart after mending the disk")]
pub struct SyncFailed;
