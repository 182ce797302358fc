//! The state that the aggregator shares with its edges: time and visitor salt. It creates the fleet's first salt,
//! advances it with each period, and sends the present one in each `Welcome`, never an earlier one.

use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::settings::Settings;
use domain::Micros;
use event_shipping::{VisitorSalt, Welcome};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
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
    /// `None` until there is a trusted time.
    ratchet: Option<Ratchet>,
    /// The salt in the file.
    saved: Option<Ratchet>,
}

impl Fleet {
    /// Reads the visitor salt, or creates the first one once there is a trusted time.
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
        fleet.advance()?;
        Ok(fleet)
    }

    /// Adds time and salt to a `Welcome`. The salt is advanced first: an edge must never get an earlier one.
    pub(crate) fn complete(&self, welcome: &mut Welcome) {
        let Some(now) = self.clock.read().trusted() else {
            return;
        };
        welcome.time_micros = now.0;
        let mut salt = self.salt.lock();
        welcome.visitor_salt = self.advanced(&mut salt, now).map(|ratchet| VisitorSalt {
            period_micros: ratchet.period_micros(),
            period: ratchet.period(),
            state: ratchet.state().0,
        });
    }

    /// Checks the clock and advances the salt every second until the aggregator closes.
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
                    tracing::error!(%change, "clock is not trusted");
                }
                Some(change) => tracing::info!(%change, "clock is trusted"),
                None => {}
            }
            metrics
                .clock_wrong
                .set(self.clock.problem().is_some().into());
            let fleet = self.clone();
            match spawn_blocking(move || fleet.advance()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "failed to save the visitor salt, retrying in a second; the earlier salt stays on disk meanwhile");
                }
                Err(error) => tracing::error!(%error, "failed to advance the visitor salt"),
            }
        }
    }

    /// Advances the salt to the present period, if there is a trusted time, and saves it.
    fn advance(&self) -> Result<(), SaltFileError> {
        let Some(now) = self.clock.read().trusted() else {
            return Ok(());
        };
        let mut salt = self.salt.lock();
        self.advanced(&mut salt, now);
        if salt.saved != salt.ratchet
            && let Some(ratchet) = &salt.ratchet
        {
            save(&self.path, ratchet)?;
            salt.saved = salt.ratchet.clone();
        }
        Ok(())
    }

    /// The salt of the period that contains `now`; a random one if the present salt can't be advanced to it.
    fn advanced<'s>(&self, salt: &'s mut Salt, now: Micros) -> Option<&'s Ratchet> {
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
                        "created a random visitor salt; visitors of this period are counted as unique again"
                    );
                    salt.ratchet = Some(random);
                }
                Err(error) => tracing::error!(%error, "failed to create a visitor salt"),
            }
        }
        salt.ratchet.as_ref()
    }
}
