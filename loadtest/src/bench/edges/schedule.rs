//! The schedule of clicks: all edges together form one even stream.

use crate::bench::client::LoadMode;
use event_shipping::DEFAULT_MAX_BATCH_AGE;
use std::time::{Duration, Instant};
use tracking_events::Micros;

/// The schedule of all clicks of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClickSchedule {
    /// Number of edges.
    pub(super) edges: u16,
    /// Number of clicks.
    pub(super) clicks: u64,
    /// Open or closed loop.
    pub(super) load_mode: LoadMode,
    /// Time of the first click, by the monotonic clock and by the clock that events carry.
    pub(super) start: (Instant, Micros),
}

/// The schedule of one edge; its clicks are numbered from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct EdgeSchedule {
    schedule: ClickSchedule,
    edge: u16,
}

impl ClickSchedule {
    /// The schedule of the edge `edge`, counted from 0.
    pub(super) const fn share(self, edge: u16) -> EdgeSchedule {
        EdgeSchedule {
            schedule: self,
            edge,
        }
    }
}

impl EdgeSchedule {
    /// Number of clicks.
    pub(super) fn count(&self) -> u64 {
        let edges = u64::from(self.schedule.edges);
        let one_more = u64::from(self.edge) < self.schedule.clicks % edges;
        self.schedule.clicks / edges + u64::from(one_more)
    }

    /// Time of the click `number` after the start.
    pub(super) fn due(&self, number: u64) -> Duration {
        match self.schedule.load_mode {
            LoadMode::Closed => Duration::ZERO,
            LoadMode::Open(rate, _) => {
                let place = number * u64::from(self.schedule.edges) + u64::from(self.edge);
                Duration::from_secs_f64(place as f64 / rate)
            }
        }
    }

    /// The timestamp of a click that is due at `due`.
    pub(super) fn time(&self, due: Duration) -> Micros {
        match self.schedule.load_mode {
            LoadMode::Closed => Micros::now(),
            LoadMode::Open(..) => Micros(self.schedule.start.1.0 + due.as_micros() as u64),
        }
    }

    /// When the batch that starts with click `number` is sealed. Real edges are not synchronised, so each edge's
    /// first batch has a different age.
    pub(super) fn sealed_at(&self, number: u64) -> Instant {
        let age = match (self.schedule.load_mode, number) {
            (LoadMode::Closed, _) => Duration::ZERO,
            (LoadMode::Open(..), 0) => {
                DEFAULT_MAX_BATCH_AGE * (u32::from(self.edge) + 1) / u32::from(self.schedule.edges)
            }
            (LoadMode::Open(..), _) => DEFAULT_MAX_BATCH_AGE,
        };
        self.schedule.start.0 + self.due(number) + age
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.schedule.start.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::client::Arrivals;

    #[test]
    fn edges_share_all_clicks_evenly() {
        let schedule = ClickSchedule {
            edges: 7,
            clicks: 1_000,
            load_mode: LoadMode::Open(100.0, Arrivals::Uniform),
            start: (Instant::now(), Micros(5)),
        };
        let mut due: Vec<Duration> = (0..7)
            .map(|edge| schedule.share(edge))
            .flat_map(|share| (0..share.count()).map(move |number| share.due(number)))
            .collect();
        due.sort();
        let even = (0..1_000).map(|place| Duration::from_millis(place * 10));
        assert_eq!(due, even.collect::<Vec<_>>());
        assert_eq!(schedule.share(0).time(due[1]), Micros(10_005));
    }
}
