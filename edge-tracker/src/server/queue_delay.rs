//! How long ready work waits in a worker's queue, and the shedding level that follows from it. Which requests are
//! shed never belongs here.
//!
//! As in CoDel (RFC 8289), the minimum delay of a window counts: it tells a standing queue from a burst.

use super::accept::AcceptBacklogTimer;
use crate::click_path::ClickPath;
use crate::shed::{Level, ORDER};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The interval between two measurements in a worker without load.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
/// The window whose minimum counts.
const WINDOW: Duration = Duration::from_millis(100);

/// Sets the shedding level of `path` permanently. This task waits in the same queue as the tasks that serve
/// requests, so its delay is theirs. The accept queue's delay is the time for which it has not been empty.
pub(super) async fn watch(
    path: Rc<ClickPath>,
    backlog_timer: Rc<AcceptBacklogTimer>,
    shed_lag: Duration,
) {
    let mut delay = QueueDelay::new(shed_lag, Instant::now());
    loop {
        let due = Instant::now() + SAMPLE_INTERVAL;
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        if let Some(level) = delay.sample(now, late.max(backlog_timer.elapsed(now))) {
            path.set_shed_level(level);
        }
        path.metrics().set_lag(delay.minimum_of_last_window);
    }
}

/// Turns delays into a shedding level.
#[derive(Debug)]
struct QueueDelay {
    shed_lag: Duration,
    window_ends: Instant,
    minimum: Duration,
    minimum_of_last_window: Duration,
    level: usize,
}

impl QueueDelay {
    const fn new(shed_lag: Duration, now: Instant) -> Self {
        Self {
            shed_lag,
            window_ends: now,
            minimum: Duration::MAX,
            minimum_of_last_window: Duration::ZERO,
            level: 0,
        }
    }

    /// Records a delay; at the end of a window returns the level from now on.
    fn sample(&mut self, now: Instant, delay: Duration) -> Option<Level> {
        self.minimum = self.minimum.min(delay);
        if now < self.window_ends {
            return None;
        }
        self.window_ends = now + WINDOW;
        self.minimum_of_last_window = std::mem::replace(&mut self.minimum, Duration::MAX);
        self.level = ORDER
            .iter()
            .enumerate()
            .take_while(|(index, (_, percent))| {
                let start = self.shed_lag * *percent / 100;
                // Hysteresis: shedding stops at half of the delay that started it.
                let is_shed = *index < self.level;
                self.minimum_of_last_window >= if is_shed { start / 2 } else { start }
            })
            .count();
        Some(Level(self.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHED_LAG: Duration = Duration::from_millis(50);

    /// The levels after windows with these delays in milliseconds.
    fn levels(windows: &[&[u64]]) -> Vec<usize> {
        let mut now = Instant::now();
        let mut delay = QueueDelay::new(SHED_LAG, now + WINDOW);
        let mut levels = Vec::new();
        for samples in windows {
            let step = WINDOW / u32::try_from(samples.len()).expect("in range");
            for sample in *samples {
                now += step;
                if let Some(Level(level)) = delay.sample(now, Duration::from_millis(*sample)) {
                    levels.push(level);
                }
            }
        }
        levels
    }

    #[test]
    fn standing_queue_sheds_and_burst_does_not() {
        assert_eq!(levels(&[&[1, 1], &[500, 1], &[1, 500]]), [0, 0, 0]);
        assert_eq!(levels(&[&[60, 60], &[51, 90]]), [1, 1]);
    }

    #[test]
    fn shedding_stops_at_half_of_the_starting_delay() {
        assert_eq!(
            levels(&[&[49, 49], &[50, 50], &[26, 40], &[24, 40], &[26, 40]]),
            [0, 1, 1, 0, 0]
        );
    }
}
