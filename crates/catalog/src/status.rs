//! The status of objects, and which may follow which.

use serde::{Deserialize, Serialize};
use std::fmt::{Debug, Display};
use std::hash::Hash;

/// The status of a kind of objects, with its transitions.
pub trait Status:
    Copy + Eq + Hash + Debug + Display + Serialize + for<'de> Deserialize<'de> + Send + Sync + 'static
{
    /// Every status.
    const ALL: &'static [Self];
    /// The statuses that a new object may have; the first is the default.
    const INITIAL: &'static [Self];
    /// The final status of an object that was deleted.
    const ARCHIVED: Self;

    /// The name in JSON and in SQL.
    fn name(self) -> &'static str;

    /// The statuses that may follow.
    fn next(self) -> &'static [Self];

    /// Whether a change to this status needs a reason.
    fn needs_reason(self) -> bool;

    /// The status with this name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.name() == name)
    }
}

/// Defines the status of a kind: each with its name, the ones that may follow it, and whether it needs a reason.
macro_rules! statuses {
    (
        $(#[$doc:meta])* $enum:ident, initial [$($initial:ident)*];
        $($(#[$each:meta])* $variant:ident = $name:literal => [$($next:ident)*] $(, needs $reason:ident)?;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $enum { $($(#[$each])* $variant,)* }

        impl Status for $enum {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];
            const INITIAL: &'static [Self] = &[$(Self::$initial,)*];
            const ARCHIVED: Self = Self::Archived;

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn next(self) -> &'static [Self] {
                match self { $(Self::$variant => &[$(Self::$next,)*],)* }
            }

            fn needs_reason(self) -> bool {
                match self { $(Self::$variant => false $(|| stringify!($reason) == "reason")?,)* }
            }
        }

        impl Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

statuses! {
    /// The status of networks, platforms, advertisers, offers, campaigns, creatives and links.
    Activity, initial [Active Paused];

    /// In use.
    Active = "active" => [Paused Archived];
    /// Not in use for now.
    Paused = "paused" => [Active Archived];
    /// Deleted.
    Archived = "archived" => [];
}

statuses! {
    /// The status of affiliates.
    AffiliateStatus, initial [Applied Approved];

    /// Waits for a decision.
    Applied = "applied" => [Approved Banned Archived];
    /// May promote offers.
    Approved = "approved" => [Suspended Banned Archived];
    /// May not promote offers until a question is settled.
    Suspended = "suspended" => [Approved Banned Archived], needs reason;
    /// May not promote offers.
    Banned = "banned" => [Approved Archived], needs reason;
    /// Deleted.
    Archived = "archived" => [];
}

statuses! {
    /// The status of an affiliate's application to an offer.
    ApplicationStatus, initial [Pending Approved];

    /// Waits for a decision.
    Pending = "pending" => [Approved Rejected Withdrawn Archived];
    /// The affiliate may promote the offer.
    Approved = "approved" => [Rejected Withdrawn Archived];
    /// The affiliate may not promote the offer.
    Rejected = "rejected" => [Pending Approved Archived], needs reason;
    /// The affiliate does not want to promote the offer any more.
    Withdrawn = "withdrawn" => [Pending Archived];
    /// Deleted.
    Archived = "archived" => [];
}

statuses! {
    /// The status of terms.
    TermsStatus, initial [Active];

    /// Apply in their period.
    Active = "active" => [Archived];
    /// Withdrawn before they were in force.
    Archived = "archived" => [];
}
