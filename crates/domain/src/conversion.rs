//! Conversions: their kinds, their status, and which status may follow which.

use crate::names::named_values;

named_values! {
    /// Kinds of conversions. Variants are only appended.
    ConversionKind {
        /// A customer signed up or left an address.
        Lead = "lead",
        /// A customer bought.
        Sale = "sale",
        /// A subscription was renewed.
        Rebill = "rebill",
        /// A customer bought more in the same visit.
        Upsell = "upsell",
        /// A customer installed an application.
        Install = "install",
        /// A kind defined by the advertiser.
        Custom = "custom",
    }
}

named_values! {
    /// The status of a conversion. Variants are only appended.
    ConversionStatus {
        /// Reported, not decided yet.
        Pending = "pending",
        /// To be paid.
        Approved = "approved",
        /// Not to be paid.
        Rejected = "rejected",
        /// Held during an investigation.
        Hold = "hold",
        /// The payment was reversed; the final status.
        Chargeback = "chargeback",
    }
}

impl ConversionStatus {
    /// Whether the status reverses a sale completely or in part.
    #[must_use]
    pub const fn takes_back(self) -> bool {
        matches!(self, Self::Rejected | Self::Chargeback)
    }

    /// Whether an advertiser may report `next` after this status: a decision may change but not become
    /// pending again, and a chargeback is final.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Chargeback, _) => matches!(next, Self::Chargeback),
            (Self::Pending | Self::Hold, _) => true,
            (Self::Approved, _) => !matches!(next, Self::Pending),
            (Self::Rejected, _) => matches!(next, Self::Rejected | Self::Approved | Self::Hold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_change_as_the_table_permits() {
        use ConversionStatus::{Approved, Chargeback, Hold, Pending, Rejected};
        let all = ConversionStatus::ALL;
        for (from, allowed) in [
            (
                Pending,
                &[Pending, Approved, Rejected, Hold, Chargeback][..],
            ),
            (Hold, &[Pending, Approved, Rejected, Hold, Chargeback]),
            (Approved, &[Approved, Rejected, Hold, Chargeback]),
            (Rejected, &[Approved, Rejected, Hold]),
            (Chargeback, &[Chargeback]),
        ] {
            let next = all.iter().copied().filter(|next| from.may_become(*next));
            assert_eq!(next.collect::<Vec<_>>(), allowed, "{from:?}");
        }
    }

    #[test]
    fn names_lead_back_to_their_values() {
        for kind in ConversionKind::ALL {
            assert_eq!(ConversionKind::from_name(kind.as_str()), Some(*kind));
        }
        let unknown = ConversionStatus::try_from("paid".to_owned());
        assert_eq!(unknown, Err(crate::UnknownName("paid".to_owned())));
    }
}
