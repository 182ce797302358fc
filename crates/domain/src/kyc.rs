//! Identity checks of affiliates (KYC): their outcomes, the tiers that they reach, and the limit of each tier.

use crate::Micros;
use crate::names::named_values;

named_values! {
    /// Outcomes of an identity check. Variants are only appended.
    KycStatus {
        /// Started, not decided yet.
        Pending = "pending",
        /// The tier is reached.
        Approved = "approved",
        /// The check failed.
        Rejected = "rejected",
        /// An approval was withdrawn.
        Revoked = "revoked",
        /// An approval has expired.
        Expired = "expired",
    }
}

/// A level of an affiliate's identity check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The number of the tier, 0 to 3.
    pub number: u8,
    /// The earnings limit in US cents; `None` for no limit.
    pub limit_cents: Option<i64>,
}

/// VerifyMy's tiers, indexed by their numbers.
pub const TIERS: [Tier; 4] = [
    Tier {
        number: 0,
        limit_cents: Some(10_000),
    },
    Tier {
        number: 1,
        limit_cents: Some(100_000),
    },
    Tier {
        number: 2,
        limit_cents: Some(1_000_000),
    },
    Tier {
        number: 3,
        limit_cents: None,
    },
];

impl Tier {
    /// The tier with this number.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        TIERS.get(usize::from(number)).copied()
    }
}

impl KycStatus {
    /// Orders the outcomes of one moment: the one that trusts the affiliate less comes last and prevails.
    #[must_use]
    pub const fn distrust(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Approved => 1,
            Self::Expired => 2,
            Self::Rejected => 3,
            Self::Revoked => 4,
        }
    }
}

/// An affiliate's identity check after all messages about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KycStanding {
    /// The outcome of the last check.
    pub status: KycStatus,
    /// The number of the tier that the affiliate has.
    pub tier: u8,
    /// The time of the last check.
    pub happened: Micros,
}

impl KycStanding {
    /// The standing of an affiliate without any check.
    pub const INITIAL: Self = Self {
        status: KycStatus::Pending,
        tier: 0,
        happened: Micros(0),
    };

    /// The standing after the next check. A check that has only started does not lower the tier.
    #[must_use]
    pub const fn after(self, status: KycStatus, tier: u8, happened: Micros) -> Self {
        let tier = match status {
            KycStatus::Pending => self.tier,
            KycStatus::Approved => tier,
            KycStatus::Rejected | KycStatus::Revoked | KycStatus::Expired => 0,
        };
        Self {
            status,
            tier,
            happened,
        }
    }

    /// The earnings limit in US cents; `None` for no limit. An unknown tier has the limit of the lowest.
    #[must_use]
    pub fn limit_cents(self) -> Option<i64> {
        Tier::numbered(self.tier).unwrap_or(TIERS[0]).limit_cents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_follow_from_the_checks_in_their_order() {
        use KycStatus::{Approved, Expired, Pending, Rejected, Revoked};
        let mut standing = KycStanding::INITIAL;
        for (status, tier, reached, limit) in [
            (Pending, 2, 0, Some(10_000)),
            (Approved, 2, 2, Some(1_000_000)),
            (Pending, 3, 2, Some(1_000_000)),
            (Approved, 3, 3, None),
            (Rejected, 3, 0, Some(10_000)),
            (Approved, 1, 1, Some(100_000)),
            (Expired, 1, 0, Some(10_000)),
            (Approved, 9, 9, Some(10_000)),
            (Revoked, 9, 0, Some(10_000)),
        ] {
            standing = standing.after(status, tier, Micros(1));
            assert_eq!((standing.tier, standing.limit_cents()), (reached, limit));
        }
    }

    #[test]
    fn tiers_are_indexed_by_their_numbers() {
        for (index, tier) in (0..).zip(TIERS) {
            assert_eq!(Tier::numbered(index), Some(tier));
            assert_eq!(tier.number, index);
        }
        assert_eq!(Tier::numbered(4), None);
    }
}
