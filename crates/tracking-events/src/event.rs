//! The events of a journal, and the fields of clicks and impressions.

use crate::{ClickId, Conversion, KycUpdate, Rejection};
use domain::{CostMicros, LinkId, Micros, VisitorId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};

/// The number of free parameters (`sub1`…) of a visit.
pub const SUB_COUNT: usize = 10;

/// One event of a journal. Variants are only appended, because their order is part of the binary format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// A visitor followed a link and was redirected.
    #[serde(borrow)]
    Click(Visit<'a>),
    /// A visitor's browser requested a link's pixel.
    #[serde(borrow)]
    Impression(Visit<'a>),
    /// An advertiser reported a sale. Since version 2.
    #[serde(borrow)]
    Conversion(Conversion<'a>),
    /// An identity service reported the result of a check. Since version 2.
    #[serde(borrow)]
    KycUpdate(KycUpdate<'a>),
    /// A report was rejected. Since version 2.
    #[serde(borrow)]
    Rejection(Rejection<'a>),
}

/// The fields of one request with a response. Texts are UTF-8; absent texts are empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit<'a> {
    /// The signed id of this click or impression.
    pub id: ClickId,
    /// The time after the request was parsed.
    pub time: Micros,
    /// The link at that time.
    #[serde(borrow)]
    pub link: Link<'a>,
    /// The visitor.
    pub visitor: VisitorId,
    /// Properties that matter for counting.
    pub flags: Flags,
    /// The status code of the response.
    pub status: u16,
    /// The visitor's address as stored (truncated unless configured), IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// The location of the address.
    #[serde(borrow)]
    pub geo: Geo<'a>,
    /// The visitor's device and browser.
    #[serde(borrow)]
    pub agent: UserAgent<'a>,
    /// The first language of `Accept-Language` in lower case, such as `en-us`.
    pub language: &'a str,
    /// The requested `Host` in lower case, without the port.
    pub host: &'a str,
    /// The `referrer` parameter, else the `Referer` header.
    pub referrer: &'a str,
    /// The traffic source, as sent by the affiliate.
    pub source: &'a str,
    /// The affiliate's own id of this visit.
    pub external_id: &'a str,
    /// The cost, as sent by the affiliate.
    pub cost: CostMicros,
    /// `sub1` to `sub10`.
    #[serde(borrow)]
    pub subs: [&'a str; SUB_COUNT],
}

/// A link with its offer, campaign and affiliate at the time of the visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link<'a> {
    /// The link's number.
    pub id: LinkId,
    /// The link's short path.
    pub slug: &'a str,
    /// The promoted offer.
    pub offer: &'a str,
    /// The affiliate's campaign for the offer.
    pub campaign: &'a str,
    /// The affiliate.
    pub affiliate: &'a str,
}

/// The location of an address according to the geo files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geo<'a> {
    /// The ISO 3166-1 alpha-2 code in capitals, or two NUL bytes when unknown.
    pub country: [u8; 2],
    /// The ISO 3166-2 subdivision code without the country, or empty.
    pub region: &'a str,
    /// The autonomous system number, or 0.
    pub asn: u32,
}

/// A user agent string and its classification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAgent<'a> {
    /// The kind of device.
    pub device: Device,
    /// The operating system, such as `Android`, or empty.
    pub os: &'a str,
    /// The name of the browser or crawler, such as `Firefox`, or empty.
    pub browser: &'a str,
    /// The header as sent, truncated to the configured length.
    pub raw: &'a str,
}

/// Kinds of devices. Variants are only appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Device {
    /// Not recognised.
    #[default]
    Unknown,
    /// A desktop or laptop computer.
    Desktop,
    /// A phone.
    Phone,
    /// A tablet.
    Tablet,
    /// Another appliance. Before version 4 also televisions and consoles.
    Appliance,
    /// A program.
    Bot,
    /// A television, or a stick or box connected to one. Since version 4.
    Tv,
    /// A game console. Since version 4.
    Console,
}

impl Device {
    /// The name in macros and in ClickHouse.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Desktop => "desktop",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Appliance => "appliance",
            Self::Bot => "bot",
            Self::Tv => "tv",
            Self::Console => "console",
        }
    }
}

/// A set of flags of a visit. No visit is dropped because of a flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(pub u32);

impl Flags {
    /// The same visitor used the same link within the window, with the error rate of a Bloom filter.
    pub const REPEATED: Self = Self(1);
    /// A crawler, monitor or other program.
    pub const BOT: Self = Self(1 << 1);
    /// A browser's prefetch for a visit that may never happen.
    pub const PREFETCH: Self = Self(1 << 2);
    /// A `HEAD` request: headers only, no visitor was redirected.
    pub const HEAD: Self = Self(1 << 3);
    /// The link was paused and the visitor was redirected to its fallback.
    pub const PAUSED: Self = Self(1 << 4);
    /// The query contained an invalid percent-escape (kept literally), bytes that are not UTF-8 (read as
    /// Windows-1252), control characters (dropped) or `&amp;` (read as `&`).
    pub const MALFORMED_QUERY: Self = Self(1 << 5);
    /// `cost` was not a decimal number and is recorded as 0.
    pub const BAD_COST: Self = Self(1 << 6);
    /// A text exceeded its limit and was truncated.
    pub const TRUNCATED: Self = Self(1 << 7);
    /// The filters had more new visitors than their size allows: it is unknown whether this visit is
    /// repeated.
    pub const UNIQUENESS_UNKNOWN: Self = Self(1 << 8);
    /// The edge's system clock was known to be wrong. The time is the edge's last trusted time plus the
    /// elapsed time, unless `TIME_UNKNOWN` is set, too.
    pub const CLOCK_WRONG: Self = Self(1 << 9);
    /// The edge had no trusted time: the aggregator inserts the time of reception minus the event's age.
    pub const TIME_UNKNOWN: Self = Self(1 << 10);

    /// A mail service's image proxy: a person opened a mail, but address and agent are the proxy's.
    pub const MAIL_PROXY: Self = Self(1 << 16);

    /// Flags that exclude a visit from the counts of clicks and impressions.
    pub const UNCOUNTED: Self = Self(Self::BOT.0 | Self::PREFETCH.0 | Self::HEAD.0);

    /// Whether any flag of `other` is set.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Sets the flags of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Visit<'_> {
    /// The stored address; a mapped IPv4 address is returned as IPv4.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.address).to_canonical()
    }

    /// Whether this visit counts as a click or an impression.
    #[must_use]
    pub const fn counted(&self) -> bool {
        !self.flags.any(Flags::UNCOUNTED)
    }
}
