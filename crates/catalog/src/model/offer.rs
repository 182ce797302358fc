//! Offers: what is promoted, where its visitors are sent, when and under which limits.

use crate::error::Reason;
use crate::kind::{Editable, Kind, KindName, Reference, Relation, Reservation, Validation};
use crate::status::Activity;
use crate::urls::UrlUse;
use domain::{AdvertiserId, Currency, Micros, Money, NetworkId, OfferId, PlatformId};
use serde::{Deserialize, Serialize};

const MAX_DESCRIPTION_CHARS: usize = 4_000;
const MAX_DESTINATIONS: usize = 100;
const MAX_COUNTRIES: usize = 249;
const MAX_CAPS: usize = 32;

/// What affiliates promote for an advertiser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Unique in the network.
    pub name: String,
    /// The advertiser that pays; fixed.
    pub advertiser: AdvertiserId,
    /// The site or application that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformId>,
    /// A text for affiliates.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A page for affiliates that shows the offer without counting a click.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<String>,
    /// Which affiliates may promote it.
    #[serde(default)]
    pub access: OfferAccess,
    /// Where visitors are sent, at least one. Links without a destination of their own use the first one.
    pub destinations: Vec<Destination>,
    /// Where visitors are sent while a link is not active, unless the link has its own fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// The countries of its visitors (ISO 3166-1); empty for all. For routing and reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// Its links are not active before.
    #[serde(
        default,
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub starts: Option<Micros>,
    /// Its links are not active from this moment on.
    #[serde(
        default,
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub ends: Option<Micros>,
    /// Limits of its traffic and cost. Stored; the edges do not enforce them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<Cap>,
}

/// Which affiliates may promote an offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferAccess {
    /// Those whose application is approved.
    #[default]
    OnApproval,
    /// Every approved affiliate of the network.
    Open,
}

/// A page that visitors are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// Unique in the offer; links refer to it.
    pub name: String,
    /// The URL with macros such as `{click_id}`.
    pub url: String,
}

/// A limit of an offer's or a campaign's traffic or cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// What is limited.
    pub metric: CapMetric,
    /// The time after which it starts again, in the network's time zone.
    pub period: CapPeriod,
    /// The limit: a number of clicks or conversions, or an amount in minor units.
    pub limit: i64,
    /// The currency of an amount (ISO 4217); for amounts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// What a cap limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapMetric {
    /// Clicks.
    Clicks,
    /// Conversions.
    Conversions,
    /// Payouts to affiliates.
    Payout,
    /// Revenue from the advertiser.
    Revenue,
}

/// The time after which a cap starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapPeriod {
    /// Each day.
    Day,
    /// Each week, from Monday.
    Week,
    /// Each month.
    Month,
    /// Never.
    Total,
}

impl Kind for Offer {
    type Id = OfferId;
    type Status = Activity;
    const NAME: KindName = KindName::Offer;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        faults.text("/description", &self.description, MAX_DESCRIPTION_CHARS);
        if let Some(url) = &self.preview_url {
            faults.url("/preview_url", url, UrlUse::Plain);
        }
        self.validate_destinations(faults);
        faults.count("/countries", self.countries.len(), 0..=MAX_COUNTRIES);
        faults.countries("/countries", &mut self.countries);
        faults.period("/ends", self.starts, self.ends);
        validate_caps(faults, &mut self.caps);
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn references(&self) -> Vec<Reference> {
        let (parent, kind) = (Relation::Parent, KindName::Advertiser);
        let mut references = vec![Reference::new(parent, "/advertiser", kind, self.advertiser)];
        if let Some(platform) = self.platform {
            let (sibling, kind) = (Relation::Sibling, KindName::Platform);
            references.push(Reference::new(sibling, "/platform", kind, platform));
        }
        references
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.name == other.name
            && self.destinations == other.destinations
            && self.fallback == other.fallback
            && self.access == other.access
            && self.starts == other.starts
            && self.ends == other.ends
    }

    fn reservations(&self, network: NetworkId) -> Vec<Reservation> {
        vec![Reservation::of_name(Self::NAME, network, &self.name)]
    }

    fn dates(&self) -> (Option<Micros>, Option<Micros>) {
        (self.starts, self.ends)
    }
}

impl Editable for Offer {}

impl Offer {
    fn validate_destinations(&self, faults: &mut Validation<'_>) {
        let names = self.destinations.iter().map(|it| &it.name);
        faults.distinct("/destinations", names);
        let count = self.destinations.len();
        faults.count("/destinations", count, 1..=MAX_DESTINATIONS);
        for (index, destination) in self.destinations.iter().enumerate() {
            let pointer = format!("/destinations/{index}");
            faults.name(&format!("{pointer}/name"), &destination.name);
            let url = &destination.url;
            faults.url(&format!("{pointer}/url"), url, UrlUse::Destination);
        }
        if let Some(url) = &self.fallback {
            faults.url("/fallback", url, UrlUse::Destination);
        }
    }
}

impl Cap {
    /// The limit as an amount, if it limits one.
    #[must_use]
    pub fn amount(&self) -> Option<Money> {
        let currency = Currency::from_stored(self.currency.as_deref()?);
        Some(Money {
            minor: self.limit,
            currency,
        })
    }
}

/// Checks a list of caps at `/caps`.
pub(super) fn validate_caps(faults: &mut Validation<'_>, caps: &mut [Cap]) {
    faults.count("/caps", caps.len(), 0..=MAX_CAPS);
    for (index, cap) in caps.iter_mut().enumerate() {
        let pointer = format!("/caps/{index}");
        faults.range(&format!("{pointer}/limit"), cap.limit, 0..=i64::MAX);
        let is_amount = matches!(cap.metric, CapMetric::Payout | CapMetric::Revenue);
        let pointer = format!("{pointer}/currency");
        let message = "payout and revenue have a currency, clicks and conversions have none";
        let fits = is_amount == cap.currency.is_some();
        faults.require(fits, Reason::Contradiction, &pointer, message);
        if let Some(code) = &mut cap.currency {
            faults.currency(&pointer, code);
        }
    }
    let metrics = caps.iter().map(|it| (it.metric, it.period, &it.currency));
    faults.distinct("/caps", metrics);
}
