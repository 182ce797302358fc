//! How late a worker gets round to what is ready, and so how much it sheds. Which requests that
//! concerns never belongs here.
//!
//! What counts is the least lag of a while: a queue that never empties, not one that a burst filled.

use super::accept::Waiting;
use crate::click_path::ClickPath;
use crate::shed::{Level, ORDER};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often the lag is looked at, in a calm worker.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The while over which the least lag counts.
const WINDOW: Duration = Duration::from_millis(100);

/// Tells `path` for ever how much to shed: it is woken in turn with those that answer, and how late
/// that is, is how late they are.
/// Who waits to be accepted is late for as long as there has always been somebody.
pub(super) async fn watch(path: Rc<ClickPath>, waiting: Rc<Waiting>, shed_lag: Duration) {
    let mut lag = Lag::new(shed_lag, Instant::now());
    loop {
        let due = Instant::now() + LOOK_EVERY;
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        let late = now.saturating_duration_since(due).max(waiting.time(now));
        if let Some(level) = lag.look(now, late) {
            path.shed(level);
        }
        path.metrics().lag(lag.least_of_last_window);
    }
}

/// From looks at the lag to a level of shedding.
#[derive(Debug)]
struct Lag {
    shed_lag: Duration,
    window_ends: Instant,
    least: Duration,
    least_of_last_window: Duration,
    level: usize,
}

impl Lag {
    const fn new(shed_lag: Duration, now: Instant) -> Self {
        Self {
            shed_lag,
            window_ends: now,
            least: Duration::MAX,
            least_of_last_window: Duration::ZERO,
            level: 0,
        }
    }

    /// Takes note of a look; at the end of a window, how much is to be shed from now on.
    fn look(&mut self, now: Instant, lag: Duration) -> Option<Level> {
        self.least = self.least.min(lag);
        if now < self.window_ends {
            return None;
        }
        self.window_ends = now + WINDOW;
        self.least_of_last_window = std::mem::replace(&mut self.least, Duration::MAX);
        self.level = ORDER
            .iter()
            .enumerate()
            .take_while(|(place, (_, percent))| {
                let begins = self.shed_lag * *percent / 100;
                // What is shed already goes on until half of what began it.
                let sheds = *place < self.level;
                self.least_of_last_window >= if sheds { begins / 2 } else { begins }
            })
            .count();
        Some(Level(self.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_millis(50);

    /// What is shed after windows in each of which these lags, in milliseconds, were seen.
    fn levels(windows: &[&[u64]]) -> Vec<usize> {
        let mut now = Instant::now();
        let mut lag = Lag::new(AT, now + WINDOW);
        let mut levels = Vec::new();
        for looks in windows {
            let step = WINDOW / u32::try_from(looks.len()).expect("few");
            for look in *looks {
                now += step;
                if let Some(Level(level)) = lag.look(now, Duration::from_millis(*look)) {
                    levels.push(level);
                }
            }
        }
        levels
    }

    #[test]
    fn a_queue_that_stays_is_shed_and_a_burst_is_not() {
        assert_eq!(levels(&[&[1, 1], &[500, 1], &[1, 500]]), [0, 0, 0]);
        assert_eq!(levels(&[&[60, 60], &[51, 90]]), [1, 1]);
    }

    #[test]
    fn shedding_goes_on_until_half_of_what_began_it() {
        assert_eq!(
            levels(&[&[49, 49], &[50, 50], &[26, 40], &[24, 40], &[26, 40]]),
            [0, 1, 1, 0, 0]
        );
    }
}
