//! Reads the journal of an edge that has ended.

use domain::Micros;
use std::path::Path;
use std::time::Duration;
use tracking_events::{Event, Flags, Visit, decode};

/// The fields of a click that tests compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Click {
    pub time: Micros,
    pub visitor: u64,
    pub bits: u32,
}

impl Click {
    pub const fn flags(&self) -> Flags {
        Flags(self.bits)
    }
}

/// Every click in the journal below `dir`, by lane and in order.
pub fn clicks(dir: &Path, lanes: u8) -> Vec<Click> {
    visits(dir, lanes, |visit| Click {
        time: visit.time,
        visitor: visit.visitor.0,
        bits: visit.flags.0,
    })
}

/// The results of `select` for every click in the journal below `dir`, by lane and in order.
pub fn visits<T>(dir: &Path, lanes: u8, select: impl Fn(&Visit<'_>) -> T) -> Vec<T> {
    events(dir, lanes, |event| match event {
        Event::Click(visit) => Some(select(visit)),
        _ => None,
    })
}

/// The results of `select` for the events in the journal below `dir`, by lane and in order.
pub fn events<T>(dir: &Path, lanes: u8, select: impl Fn(&Event<'_>) -> Option<T>) -> Vec<T> {
    let opened = event_journal::open(&event_journal::Options {
        dir: dir.join("data/journal"),
        lanes,
        format_version: tracking_events::FORMAT_VERSION,
        segment_bytes: 1 << 20,
        max_bytes: 8 << 30,
        sync_interval: Duration::from_millis(500),
    });
    let mut selected = Vec::new();
    for mut reader in opened.expect("journal").readers {
        let mut frames = Vec::new();
        while let Some(run) = reader.read(1 << 20, &mut frames).expect("readable") {
            for frame in event_journal::frames(&frames).flatten() {
                if let Ok(event) = decode(run.format_version, frame.payload) {
                    selected.extend(select(&event));
                }
            }
            frames.clear();
        }
    }
    selected
}
