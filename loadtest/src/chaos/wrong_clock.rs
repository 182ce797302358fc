//! The clock of one edge jumps by days or years, forwards or backwards, also beyond every time that can be; then it is
//! right again. Meanwhile the edge must not be ready, and logs clicks with a time that is right.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::clock::Clock;
use super::hand::Around;
use super::toll::Toll;
use crate::stack::Member;
use crate::traffic::Random;

const DAY: i64 = 86_400;
const YEAR: i64 = 366 * DAY;
const READINESS_WITHIN: Duration = Duration::from_secs(60);
/// Traffic under a wrong clock, at most.
const WRONG_FOR: Duration = Duration::from_secs(2);

/// An edge, its clock and its operators' port.
pub(super) struct EdgeClock<'a> {
    pub(super) clock: &'a Clock,
    pub(super) edge: &'a mut Member,
    pub(super) admin: &'a str,
}

impl EdgeClock<'_> {
    /// The clock jumps, and is set right again.
    pub(super) fn jump(&mut self, random: &mut Random, around: Around<'_>) -> anyhow::Result<Toll> {
        let mut toll = Toll::default();
        let forwards = if random.below(2) == 0 { 1 } else { -1 };
        let is_impossible = random.below(3) == 0;
        let seconds = match random.below(2) {
            _ if is_impossible => (30 + random.below(15) as i64) * YEAR,
            0 => (1 + random.below(60) as i64) * DAY,
            _ => (1 + random.below(10) as i64) * YEAR,
        };
        self.clock.set(forwards * seconds)?;
        toll.intrusion(self.becomes_ready(false));
        around.sleep(WRONG_FOR.mul_f64(random.below(1_000) as f64 / 1_000.0));
        // A clock that is wrong and possible when a process starts is noticed by comparison only.
        if is_impossible && random.below(2) == 0 {
            self.edge.kill9()?;
            Clock::sweep();
            toll.kills += 1;
            self.edge.restart()?;
            toll.intrusion(self.becomes_ready(false));
            around.sleep(WRONG_FOR.mul_f64(random.below(1_000) as f64 / 1_000.0));
        }
        self.clock.set(0)?;
        ensure!(
            self.becomes_ready(true),
            "the edge is not ready {READINESS_WITHIN:?} after its clock is right again"
        );
        Ok(toll)
    }

    /// Whether the edge says in time that it is ready, or that it is not.
    fn becomes_ready(&self, wanted: bool) -> bool {
        let deadline = Instant::now() + READINESS_WITHIN;
        let page = format!("{}/readyz", self.admin);
        while Instant::now() < deadline {
            let is_ready = match ureq::get(&page).call() {
                Ok(_) => Some(true),
                Err(ureq::Error::StatusCode(503)) => Some(false),
                Err(_) => None,
            };
            if is_ready == Some(wanted) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}
