//! What is logged of a click or an impression, and the events there are.

use crate::{ClickId, Conversion, CostMicros, KycUpdate, LinkId, Micros, Rejection, VisitorId};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};

/// How many free parameters (`sub1`…) a visit carries.
pub const SUB_COUNT: usize = 10;

/// One entry of a journal. Variants are only ever appended: their order is part of the binary form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event<'a> {
    /// A visitor followed a link and was redirected.
    #[serde(borrow)]
    Click(Visit<'a>),
    /// A visitor's browser asked for a link's pixel.
    #[serde(borrow)]
    Impression(Visit<'a>),
    /// An advertiser reported a sale. Since version 2.
    #[serde(borrow)]
    Conversion(Conversion<'a>),
    /// An identity service reported a check. Since version 2.
    #[serde(borrow)]
    KycUpdate(KycUpdate<'a>),
    /// A report was refused. Since version 2.
    #[serde(borrow)]
    Rejection(Rejection<'a>),
}

/// What is known of one answered request. Texts are UTF-8; an absent one is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit<'a> {
    /// The signed id of this click or impression.
    pub id: ClickId,
    /// When the request had been parsed.
    pub time: Micros,
    /// What was followed or shown, as it was at that moment.
    #[serde(borrow)]
    pub link: Link<'a>,
    /// Who came.
    pub visitor: VisitorId,
    /// Everything worth knowing when counting.
    pub flags: Flags,
    /// The status code answered.
    pub status: u16,
    /// The visitor's address as stored (truncated unless configured), IPv4 mapped into IPv6.
    pub address: [u8; 16],
    /// Where the address is.
    #[serde(borrow)]
    pub geo: Geo<'a>,
    /// What the visitor uses.
    #[serde(borrow)]
    pub agent: UserAgent<'a>,
    /// The first language of `Accept-Language`, lower case, such as `en-us`.
    pub language: &'a str,
    /// The `Host` asked for, lower case and without port.
    pub host: &'a str,
    /// The `referrer` parameter, else the `Referer` header.
    pub referrer: &'a str,
    /// The traffic source the affiliate named.
    pub source: &'a str,
    /// The affiliate's own id of this visit.
    pub external_id: &'a str,
    /// What the affiliate says it cost.
    pub cost: CostMicros,
    /// `sub1` to `sub10`.
    #[serde(borrow)]
    pub subs: [&'a str; SUB_COUNT],
}

/// A link and what it belonged to when it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link<'a> {
    /// Its number.
    pub id: LinkId,
    /// Its short path.
    pub slug: &'a str,
    /// What is promoted.
    pub offer: &'a str,
    /// The affiliate's use of the offer.
    pub campaign: &'a str,
    /// Who promotes.
    pub affiliate: &'a str,
}

/// Where an address is, as far as the geo files know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geo<'a> {
    /// ISO 3166-1 alpha-2 code in capitals, or two NUL bytes when unknown.
    pub country: [u8; 2],
    /// ISO 3166-2 subdivision code without the country, or empty.
    pub region: &'a str,
    /// Autonomous system number, or 0.
    pub asn: u32,
}

/// What a user agent string says, and the string itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAgent<'a> {
    /// The kind of device.
    pub device: Device,
    /// Operating system, such as `Android`, or empty.
    pub os: &'a str,
    /// Browser or crawler name, such as `Firefox`, or empty.
    pub browser: &'a str,
    /// The header as sent, cut to the configured length.
    pub raw: &'a str,
}

/// Kinds of devices. Variants are only ever appended.
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
    /// An appliance that is none of the others. Before version 4 televisions and consoles, too.
    Appliance,
    /// A program.
    Bot,
    /// A television, or a stick or box that is connected to one. Since version 4.
    Tv,
    /// A game console. Since version 4.
    Console,
}

impl Device {
    /// The word used in macros and in ClickHouse.
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

/// A set of marks on a visit. Nothing is dropped because of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flags(pub u32);

impl Flags {
    /// The same visitor used the same link within the window (as far as a Bloom filter can tell).
    pub const REPEATED: Self = Self(1);
    /// A crawler, monitor or other program.
    pub const BOT: Self = Self(1 << 1);
    /// A browser fetched ahead of a visitor who may never come.
    pub const PREFETCH: Self = Self(1 << 2);
    /// A `HEAD` request: headers only, nobody was sent anywhere.
    pub const HEAD: Self = Self(1 << 3);
    /// The link was paused and the visitor went to its fallback.
    pub const PAUSED: Self = Self(1 << 4);
    /// The query held a broken percent-escape (taken literally), bytes that are not UTF-8 (read as
    /// Windows-1252), control characters (left out) or `&amp;` (read as `&`).
    pub const MALFORMED_QUERY: Self = Self(1 << 5);
    /// `cost` was not a decimal number and reads as 0.
    pub const BAD_COST: Self = Self(1 << 6);
    /// A text was longer than its limit and was cut.
    pub const TRUNCATED: Self = Self(1 << 7);
    /// More new visitors came than the filters were sized for: whether this one is repeated is not known.
    pub const UNIQUENESS_UNKNOWN: Self = Self(1 << 8);
    /// The edge's system clock was known to be wrong. The time is the edge's last trusted one plus the time
    /// elapsed since, unless `TIME_UNKNOWN` is set as well.
    pub const CLOCK_WRONG: Self = Self(1 << 9);
    /// The edge had no trusted time: the aggregator puts in the time of reception, less the event's age.
    pub const TIME_UNKNOWN: Self = Self(1 << 10);

    /// A mail service's image proxy: a person opened a mail, at an address and with an agent that are the
    /// proxy's.
    pub const MAIL_PROXY: Self = Self(1 << 16);

    /// Marks that keep a visit out of the counts of clicks and impressions.
    pub const UNCOUNTED: Self = Self(Self::BOT.0 | Self::PREFETCH.0 | Self::HEAD.0);

    /// Whether any mark of `other` is set.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Sets the marks of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Visit<'_> {
    /// The stored address; IPv4 comes back as IPv4.
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
