//! Readiness: the reasons for which a node can't do its work, as text for operators.

use crate::config::ConfigStatus;
use event_journal::JournalStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use trusted_clock::TrustedClock;

const SYNC_FAILED: &str = "journal: a sync failed, and events accepted since would not survive a power loss; \
     check the disk, then restart";
const DRAINING: &str = "draining: clicks are not accepted until a restart";
const NO_ROOM: &str = "journal: no room for another segment, so that clicks are served but soon not logged; \
     bring the aggregator back, free the disk or raise journal.max_bytes";

const UNCONFIGURED: &str = "links: none were received yet, so that every visitor gets 404; links.source is \"control_plane\": \
     is the aggregator reachable, and does it serve the role `api`?";

/// The state that readiness depends on.
pub(super) struct Readiness {
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) clock: Arc<TrustedClock>,
    pub(super) journal: Arc<JournalStats>,
    /// The configuration from the control plane, if links come from there.
    pub(super) configuration: Option<ConfigStatus>,
}

/// The faults at one moment.
#[derive(Debug, Default)]
struct Faults {
    is_stopping: bool,
    is_draining: bool,
    sync_failed: bool,
    is_full: bool,
    is_unconfigured: bool,
    clock: Option<String>,
}

impl Readiness {
    /// All reasons why the node is not ready, one a line.
    pub(super) fn check(&self) -> Result<(), String> {
        let faults = Faults {
            is_stopping: self.stopping.load(Ordering::Relaxed),
            is_draining: self.draining.load(Ordering::Relaxed),
            sync_failed: self.journal.has_sync_failed(),
            is_full: self.journal.is_full(),
            is_unconfigured: self
                .configuration
                .as_ref()
                .is_some_and(|status| !status.is_configured()),
            clock: self.clock.problem(),
        };
        let reasons = faults.reasons();
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(reasons.join("\nnot ready: ")),
        }
    }
}

impl Faults {
    fn reasons(&self) -> Vec<String> {
        let plain = [
            (self.is_stopping, "stopping"),
            (self.is_draining, DRAINING),
            (self.sync_failed, SYNC_FAILED),
            (self.is_full, NO_ROOM),
            (self.is_unconfigured, UNCONFIGURED),
        ];
        let plain = plain.into_iter().filter(|(applies, _)| *applies);
        let clock = self.clock.iter().map(|problem| {
            format!("clock: {problem}; functions respond with 503 and clicks are marked")
        });
        plain
            .map(|(_, reason)| reason.to_owned())
            .chain(clock)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_one_reason() {
        assert_eq!(Faults::default().reasons(), [] as [String; 0]);
        let failed = Faults {
            sync_failed: true,
            ..Faults::default()
        };
        assert_eq!(failed.reasons(), [SYNC_FAILED]);
        let all = Faults {
            is_stopping: true,
            is_draining: true,
            sync_failed: true,
            is_full: true,
            is_unconfigured: true,
            clock: Some("it is wrong".into()),
        };
        let clock = "clock: it is wrong; functions respond with 503 and clicks are marked";
        assert_eq!(
            all.reasons(),
            [
                "stopping",
                DRAINING,
                SYNC_FAILED,
                NO_ROOM,
                UNCONFIGURED,
                clock
            ]
        );
    }
}
