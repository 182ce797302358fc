//! Errors of the journal, with their remedies.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// The journal can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A file or directory can't be used.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Another process has the journal open.
    #[error("{} is in use by another process; stop that one, or configure another directory", .0.display())]
    InUse(PathBuf),
    /// The options contradict each other.
    #[error(
        "{lanes} lanes with segments of {segment_bytes} bytes need max_bytes of at least {least}"
    )]
    TooSmall {
        /// The configured number of lanes.
        lanes: u8,
        /// The configured segment size.
        segment_bytes: u32,
        /// The smallest valid value of `max_bytes`.
        least: u64,
    },
}

/// An event was not accepted; no part of it is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The journal has reached its maximum size.
    #[error("the journal is full: raise max_bytes or reconnect the aggregator")]
    SpoolFull,
    /// The disk has no space for another segment.
    #[error("the disk is full: free space for the journal's directory")]
    DiskFull,
    /// Another segment could not be created.
    #[error("the journal's directory can't be written; see the log")]
    Failed,
    /// The event is longer than 128 KiB or a segment.
    #[error("the event is longer than 128 KiB or a segment")]
    TooLong,
    /// The caller did not write the event, or wrote more than its `max_len`.
    #[error("the event did not fit into the requested length")]
    Abandoned,
}

impl AppendError {
    /// Every value of [`AppendError::reason`].
    pub const REASONS: [&str; 5] = [
        "spool_full",
        "disk_full",
        "journal_failed",
        "event_too_long",
        "event_abandoned",
    ];

    /// The label value for metrics.
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
        /// The segment.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// A frame that was valid when written or recovered no longer is.
    #[error("{} has changed at byte {offset} since it was written", path.display())]
    Changed {
        /// The segment.
        path: PathBuf,
        /// The offset of the frame.
        offset: u64,
    },
    /// The journal does not hold exactly the requested frames.
    #[error("the journal no longer holds exactly the events {first} to {last}")]
    Gone {
        /// The first requested sequence.
        first: u64,
        /// The last requested sequence.
        last: u64,
    },
}

/// A sync failed, so no later event of this lane becomes durable in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the journal could not be synced to disk; replace the disk, then restart")]
pub struct SyncFailed;

#[cfg(test)]
mod tests {
    use super::AppendError;

    #[test]
    fn every_append_error_has_its_own_reason() {
        let errors = [
            AppendError::SpoolFull,
            AppendError::DiskFull,
            AppendError::Failed,
            AppendError::TooLong,
            AppendError::Abandoned,
        ];
        assert_eq!(errors.map(AppendError::reason), AppendError::REASONS);
    }
}
