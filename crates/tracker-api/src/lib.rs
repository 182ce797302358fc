//! The edge's internal API for functions, `http://tracker.internal/`: paths, messages and problems.
//!
//! Only the contract of both sides belongs here. Creating or storing messages never does.
//!
//! Each message is the JSON body of a `POST` with `Authorization: Bearer …`. The response is 204 once the message
//! is durable, that is when it survives a power loss. Otherwise it is a [`Problem`], whose number begins the body.
#![forbid(unsafe_code)]

mod problem;
mod signed;

pub use problem::Problem;
pub use signed::{MAX_SIGNED_BYTES, SignedRequest};

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The host of the API; its requests are handled in the edge's own process.
pub const HOST: &str = "tracker.internal";
/// Accepts a [`Conversion`].
pub const CONVERSIONS: &str = "/v1/conversions";
/// Accepts a [`KycUpdate`].
pub const KYC_UPDATES: &str = "/v1/kyc-updates";
/// Accepts a [`Rejection`].
pub const REJECTIONS: &str = "/v1/rejections";

/// A valid, authentic report of an advertiser about a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversion<'a> {
    /// The reporting advertiser.
    #[serde(borrow)]
    pub advertiser: Cow<'a, str>,
    /// The click's id as text, verified.
    #[serde(borrow)]
    pub click_id: Cow<'a, str>,
    /// `lead`, `sale`, `rebill`, `upsell`, `install` or `custom`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The advertiser's own name of the kind.
    #[serde(borrow)]
    pub kind_name: Cow<'a, str>,
    /// The advertiser's number of the transaction; empty if the click has only one.
    #[serde(borrow)]
    pub transaction: Cow<'a, str>,
    /// `pending`, `approved`, `rejected`, `hold` or `chargeback`.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// The advertiser's payout, in minor units of `currency`.
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
    /// The sender's IP address, or empty.
    #[serde(borrow)]
    pub address: Cow<'a, str>,
    /// The fields that the report states itself.
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

/// An authentic message of an identity service about a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KycUpdate<'a> {
    /// The service.
    #[serde(borrow)]
    pub provider: Cow<'a, str>,
    /// The service's number of this message.
    #[serde(borrow)]
    pub delivery: Cow<'a, str>,
    /// The checked affiliate.
    #[serde(borrow)]
    pub affiliate: Cow<'a, str>,
    /// `pending`, `approved`, `rejected`, `revoked` or `expired`.
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// 0 to 3.
    pub tier: u8,
    /// The time of the check, in microseconds since 1970.
    pub happened_micros: u64,
    /// The webhook with all that its signature covers.
    #[serde(borrow)]
    pub signed: SignedRequest<'a>,
}

/// A report that was refused. Secrets and personal data have been masked by the function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection<'a> {
    /// The refusing function.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// The sender, if it is known.
    #[serde(borrow)]
    pub party: Cow<'a, str>,
    /// The numbered reason.
    pub reason: u16,
    /// Its name.
    #[serde(borrow)]
    pub reason_name: Cow<'a, str>,
    /// The details of the fault.
    #[serde(borrow)]
    pub detail: Cow<'a, str>,
    /// Method and target, masked.
    #[serde(borrow)]
    pub request: Cow<'a, str>,
    /// The status code of the response.
    pub status: u16,
    /// The sender's IP address, or empty.
    #[serde(borrow)]
    pub address: Cow<'a, str>,
}
