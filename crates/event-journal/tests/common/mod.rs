//! The journal options of the tests.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod events;

use event_journal::Options;
use std::path::Path;
use std::time::Duration;

pub(crate) const SEGMENT_BYTES: u32 = 64 << 10;

pub(crate) fn options(dir: &Path) -> Options {
    Options {
        dir: dir.into(),
        lanes: 1,
        format_version: 1,
        segment_bytes: SEGMENT_BYTES,
        max_bytes: 64 << 20,
        sync_interval: Duration::from_millis(20),
    }
}
