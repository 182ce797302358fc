//! An append-only log of opaque events: accepted when appended (survives `kill -9`), durable when
//! synced (survives a power cut).
//!
//! Lanes, segments, frames, recovery and retention belong here. What an event says, and who reads
//! it, never does; nor do files: they are what `storage` gives.
#![forbid(unsafe_code)]

mod checkpoint;
mod error;
mod frame;
mod ids;
mod keeper;
mod lane;
mod open;
mod reader;
mod recovery;
mod segment;
mod spool;
mod writer;

pub use checkpoint::Seal;
pub use error::{AppendError, OpenError, ReadError, SyncFailed};
pub use frame::{Frame, FrameError, Frames, SEQ_LIMIT, frame_bytes, frames};
pub use ids::{IdRange, JournalIds, LaneStart, Split};
pub use keeper::{Keeper, Stats, SyncRequest, Upkeep};
pub use open::{Opened, Options, Unkept, open, open_on};
pub use reader::{LaneReader, Run};
pub use recovery::{LaneRecovery, Recovery};
pub use writer::LaneWriter;
