//! The time of day, as a program or a test provides it.

use domain::Micros;
use std::fmt;
use std::sync::Arc;

/// A source of the time of day.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Micros + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// A clock that calls `now`.
    pub fn new(now: impl Fn() -> Micros + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Micros::now)
    }

    pub(crate) fn now(&self) -> Micros {
        (self.0)()
    }
}
