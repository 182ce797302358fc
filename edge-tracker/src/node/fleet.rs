//! Watches the clock and the visitor salt, and compares both with the aggregator's at each welcome.

use crate::metrics::Metrics;
use crate::shipper::FleetState;
use crate::visitor::salt::{SaltAdoption, VisitorSalt};
use domain::Micros;
use event_shipping::VisitorSalt as FleetSalt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use trusted_clock::{ClockChange, TrustedClock};

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The task that watches clock and visitor salt.
pub(super) struct FleetWatch {
    pub(super) clock: Arc<TrustedClock>,
    pub(super) salt: Arc<VisitorSalt>,
    pub(super) metrics: Metrics,
    pub(super) states: watch::Receiver<Option<FleetState>>,
}

impl FleetWatch {
    /// Watches until `stop` turns true.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !*stop.borrow() {
            tokio::select! {
                _ = ticks.tick() => {
                    self.note(self.clock.observe_system_clock());
                    self.turn().await;
                }
                Ok(()) = self.states.changed() => {
                    let state = *self.states.borrow_and_update();
                    if let Some(state) = state {
                        self.compare(state).await;
                    }
                }
                _ = stop.changed() => {}
            }
            self.report();
        }
    }

    async fn compare(&self, state: FleetState) {
        match state.time {
            Some(time) => {
                self.note(self.clock.observe_peer_time(time, state.received));
                self.compare_time(time, self.clock.read_at(state.received).trusted());
            }
            None => tracing::warn!("the aggregator does not trust its clock"),
        }
        if let Some(salt) = state.visitor_salt {
            self.adopt(salt).await;
        }
    }

    /// Only warns: a node with a plausible clock keeps its own time, so that one wrong clock does not set all others.
    fn compare_time(&self, theirs: Micros, ours: Option<Micros>) {
        let Some(ours) = ours else {
            return;
        };
        let ahead =
            i64::try_from(ours.0).unwrap_or(i64::MAX) - i64::try_from(theirs.0).unwrap_or(i64::MAX);
        self.metrics.background.set_clock_ahead(ahead);
        if !self.clock.is_within_max_step(ours, theirs) {
            let seconds = ahead as f64 / 1e6;
            tracing::warn!(
                ahead_seconds = seconds,
                "the clocks of node and aggregator differ; check both"
            );
        }
    }

    async fn turn(&self) {
        // Only with a trusted clock: a ratchet can't be turned back.
        let Some(now) = self.clock.read().trusted() else {
            return;
        };
        let salt = self.salt.clone();
        match spawn_blocking(move || salt.turn(now)).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::info!("advanced the visitor salt to the next period");
                self.count("salt_turned");
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to write the visitor salt, retrying in a second; the previous state is erased only then");
                self.count("salt_write_failed");
            }
            Err(error) => tracing::error!(%error, "failed to advance the visitor salt"),
        }
    }

    async fn adopt(&self, fleet: FleetSalt) {
        let (salt, now) = (self.salt.clone(), self.clock.read().trusted());
        match spawn_blocking(move || salt.adopt(&fleet, now)).await {
            Ok(Ok(adoption)) => self.note_adoption(adoption, &fleet),
            Ok(Err(error)) => {
                tracing::error!(%error, "failed to write the fleet's visitor salt, retrying in a second");
                self.count("salt_write_failed");
            }
            Err(error) => tracing::error!(%error, "failed to adopt the fleet's visitor salt"),
        }
    }

    fn note_adoption(&self, adoption: SaltAdoption, fleet: &FleetSalt) {
        let period = fleet.period;
        match adoption {
            SaltAdoption::Agreed => {}
            SaltAdoption::Adopted => {
                tracing::info!(
                    period,
                    "adopted the aggregator's visitor salt; visitors of this period are counted as unique again"
                );
                self.count("salt_adopted");
            }
            SaltAdoption::Replaced => {
                tracing::warn!(
                    period,
                    "replaced a visitor salt that differed from the fleet's; visitors of this period are counted as unique again"
                );
                self.count("salt_replaced");
            }
            SaltAdoption::OtherLength => {
                let micros = fleet.period_micros;
                tracing::error!(
                    fleet_period_micros = micros,
                    "visitor.period differs from the aggregator's; visitors are recognised at this node only; set both to the same value"
                );
                self.count("salt_refused");
            }
            SaltAdoption::OtherTime => {
                tracing::error!(
                    period,
                    "the fleet's visitor salt belongs to a time far from this node's; check both clocks"
                );
                self.count("salt_refused");
            }
        }
    }

    fn note(&self, change: Option<ClockChange>) {
        let Some(change) = change else {
            return;
        };
        if change.is_fault() {
            tracing::error!(%change, "clock is wrong: functions respond with 503, clicks are marked");
        } else {
            tracing::info!(%change, "clock is trusted");
        }
        self.count(&format!("clock_{}", change.label()));
    }

    fn report(&self) {
        let (period, provisional) = self.salt.period();
        let metrics = &self.metrics.background;
        metrics
            .salt_period
            .set(i64::try_from(period).unwrap_or(i64::MAX));
        metrics.set_salt_provisional(provisional);
        metrics.set_clock_wrong(self.clock.problem().is_some());
    }

    fn count(&self, change: &str) {
        self.metrics
            .trust_changes
            .with_label_values(&[change])
            .inc();
    }
}
