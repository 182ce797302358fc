//! The kinds of work that are shed under overload, and their order.
//!
//! Redirects are never shed: a visitor waits for each, and gets it as long as the connection is open. Load is
//! measured elsewhere.

use crate::request::Target;

/// A kind of work that is shed under overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// An idle connection, evicted for another.
    IdleConnection,
    /// A new connection, closed because no other could be evicted.
    Connection,
    /// A pixel, refused with 503.
    Impression,
}

impl Shed {
    /// All kinds.
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

    /// The kind of a request for `target`; nothing for targets that are never shed.
    #[must_use]
    pub const fn of(target: Target<'_>) -> Option<Self> {
        match target {
            Target::Pixel(_) => Some(Self::Impression),
            Target::Click(_) => None,
        }
    }
}

/// Kinds of requests in the order in which they are shed, each with its threshold in percent of `http.shed_lag`.
pub const ORDER: &[(Shed, u32)] = &[(Shed::Impression, 100)];

/// The number of kinds of [`ORDER`] that are shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Level(pub usize);

impl Level {
    /// Whether `kind` is shed.
    #[must_use]
    pub fn sheds(self, kind: Shed) -> bool {
        ORDER.iter().take(self.0).any(|(shed, _)| *shed == kind)
    }
}
