//! The journal that the tests open.

use event_journal::Options;
use std::path::Path;
use std::time::Duration;

pub(crate) const SEGMENT: u32 = 64 << 10;

pub(crate) fn options(dir: &Path) -> Options {
    Options {
        dir: dir.into(),
        lanes: 1,
        format_version: 1,
        segment_bytes: SEGMENT,
        max_bytes: 64 << 20,
        sync_interval: Duration::from_millis(20),
    }
}
