//! The numbered reasons why a report could not be verified and is not evaluated.

use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tracking_events::{Conversion, Stated};

/// The longest description of a report, in characters.
const MAX_DETAIL_CHARS: usize = 1_024;

/// A report that could not be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unproven {
    pub(crate) reason: UnprovenReason,
    /// The explanation. For a conversion it contains all fields needed to report it again.
    pub(crate) detail: String,
}

numbered_reasons::numbered_reasons! {
    /// Why a report could not be verified. Numbers are never given to another reason.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    pub(crate) enum UnprovenReason;

    /// The function's checks fail at the aggregator; `detail` begins with the number of the failed check.
    NotProven = 160, "not_proven";
    /// The event differs from the signed request that came with it.
    Altered = 161, "altered";
    /// The advertiser signs its reports, but this one came without its signed request.
    NotSigned = 162, "not_signed";
    /// The click id's key did not become known within `reports.unknown_key_wait`. Copy the fleet's secrets file to the
    /// aggregator before a new key becomes active.
    UnknownClickKey = 163, "click_key_unknown";
    /// The node sent more reports, or higher amounts, without signatures than `[reports]` allows.
    UnsignedLimit = 164, "unsigned_limit";
    /// As 160, of an identity check.
    KycNotProven = 260, "kyc_not_proven";
    /// As 161, of an identity check.
    KycAltered = 261, "kyc_altered";
    /// As 162, of an identity check.
    KycNotSigned = 262, "kyc_not_signed";
}

impl Unproven {
    pub(crate) fn new(reason: UnprovenReason, why: &str) -> Self {
        Self {
            reason,
            detail: bounded(why),
        }
    }

    /// A conversion that could not be verified, with all its fields, so that it can be reported again.
    pub(crate) fn conversion(reason: UnprovenReason, why: &str, report: &Conversion<'_>) -> Self {
        let Conversion {
            click,
            kind_name,
            transaction,
            ..
        } = report;
        let (kind, status) = (report.kind.as_str(), report.status.as_str());
        let mut detail = format!(
            "{why}; reported: click_id={click} kind={kind} event={kind_name:?} transaction_id={transaction:?} \
             status={status}"
        );
        if report.stated.contains(Stated::PAYOUT) {
            let (minor, currency) = (report.payout.minor, report.payout.currency.code());
            // Writing to a string can't fail.
            let _ = write!(detail, " payout_minor={minor} currency={currency}");
        }
        Self {
            reason,
            detail: bounded(&detail),
        }
    }
}

fn bounded(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(MAX_DETAIL_CHARS).collect()
}
