//! The data directory of an edge: its format, and what was found in its journal.

use daemon::state_directory::StateDirectory;
use event_journal::{LaneRecovery, Recovery};

/// The state directory of an edge.
pub(crate) const EDGE_DIRECTORY: StateDirectory = StateDirectory {
    kind: "edge",
    newest_format: 1,
    build: concat!("edge-tracker ", env!("CARGO_PKG_VERSION")),
};

/// Logs what was found of earlier processes, with damaged and set-aside files.
pub(crate) fn log_recovery(recovery: &Recovery) {
    let is_notable = |lane: &&LaneRecovery| {
        lane.events + lane.torn_bytes + lane.damaged_bytes > 0 || !lane.set_aside.is_empty()
    };
    for lane in recovery.lanes.iter().filter(is_notable) {
        tracing::info!(
            lane = lane.lane,
            events = lane.events,
            torn_bytes = lane.torn_bytes,
            damaged_bytes = lane.damaged_bytes,
            set_aside = lane.set_aside.len(),
            "recovered a lane of an earlier process"
        );
    }
}
