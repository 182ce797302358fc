//! How far a daemon follows the system clock, as operators set it.

use crate::settings::{Period, Within};
use serde::Deserialize;
use trusted_clock::StepTolerance;

/// How far the system clock is followed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    /// The most that the system clock may depart from the elapsed time at once; beyond, it is not followed.
    pub max_step: Within<Period, 100, 3_600_000>,
    /// A step beyond that is followed after all when nothing contradicts it for this long.
    pub accept_step_after: Within<Period, 1_000, 86_400_000>,
}

impl Default for ClockSettings {
    fn default() -> Self {
        let tolerance = StepTolerance::default();
        Self {
            max_step: Within::new(Period(tolerance.max_step)),
            accept_step_after: Within::new(Period(tolerance.accept_step_after)),
        }
    }
}

impl From<&ClockSettings> for StepTolerance {
    fn from(settings: &ClockSettings) -> Self {
        Self {
            max_step: settings.max_step.get().0,
            accept_step_after: settings.accept_step_after.get().0,
        }
    }
}
