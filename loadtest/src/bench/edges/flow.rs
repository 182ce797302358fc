//! When each click of each edge happens: all edges together make one even stream.

use crate::bench::client::Pace;
use event_shipping::DEFAULT_MAX_BATCH_AGE;
use std::time::{Duration, Instant};
use tracking_events::Micros;

/// All clicks of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flow {
    /// How many edges share them.
    pub(super) edges: u16,
    /// How many clicks there are.
    pub(super) clicks: u64,
    /// How fast they come.
    pub(super) pace: Pace,
    /// When the first comes, by the clock that does not jump and by the one that events carry.
    pub(super) start: (Instant, Micros),
}

/// One edge's clicks, numbered from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    flow: Flow,
    edge: u16,
}

impl Flow {
    /// The clicks of the edge `edge`, counted from 0.
    pub(super) const fn share(self, edge: u16) -> Share {
        Share { flow: self, edge }
    }
}

impl Share {
    /// How many clicks there are.
    pub(super) fn count(&self) -> u64 {
        let edges = u64::from(self.flow.edges);
        let one_more = u64::from(self.edge) < self.flow.clicks % edges;
        self.flow.clicks / edges + u64::from(one_more)
    }

    /// When the click `number` happens, after the start.
    pub(super) fn due(&self, number: u64) -> Duration {
        match self.flow.pace {
            Pace::AsAnswered => Duration::ZERO,
            Pace::PerSecond(rate, _) => {
                let place = number * u64::from(self.flow.edges) + u64::from(self.edge);
                Duration::from_secs_f64(place as f64 / rate)
            }
        }
    }

    /// What a click that is due at `due` says of its time.
    pub(super) fn time(&self, due: Duration) -> Micros {
        match self.flow.pace {
            Pace::AsAnswered => Micros::now(),
            Pace::PerSecond(..) => Micros(self.flow.start.1.0 + due.as_micros() as u64),
        }
    }

    /// When the batch is sealed whose first click is `number`. No two edges of a fleet keep step,
    /// so the first batch of each is younger than the others by another part of their age.
    pub(super) fn sealed_at(&self, number: u64) -> Instant {
        let age = match (self.flow.pace, number) {
            (Pace::AsAnswered, _) => Duration::ZERO,
            (Pace::PerSecond(..), 0) => {
                DEFAULT_MAX_BATCH_AGE * (u32::from(self.edge) + 1) / u32::from(self.flow.edges)
            }
            (Pace::PerSecond(..), _) => DEFAULT_MAX_BATCH_AGE,
        };
        self.flow.start.0 + self.due(number) + age
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.flow.start.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::client::Moments;

    #[test]
    fn edges_share_all_clicks_evenly() {
        let flow = Flow {
            edges: 7,
            clicks: 1_000,
            pace: Pace::PerSecond(100.0, Moments::Evenly),
            start: (Instant::now(), Micros(5)),
        };
        let mut due: Vec<Duration> = (0..7)
            .map(|edge| flow.share(edge))
            .flat_map(|share| (0..share.count()).map(move |number| share.due(number)))
            .collect();
        due.sort();
        let even = (0..1_000).map(|place| Duration::from_millis(place * 10));
        assert_eq!(due, even.collect::<Vec<_>>());
        assert_eq!(flow.share(0).time(due[1]), Micros(10_005));
    }
}
