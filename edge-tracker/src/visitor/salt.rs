//! The visitor salt of this node: stored in its own file, advanced with each period, and replaced by the fleet's when
//! the aggregator sends another one.
//!
//! Workers read the keys behind an atomic pointer; other threads access the disk.

use arc_swap::ArcSwap;
use domain::Micros;
use event_shipping::VisitorSalt as FleetSalt;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use visitor_salt::{AdvanceResult, SaltFileError, load, save};

pub use visitor_salt::{PeriodKey, PeriodKeys, Ratchet, SaltState};

/// The salt file and the keys that follow from it.
#[derive(Debug)]
pub struct VisitorSalt {
    path: PathBuf,
    state: Mutex<State>,
    keys: Arc<ArcSwap<PeriodKeys>>,
}

#[derive(Debug)]
struct State {
    ratchet: Ratchet,
    /// The ratchet in the file; it differs while the file could not be written.
    saved: Option<Ratchet>,
}

/// The outcome of a salt that the aggregator sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaltAdoption {
    /// It equals the active one.
    Agreed,
    /// It replaced this node's provisional salt.
    Adopted,
    /// It replaced another salt of a fleet.
    Replaced,
    /// Its periods have another length than the node's; nothing was changed.
    OtherLength,
    /// Its period is too far from this node's clock; nothing was changed.
    OtherTime,
}

impl VisitorSalt {
    /// Opens the file at `path`. Without one, or with one that does not fit `period` or is too old, the
    /// node begins with a provisional salt of its own, until the aggregator sends the fleet's.
    ///
    /// `now` is the trusted time; without one the salt in the file stays as it is, and `estimate` gives
    /// the period of a new one.
    ///
    /// # Errors
    /// When the file can be read by others, or can't be read or written.
    pub fn open(
        path: &Path,
        period: Duration,
        now: Option<Micros>,
        estimate: Micros,
    ) -> Result<Self, SaltFileError> {
        let period_micros = u64::try_from(period.as_micros()).unwrap_or(u64::MAX).max(1);
        let index = now.unwrap_or(estimate).0 / period_micros;
        let found = match load(path) {
            Err(error @ SaltFileError::Malformed(_)) => {
                tracing::error!(%error, "visitor salt replaced by a provisional one");
                None
            }
            found => found?,
        };
        let saved = found.clone();
        let ratchet = match found.and_then(|it| usable(it, period_micros, now.map(|_| index))) {
            Some(ratchet) => ratchet,
            None => provisional(path, period_micros, index)?,
        };
        let salt = Self {
            path: path.into(),
            keys: Arc::new(ArcSwap::from_pointee(ratchet.keys())),
            state: Mutex::new(State { ratchet, saved }),
        };
        salt.save(&mut salt.state.lock())?;
        Ok(salt)
    }

    /// The beginning of the period that the file at `path` is of: a time that has passed. The epoch when
    /// there is none.
    #[must_use]
    pub fn last_known_time(path: &Path) -> Micros {
        let begin = |it: Ratchet| it.period().saturating_mul(it.period_micros());
        Micros(load(path).ok().flatten().map_or(0, begin))
    }

    /// The keys, replaced at each rotation.
    #[must_use]
    pub fn keys(&self) -> Arc<ArcSwap<PeriodKeys>> {
        self.keys.clone()
    }

    /// The number of the period, and whether the salt is provisional: known to no other node.
    #[must_use]
    pub fn period(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.ratchet.period(), state.ratchet.is_provisional())
    }

    /// Turns to the period of `now`, a trusted time, and erases the state before. Also writes the file
    /// when that failed earlier. Returns whether the period changed.
    ///
    /// # Errors
    /// When the file can't be written: the keys are turned, and the file is written by a later call.
    pub fn turn(&self, now: Micros) -> Result<bool, SaltFileError> {
        let mut state = self.state.lock();
        let period_micros = state.ratchet.period_micros();
        let index = now.0 / period_micros;
        let turned = match state.ratchet.advance_to(index) {
            AdvanceResult::Advanced(_) => true,
            AdvanceResult::Unchanged => false,
            AdvanceResult::TooFar(periods) | AdvanceResult::Ahead(periods) => {
                tracing::warn!(
                    periods,
                    "visitor salt is of another time; replaced by a provisional one"
                );
                state.ratchet = provisional(&self.path, period_micros, index)?;
                true
            }
        };
        if turned {
            self.publish(&state);
        }
        self.save(&mut state)?;
        Ok(turned)
    }

    /// Compares the fleet's salt with this node's, and takes the fleet's where they differ. `now` is the
    /// trusted time, if there is one.
    ///
    /// # Errors
    /// When the file can't be written: the keys are the fleet's, and the file is written by a later call.
    pub fn adopt(
        &self,
        fleet: &FleetSalt,
        now: Option<Micros>,
    ) -> Result<SaltAdoption, SaltFileError> {
        let mut state = self.state.lock();
        let ours = &mut state.ratchet;
        if fleet.period_micros != ours.period_micros() {
            return Ok(SaltAdoption::OtherLength);
        }
        let index = now.map_or(fleet.period, |now| now.0 / fleet.period_micros);
        let mut theirs = Ratchet::new(fleet.period_micros, fleet.period, SaltState(fleet.state));
        // The clocks of both may be a little apart at the end of a period.
        ours.advance_to(index);
        if matches!(
            theirs.advance_to(index),
            AdvanceResult::TooFar(_) | AdvanceResult::Ahead(_)
        ) {
            return Ok(SaltAdoption::OtherTime);
        }
        let mut reached = ours.clone();
        reached.advance_to(theirs.period());
        let agreed = (reached.period(), reached.state()) == (theirs.period(), theirs.state());
        let adoption = match (agreed, ours.is_provisional()) {
            (true, _) => SaltAdoption::Agreed,
            (false, true) => SaltAdoption::Adopted,
            (false, false) => SaltAdoption::Replaced,
        };
        let previous = match reached.period() == theirs.period() {
            true => reached.keys().previous,
            false => None,
        };
        state.ratchet = theirs.with_previous_key(previous);
        self.publish(&state);
        self.save(&mut state)?;
        Ok(adoption)
    }

    fn publish(&self, state: &State) {
        self.keys.store(Arc::new(state.ratchet.keys()));
    }

    fn save(&self, state: &mut State) -> Result<(), SaltFileError> {
        if state.saved.as_ref() != Some(&state.ratchet) {
            save(&self.path, &state.ratchet)?;
            state.saved = Some(state.ratchet.clone());
        }
        Ok(())
    }
}

/// A ratchet from the file, turned to the period `index` where that is certain; none when it does not fit.
fn usable(mut ratchet: Ratchet, period_micros: u64, index: Option<u64>) -> Option<Ratchet> {
    if ratchet.period_micros() != period_micros {
        tracing::warn!("visitor.period has changed; visitor salt replaced by a provisional one");
        return None;
    }
    match index.map(|index| ratchet.advance_to(index)) {
        Some(AdvanceResult::TooFar(periods) | AdvanceResult::Ahead(periods)) => {
            tracing::warn!(
                periods,
                "visitor salt is of another time; replaced by a provisional one"
            );
            None
        }
        _ => Some(ratchet),
    }
}

fn provisional(path: &Path, period_micros: u64, index: u64) -> Result<Ratchet, SaltFileError> {
    let random = Ratchet::random(period_micros, index);
    let random = random.map_err(|cause| SaltFileError::Io {
        path: path.into(),
        cause,
    });
    Ok(random?.provisional())
}

#[cfg(test)]
mod tests;
