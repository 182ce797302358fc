//! What is logged of sales and of the people who are paid: conversions, identity checks, refusals.

use crate::{ClickId, Micros};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An advertiser reported a sale, or something new about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion<'a> {
    /// When the report had been read here.
    pub time: Micros,
    /// Who reported.
    pub advertiser: &'a str,
    /// The click that it is due to; its signature has been verified.
    pub click: ClickId,
    /// What happened.
    pub kind: ConversionKind,
    /// The advertiser's own word for it; part of the identity when `kind` is
    /// [`ConversionKind::Custom`].
    pub kind_name: &'a str,
    /// The advertiser's number of the transaction; empty means that there is only one.
    pub transaction: &'a str,
    /// How it stands.
    pub status: ConversionStatus,
    /// What the advertiser pays.
    pub payout: Money,
    /// The dialect it was reported in.
    pub dialect: &'a str,
    /// Who sent the report, IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// Which of the fields above the report stated itself; the others are defaults. Since version 3; every
    /// field of an earlier report counts as stated.
    pub stated: Stated,
    /// The request as received, if its sender signed it: the aggregator verifies it again. Since version 3.
    #[serde(borrow)]
    pub signed: Option<SignedRequest<'a>>,
    /// The amount as its sender wrote it, if it was rounded to `payout`; else empty. Since version 4.
    pub payout_as_sent: &'a str,
}

/// The fields of a report that its sender stated, as a set of bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stated(pub u8);

impl Stated {
    /// What the advertiser pays.
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

/// A signed HTTP request with everything that its signature covers, so that it can be verified again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// As sent, not decoded.
    pub path: &'a str,
    /// As sent, not decoded, without its question mark.
    pub query: &'a str,
    /// The headers that the signature and the parsing of the body depend on, names in lower case.
    #[serde(borrow)]
    pub headers: Vec<(&'a str, &'a str)>,
    /// As sent.
    pub body: &'a [u8],
}

/// Without its content, which may hold secrets and personal data.
impl fmt::Debug for SignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An amount in the smallest unit of its currency: 1999 and `USD` are 19.99 US dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units of ISO 4217: cents, or the yen itself.
    pub minor: i64,
    /// ISO 4217 code in capitals.
    pub currency: [u8; 3],
}

/// An identity service said something about an affiliate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KycUpdate<'a> {
    /// When it had been read here.
    pub time: Micros,
    /// When it happened, as the service says: what settles the order.
    pub happened: Micros,
    /// The service, such as `verifymy`.
    pub provider: &'a str,
    /// The service's number of this message; the same again is the same message.
    pub delivery: &'a str,
    /// Who was checked.
    pub affiliate: &'a str,
    /// The outcome.
    pub status: KycStatus,
    /// The tier reached, 0 to 3.
    pub tier: u8,
    /// The webhook as received, which the aggregator verifies again. Since version 3.
    #[serde(borrow)]
    pub signed: Option<SignedRequest<'a>>,
}

/// A report that was refused, as the operator may see it: secrets and personal data are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection<'a> {
    /// When.
    pub time: Micros,
    /// Which function refused, such as `postback`.
    pub source: &'a str,
    /// Who sent it, as far as is known: an advertiser or a service.
    pub party: &'a str,
    /// The numbered reason.
    pub reason: u16,
    /// Its name, such as `forged_click_id`.
    pub reason_name: &'a str,
    /// What exactly was wrong.
    pub detail: &'a str,
    /// Method and target, masked.
    pub request: &'a str,
    /// The status code answered.
    pub status: u16,
    /// Who sent the request, IPv4 mapped into IPv6.
    pub address: [u8; 16],
}

/// How far an affiliate has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// 0 to 3.
    pub number: u8,
    /// What may be earned, in US cents; nothing where there is no limit.
    pub limit_cents: Option<i64>,
}

/// VerifyMy's tiers, each at the place of its number.
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

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$each])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word used in messages and in ClickHouse.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// The variant of that word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

words! {
    /// Kinds of conversions. Variants are only ever appended.
    ConversionKind {
        /// Somebody signed up or left an address.
        Lead = "lead",
        /// Somebody bought.
        Sale = "sale",
        /// A subscription was paid again.
        Rebill = "rebill",
        /// Somebody bought more in the same visit.
        Upsell = "upsell",
        /// Somebody installed an application.
        Install = "install",
        /// Something that only the advertiser has a word for.
        Custom = "custom",
    }
}

words! {
    /// How a conversion stands. Variants are only ever appended.
    ConversionStatus {
        /// Reported and not yet judged.
        Pending = "pending",
        /// To be paid.
        Approved = "approved",
        /// Not to be paid.
        Rejected = "rejected",
        /// Kept back while it is looked into.
        Hold = "hold",
        /// The customer took the money back: nothing changes any more.
        Chargeback = "chargeback",
    }
}

words! {
    /// Outcomes of an identity check. Variants are only ever appended.
    KycStatus {
        /// Begun and not yet judged.
        Pending = "pending",
        /// The tier is reached.
        Approved = "approved",
        /// The check failed.
        Rejected = "rejected",
        /// An approval was taken back.
        Revoked = "revoked",
        /// An approval has run out.
        Expired = "expired",
    }
}

impl ConversionStatus {
    /// Whether it takes a sale back, or a part of it.
    #[must_use]
    pub const fn takes_back(self) -> bool {
        matches!(self, Self::Rejected | Self::Chargeback)
    }

    /// Whether an advertiser may report `next` after this: what was judged may be judged otherwise, but
    /// does not become undecided, and a chargeback is the end.
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

impl Money {
    /// The currency's letters, or nothing where there are none.
    #[must_use]
    pub fn currency(&self) -> &str {
        match std::str::from_utf8(&self.currency) {
            Ok(text) if self.currency.iter().all(u8::is_ascii_uppercase) => text,
            _ => "",
        }
    }
}
