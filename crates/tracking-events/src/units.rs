//! Numbers that carry their unit and meaning, so that a wrong argument does not compile.

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
    /// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    Micros(u64)
}
unit! {
    /// A link's number, unique among all links and never given to another link.
    LinkId(u32)
}
unit! {
    /// An edge node's number, unique in the fleet; 0 is nobody's.
    NodeId(u16)
}
unit! {
    /// The number of a lane (one worker's journal) on its node.
    LaneId(u8)
}
unit! {
    /// An event's place in its lane; it grows, never repeats, and may skip after a restart.
    Seq(u64)
}
unit! {
    /// A visitor, as a keyed hash whose salt rotates: the same visitor has another id next period.
    VisitorId(u64)
}
unit! {
    /// What an affiliate says a visit cost, in millionths of the campaign's currency.
    CostMicros(i64)
}

impl Micros {
    /// The present, by the system's clock; a clock before 1970 reads as 0.
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
