//! What is shed when there is more than can be done, and in which order.
//!
//! Redirects are no part of it: a visitor waits for one, and it is answered as long as its
//! connection is there. How much there is to do is measured elsewhere.

use crate::request::Target;

/// What was turned away for want of room or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// A connection between requests, closed to make room for another.
    IdleConnection,
    /// A new connection, closed since no other could be.
    Connection,
    /// A pixel, answered with 503.
    Impression,
}

impl Shed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::IdleConnection, Self::Connection, Self::Impression];

    /// The name used in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IdleConnection => "idle_connection",
            Self::Connection => "connection",
            Self::Impression => "impression",
        }
    }

    /// As what a request for `target` is shed; nothing for what never is.
    #[must_use]
    pub const fn of(target: Target<'_>) -> Option<Self> {
        match target {
            Target::Pixel(_) => Some(Self::Impression),
            Target::Click(_) => None,
        }
    }
}

/// Requests that can be shed, what goes first before what goes later, each with the lag that it
/// takes, in percent of `http.shed_lag`.
pub const ORDER: &[(Shed, u32)] = &[(Shed::Impression, 100)];

/// How many kinds of [`ORDER`] are shed at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Level(pub usize);

impl Level {
    /// Whether `kind` is among what is shed.
    #[must_use]
    pub fn sheds(self, kind: Shed) -> bool {
        ORDER.iter().take(self.0).any(|(shed, _)| *shed == kind)
    }
}
