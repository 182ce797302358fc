//! Reported events: conversions, identity checks of affiliates, and rejected reports.

use crate::ClickId;
use domain::{ConversionKind, ConversionStatus, KycStatus, Micros, Money};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An advertiser's report of a conversion or of a change to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion<'a> {
    /// The time when the edge had read the report.
    pub time: Micros,
    /// The reporting advertiser.
    pub advertiser: &'a str,
    /// The click that led to the conversion; its signature was verified.
    pub click: ClickId,
    /// The kind of conversion.
    pub kind: ConversionKind,
    /// The advertiser's own name of the kind; part of the identity when `kind` is
    /// [`ConversionKind::Custom`].
    pub kind_name: &'a str,
    /// The advertiser's transaction number; empty when the click can have only one transaction.
    pub transaction: &'a str,
    /// The status of the conversion.
    pub status: ConversionStatus,
    /// The amount that the advertiser pays.
    pub payout: Money,
    /// The dialect of the report.
    pub dialect: &'a str,
    /// The sender's address, IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// The fields above that the report contained; the others are defaults. Since version 3; every field
    /// of an earlier report counts as stated.
    pub stated: Stated,
    /// The request as received, if it was signed: the aggregator verifies it again. Since version 3.
    #[serde(borrow)]
    pub signed: Option<SignedRequest<'a>>,
    /// The amount as sent, if it was rounded to `payout`; else empty. Since version 4.
    pub payout_as_sent: &'a str,
}

/// The fields that a report contained, as a set of bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stated(pub u8);

impl Stated {
    /// The payout.
    pub const PAYOUT: Self = Self(1);
    /// The currency of the payout.
    pub const CURRENCY: Self = Self(1 << 1);
    /// The kind of conversion.
    pub const KIND: Self = Self(1 << 2);
    /// The status.
    pub const STATUS: Self = Self(1 << 3);
    /// Every field.
    pub const ALL: Self = Self(Self::PAYOUT.0 | Self::CURRENCY.0 | Self::KIND.0 | Self::STATUS.0);

    /// Whether every field of `other` was stated.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the fields of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A signed HTTP request with every part that the signature covers, so that it can be verified again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest<'a> {
    /// The method, such as `POST`.
    pub method: &'a str,
    /// The path as sent, not decoded.
    pub path: &'a str,
    /// The query as sent, not decoded, without the question mark.
    pub query: &'a str,
    /// The headers that the signature and the parsing of the body depend on; names in lower case.
    #[serde(borrow)]
    pub headers: Vec<(&'a str, &'a str)>,
    /// The body as sent.
    pub body: &'a [u8],
}

/// Omits the content, which may contain secrets and personal data.
impl fmt::Debug for SignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An identity service's message about an affiliate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KycUpdate<'a> {
    /// The time when the edge had read the message.
    pub time: Micros,
    /// The time of the check according to the service; it decides the order of messages.
    pub happened: Micros,
    /// The service, such as `verifymy`.
    pub provider: &'a str,
    /// The service's delivery number; a repeated number is a repeated message.
    pub delivery: &'a str,
    /// The checked affiliate.
    pub affiliate: &'a str,
    /// The outcome of the check.
    pub status: KycStatus,
    /// The reached tier, 0 to 3.
    pub tier: u8,
    /// The webhook as received, which the aggregator verifies again. Since version 3.
    #[serde(borrow)]
    pub signed: Option<SignedRequest<'a>>,
}

/// A rejected report for operators: secrets and personal data are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection<'a> {
    /// The time of the rejection.
    pub time: Micros,
    /// The function that rejected the report, such as `postback`.
    pub source: &'a str,
    /// The sender, if known: an advertiser or a service.
    pub party: &'a str,
    /// The number of the reason.
    pub reason: u16,
    /// The name of the reason, such as `forged_click_id`.
    pub reason_name: &'a str,
    /// The details of the error.
    pub detail: &'a str,
    /// The masked method and target.
    pub request: &'a str,
    /// The status code of the response.
    pub status: u16,
    /// The sender's address, IPv4 mapped into IPv6.
    pub address: [u8; 16],
}
