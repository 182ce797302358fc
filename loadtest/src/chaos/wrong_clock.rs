//! The clock of one edge jumps by days or years in either direction, sometimes outside the valid range, and is
//! corrected again. Meanwhile the edge must not be ready, and must log clicks with the right time.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::clock::Clock;
use super::context::FaultContext;
use super::counts::FaultCounts;
use crate::stack::ManagedProcess;
use crate::traffic::Random;

const DAY: i64 = 86_400;
const YEAR: i64 = 366 * DAY;
const READINESS_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum duration of traffic under a wrong clock.
const MAX_WRONG_DURATION: Duration = Duration::from_secs(2);

/// An edge, its clock and its admin URL.
pub(super) struct EdgeClock<'a> {
    pub(super) clock: &'a Clock,
    pub(super) edge: &'a mut ManagedProcess,
    pub(super) admin: &'a str,
}

impl EdgeClock<'_> {
    /// Sets the clock wrong and corrects it again.
    pub(super) fn jump(
        &mut self,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<FaultCounts> {
        let mut counts = FaultCounts::default();
        let forwards = if random.below(2) == 0 { 1 } else { -1 };
        let is_impossible = random.below(3) == 0;
        let seconds = match random.below(2) {
            _ if is_impossible => (30 + random.below(15) as i64) * YEAR,
            0 => (1 + random.below(60) as i64) * DAY,
            _ => (1 + random.below(10) as i64) * YEAR,
        };
        self.clock.set(forwards * seconds)?;
        counts.count_intrusion(self.becomes_ready(false));
        context.sleep(MAX_WRONG_DURATION.mul_f64(random.below(1_000) as f64 / 1_000.0));
        // A process that starts with a wrong but valid clock notices it only by comparison with the aggregator.
        if is_impossible && random.below(2) == 0 {
            self.edge.kill()?;
            Clock::remove_stale();
            counts.kills += 1;
            self.edge.restart()?;
            counts.count_intrusion(self.becomes_ready(false));
            context.sleep(MAX_WRONG_DURATION.mul_f64(random.below(1_000) as f64 / 1_000.0));
        }
        self.clock.set(0)?;
        ensure!(
            self.becomes_ready(true),
            "the edge is not ready {READINESS_TIMEOUT:?} after its clock was corrected"
        );
        Ok(counts)
    }

    /// Whether `/readyz` reports the wanted readiness in time.
    fn becomes_ready(&self, keep_contents: bool) -> bool {
        let deadline = Instant::now() + READINESS_TIMEOUT;
        let page = format!("{}/readyz", self.admin);
        while Instant::now() < deadline {
            let is_ready = match ureq::get(&page).call() {
                Ok(_) => Some(true),
                Err(ureq::Error::StatusCode(503)) => Some(false),
                Err(_) => None,
            };
            if is_ready == Some(keep_contents) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}
