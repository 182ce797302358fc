//! What the aggregator shares with its edges: its time and the visitor salt. It makes the first salt of the
//! fleet, turns it with each period, and sends the current one in each welcome, never an earlier one.

use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::settings::Settings;
use event_shipping::{VisitorSalt, Welcome};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracking_events::Micros;
use trusted_clock::TrustedClock;
use visitor_salt::{AdvanceResult, Ratchet, SaltFileError, load, save};

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The fleet's time and visitor salt.
#[derive(Debug)]
pub(crate) struct Fleet {
    clock: Arc<TrustedClock>,
    path: PathBuf,
    period_micros: u64,
    salt: Mutex<Salt>,
}

#[derive(Debug, Default)]
struct Salt {
    /// None until there is a trusted time.
    ratchet: Option<Ratchet>,
    /// What the file holds.
    saved: Option<Ratchet>,
}

impl Fleet {
    /// Reads the visitor salt, or makes the first one when there is a trusted time.
    ///
    /// # Errors
    /// When the file can't be used.
    pub(crate) fn open(
        settings: &Settings,
        clock: Arc<TrustedClock>,
    ) -> Result<Self, SaltFileError> {
        let path = settings.data_dir.join("visitor-salt");
        let found = load(&path)?;
        let period = settings.visitor.period.get().0;
        let fleet = Self {
            clock,
            path,
            period_micros: u64::try_from(period.as_micros()).unwrap_or(u64::MAX),
            salt: Mutex::new(Salt {
                ratchet: found.clone(),
                saved: found,
            }),
        };
        fleet.turn()?;
        Ok(fleet)
    }

    /// Adds to a welcome what is shared. The salt is turned first: an edge must never get an earlier one.
    pub(crate) fn complete(&self, welcome: &mut Welcome) {
        let Some(now) = self.clock.read().trusted() else {
            return;
        };
        welcome.time_micros = now.0;
        let mut salt = self.lock();
        welcome.visitor_salt = self.turned(&mut salt, now).map(|ratchet| VisitorSalt {
            period_micros: ratchet.period_micros(),
            period: ratchet.period(),
            state: ratchet.state().0,
        });
    }

    /// Watches clock and salt for as long as the aggregator serves.
    pub(crate) async fn watch(
        self: Arc<Self>,
        metrics: Metrics,
        mut phase: watch::Receiver<Phase>,
    ) {
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Closing) => return,
                _ = ticks.tick() => {}
            }
            match self.clock.observe_system_clock() {
                Some(change) if change.is_fault() => {
                    tracing::error!(%change, "clock is wrong");
                }
                Some(change) => tracing::info!(%change, "clock is trusted"),
                None => {}
            }
            metrics
                .clock_wrong
                .set(self.clock.problem().is_some().into());
            let fleet = self.clone();
            match spawn_blocking(move || fleet.turn()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "failed to write the visitor salt; trying again in a second, and the state before is not erased meanwhile");
                }
                Err(error) => tracing::error!(%error, "turning the visitor salt failed"),
            }
        }
    }

    /// Turns the salt to the present period, if that is certain, and writes it down.
    fn turn(&self) -> Result<(), SaltFileError> {
        let Some(now) = self.clock.read().trusted() else {
            return Ok(());
        };
        let mut salt = self.lock();
        self.turned(&mut salt, now);
        if salt.saved != salt.ratchet
            && let Some(ratchet) = &salt.ratchet
        {
            save(&self.path, ratchet)?;
            salt.saved = salt.ratchet.clone();
        }
        Ok(())
    }

    /// The salt of the period of `now`; a random one where there is none that leads there.
    fn turned<'s>(&self, salt: &'s mut Salt, now: Micros) -> Option<&'s Ratchet> {
        let period = now.0 / self.period_micros;
        let fits = salt.ratchet.as_mut().is_some_and(|ratchet| {
            ratchet.period_micros() == self.period_micros
                && matches!(
                    ratchet.advance_to(period),
                    AdvanceResult::Unchanged | AdvanceResult::Advanced(_)
                )
        });
        if !fits {
            match Ratchet::random(self.period_micros, period) {
                Ok(random) => {
                    tracing::warn!(
                        "new visitor salt; visitors of this period count as unique once more"
                    );
                    salt.ratchet = Some(random);
                }
                Err(error) => tracing::error!(%error, "failed to make a visitor salt"),
            }
        }
        salt.ratchet.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, Salt> {
        self.salt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
