//! What functions tell the edge: paths and messages of its internal API, `http://tracker.internal/`.
//!
//! Only what both sides must agree on belongs here. How a message is made or stored never does.
//!
//! Each message is the JSON body of a `POST` with `Authorization: Bearer …`. The response is 204 when it is durable,
//! that is when it survives a power cut; otherwise a [`Problem`], whose number the body begins with.
#![forbid(unsafe_code)]

mod numbered;
mod problem;
mod signed;

pub use problem::Problem;
pub use signed::{MAX_SIGNED_BYTES, SignedRequest};

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The host that functions ask; answered in the edge's own process.
pub const HOST: &str = "tracker.internal";
/// Takes a [`Conversion`].
pub const CONVERSIONS: &str = "/v1/conversions";
/// Takes a [`KycUpdate`].
pub const KYC_UPDATES: &str = "/v1/kyc-updates";
/// Takes a [`Rejection`].
pub const REJECTIONS: &str = "/v1/rejections";

/// An advertiser reported a sale, and everything about the report was found to be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion<'a> {
    /// Who reported.
    #[serde(borrow)]
    pub advertiser: Cow<'a, str>,
    /// The click's id as text, verified.
    #[serde(borrow)]
    pub click_id: Cow<'a, str>,
    /// `lead`, `sale`, `rebill`, `upsell`, `install` or `custom`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The advertiser's own word for it.
    #[serde(borrow)]
    pub kind_name: Cow<'a, str>,
    /// The advertiser's number of the transaction; empty means that there is only one.
    #[serde(borrow)]
    pub transaction: Cow<'a, str>,
    /// `pending`, `approved`, `rejected`, `hold` or `chargeback`.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// What the advertiser pays, in minor units of `currency`.
    pub payout_minor: i64,
    /// ISO 4217 code in capitals.
    #[serde(borrow)]
    pub currency: Cow<'a, str>,
    /// The amount as it was sent, if it was rounded to `payout_minor`; else empty.
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub payout_as_sent: Cow<'a, str>,
    /// The dialect of the report.
    #[serde(borrow)]
    pub dialect: Cow<'a, str>,
    /// Who sent it: an IP address, or empty.
    #[serde(borrow)]
    pub address: Cow<'a, str>,
    /// Which fields the report stated itself.
    pub stated: Stated,
    /// The request, if its signature alone proves it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRequest<'a>>,
}

/// The fields of a conversion that the report stated; the others hold defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// `payout_minor`.
    pub payout: bool,
    /// `currency`.
    pub currency: bool,
    /// `kind`.
    pub kind: bool,
    /// `status`.
    pub status: bool,
}

/// An identity service reported a check, and its signature was ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KycUpdate<'a> {
    /// The service.
    #[serde(borrow)]
    pub provider: Cow<'a, str>,
    /// The service's number of this message.
    #[serde(borrow)]
    pub delivery: Cow<'a, str>,
    /// Who was checked.
    #[serde(borrow)]
    pub affiliate: Cow<'a, str>,
    /// `pending`, `approved`, `rejected`, `revoked` or `expired`.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// 0 to 3.
    pub tier: u8,
    /// When it happened, in microseconds since 1970.
    pub happened_micros: u64,
    /// The webhook with all that its signature covers.
    #[serde(borrow)]
    pub signed: SignedRequest<'a>,
}

/// A report that was refused. Secrets and personal data have been masked by the function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection<'a> {
    /// Which function refused.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// Who sent it, as far as is known.
    #[serde(borrow)]
    pub party: Cow<'a, str>,
    /// The numbered reason.
    pub reason: u16,
    /// Its name.
    #[serde(borrow)]
    pub reason_name: Cow<'a, str>,
    /// What exactly was wrong.
    #[serde(borrow)]
    pub detail: Cow<'a, str>,
    /// Method and target, masked.
    #[serde(borrow)]
    pub request: Cow<'a, str>,
    /// The status code answered.
    pub status: u16,
    /// Who sent it: an IP address, or empty.
    #[serde(borrow)]
    pub address: Cow<'a, str>,
}
