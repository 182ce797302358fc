//! The settings of the trusted clock.

use crate::settings::{Bounded, HumanDuration};
use schemars::JsonSchema;
use serde::Deserialize;
use trusted_clock::StepTolerance;

/// Limits within which the system clock is followed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    /// The maximum departure of the system clock from the elapsed time; a larger step is not followed.
    pub max_step: Bounded<HumanDuration, 100, 3_600_000>,
    /// The time after which a larger step is followed if no other node contradicts it.
    pub accept_step_after: Bounded<HumanDuration, 1_000, 86_400_000>,
}

impl Default for ClockSettings {
    fn default() -> Self {
        let tolerance = StepTolerance::default();
        Self {
            max_step: Bounded::new(HumanDuration(tolerance.max_step)),
            accept_step_after: Bounded::new(HumanDuration(tolerance.accept_step_after)),
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
