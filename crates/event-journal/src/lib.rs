//! An append-only log of opaque events: accepted when appended (survives `kill -9`), durable when
//! synced (survives a power loss).
//!
//! Lanes, segments, frames, recovery and retention belong here; the content and the consumers of
//! events never do. Invariant: files are accessed only through `storage`.
#![forbid(unsafe_code)]

mod checkpoint;
mod count;
mod error;
mod frame;
mod ids;
mod lane;
mod maintenance;
mod open;
mod reader;
mod recovery;
mod segment;
mod spool;
mod stats;
mod sync_signal;
mod sync_thread;
mod writer;

pub use checkpoint::BatchBoundary;
pub use count::EventCount;
pub use error::{AppendError, OpenError, ReadError, SyncFailed};
pub use frame::{Frame, FrameError, Frames, SEQ_LIMIT, frame_bytes, frames};
pub use ids::{IdRange, IdSplit, JournalIds, LaneStart};
pub use maintenance::JournalMaintenance;
pub use open::{ManualJournal, OpenJournal, Options, open, open_manual};
pub use reader::{FrameRun, LaneReader};
pub use recovery::{LaneRecovery, Recovery};
pub use stats::JournalStats;
pub use sync_signal::SyncRequest;
pub use sync_thread::SyncThread;
pub use writer::LaneWriter;
