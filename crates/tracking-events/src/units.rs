//! Number types with a unit and a meaning, so that a wrong argument does not compile.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

unit! {
    /// Microseconds since 1970-01-01T00:00:00Z, without leap seconds.
    Micros(u64)
}
unit! {
    /// A link's number, unique among all links and never given to another link.
    LinkId(u32)
}
unit! {
    /// An edge node's number, unique in the fleet; 0 is no node.
    NodeId(u16)
}
unit! {
    /// The number of a lane (one worker's journal) on its node.
    LaneId(u8)
}
unit! {
    /// An event's sequence in its lane: it increases, never repeats, and may skip values after a restart.
    Seq(u64)
}
unit! {
    /// A visitor as a keyed hash with a rotating salt: the same visitor has another id in the next period.
    VisitorId(u64)
}
unit! {
    /// The cost of a visit as sent by the affiliate, in millionths of the campaign's currency.
    CostMicros(i64)
}

impl Micros {
    /// The present time of the system clock; a time before 1970 becomes 0.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Whole milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }
}
