//! Terms: versions of the prices of an offer or a campaign. A version never changes, except that it can be ended.
//!
//! A click is paid by the terms that were in force when it happened: those of its campaign if it has any at that
//! moment, otherwise those of its offer. The two are never mixed: terms of a campaign replace all prices of the offer.

use crate::error::Reason;
use crate::kind::{Kind, KindName, Reference, Relation, Reservation, Validation};
use crate::status::TermsStatus;
use domain::{CampaignId, Currency, Micros, Money, NetworkId, OfferId, TermsId};
use serde::{Deserialize, Serialize};

const MAX_EVENTS: usize = 64;
const MAX_TIERS: usize = 20;
const MAX_HOLD_DAYS: i64 = 3_650;
/// 1,000 % of the sale.
const MAX_BASIS_POINTS: i64 = 100_000;
/// The largest fixed price, in minor units.
const MAX_PRICE_MINOR: i64 = 1_000_000_000_000;

/// A version of the prices of an offer or a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The name for people; it need not be unique.
    pub name: String,
    /// What they are the terms of.
    pub owner: TermsOwner,
    /// The moment from which they are in force; by default that of their creation. Stored terms always have it.
    #[serde(
        default,
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_from: Option<Micros>,
    /// The first moment at which they are not in force any more; without one they apply until they are replaced.
    #[serde(
        default,
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_until: Option<Micros>,
    /// Days from a conversion until its commission can be paid.
    #[serde(default)]
    pub hold_days: u16,
    /// The currency of payouts to the affiliate (ISO 4217).
    pub payout_currency: String,
    /// The currency of the advertiser's payments (ISO 4217).
    pub revenue_currency: String,
    /// The prices by event. An event that is not listed has none.
    pub events: Vec<EventTerms>,
}

/// What terms belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermsOwner {
    /// An offer: for all of its campaigns without terms of their own.
    Offer(OfferId),
    /// A campaign.
    Campaign(CampaignId),
}

/// The prices of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTerms {
    /// `click`, `impression`, or the name of a conversion: a kind such as `sale`, or one of the advertiser's events.
    pub event: String,
    /// What the affiliate earns.
    #[serde(default)]
    pub payout: Price,
    /// What the advertiser pays.
    #[serde(default)]
    pub revenue: Price,
}

/// A price in tiers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// What decides which tier applies.
    #[serde(default)]
    pub measure: TierMeasure,
    /// The time after which the measure starts again, in the network's time zone.
    #[serde(default)]
    pub period: TierPeriod,
    /// By ascending `from`, the first of which is 0; empty for no price.
    #[serde(default)]
    pub tiers: Vec<PriceTier>,
}

/// A tier of a price. Its parts are added up: several of them make a hybrid price.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTier {
    /// The measure from which it applies: a number of events, or an amount in minor units.
    #[serde(default)]
    pub from: i64,
    /// The fixed price of an event in minor units: CPC for clicks, CPA for conversions.
    #[serde(default)]
    pub per_event_minor: i64,
    /// The price of a thousand events in minor units: CPM for impressions.
    #[serde(default)]
    pub per_thousand_minor: i64,
    /// The share of a sale in hundredths of a percent: CPS. For conversions only.
    #[serde(default)]
    pub sale_basis_points: u32,
}

/// What decides which tier of a price applies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TierMeasure {
    /// The number of the campaign's events of this name.
    #[default]
    Count,
    /// The sum of the campaign's sales, in the currency of the price.
    Amount,
}

/// The time after which the measure of tiers starts again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TierPeriod {
    /// Each month.
    #[default]
    Month,
    /// Never.
    Total,
}

impl Kind for Terms {
    type Id = TermsId;
    type Status = TermsStatus;
    const NAME: KindName = KindName::Terms;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        faults.period("/valid_until", self.valid_from, self.valid_until);
        faults.range("/hold_days", self.hold_days.into(), 0..=MAX_HOLD_DAYS);
        faults.currency("/payout_currency", &mut self.payout_currency);
        faults.currency("/revenue_currency", &mut self.revenue_currency);
        faults.count("/events", self.events.len(), 0..=MAX_EVENTS);
        faults.distinct("/events", self.events.iter().map(|it| &it.event));
        for (index, event) in self.events.iter().enumerate() {
            event.validate(faults, &format!("/events/{index}"));
        }
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn references(&self) -> Vec<Reference> {
        let parent = Relation::Parent;
        vec![match self.owner {
            TermsOwner::Offer(id) => Reference::new(parent, "/owner/offer", KindName::Offer, id),
            TermsOwner::Campaign(id) => {
                Reference::new(parent, "/owner/campaign", KindName::Campaign, id)
            }
        }]
    }

    fn reservations(&self, _: NetworkId) -> Vec<Reservation> {
        Vec::new()
    }

    fn dates(&self) -> (Option<Micros>, Option<Micros>) {
        (self.valid_from, self.valid_until)
    }
}

impl Terms {
    /// Whether they are in force at this moment.
    #[must_use]
    pub fn is_in_force(&self, time: Micros) -> bool {
        self.valid_from.is_some_and(|from| from <= time)
            && self.valid_until.is_none_or(|until| time < until)
    }

    /// The prices of an event, if it has any.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<&EventTerms> {
        self.events.iter().find(|it| it.event == name)
    }

    /// An amount of minor units of the affiliate's payouts.
    #[must_use]
    pub fn payout_money(&self, minor: i64) -> Money {
        let currency = Currency::from_stored(&self.payout_currency);
        Money { minor, currency }
    }

    /// An amount of minor units of the advertiser's payments.
    #[must_use]
    pub fn revenue_money(&self, minor: i64) -> Money {
        let currency = Currency::from_stored(&self.revenue_currency);
        Money { minor, currency }
    }
}

impl EventTerms {
    fn validate(&self, faults: &mut Validation<'_>, pointer: &str) {
        faults.name(&format!("{pointer}/event"), &self.event);
        let is_conversion = !["click", "impression"].contains(&self.event.as_str());
        for (field, price) in [("payout", &self.payout), ("revenue", &self.revenue)] {
            price.validate(faults, &format!("{pointer}/{field}"), is_conversion);
        }
    }
}

impl Price {
    /// The tier that applies after `reached` events or minor units in this period; none without a price.
    #[must_use]
    pub fn tier(&self, reached: i64) -> Option<&PriceTier> {
        self.tiers.iter().rev().find(|tier| tier.from <= reached)
    }

    fn validate(&self, faults: &mut Validation<'_>, pointer: &str, is_conversion: bool) {
        let tiers = format!("{pointer}/tiers");
        faults.count(&tiers, self.tiers.len(), 0..=MAX_TIERS);
        let starts_at_zero = self.tiers.first().is_none_or(|tier| tier.from == 0);
        let is_ascending = self.tiers.is_sorted_by(|a, b| a.from < b.from);
        let message = "the first tier is from 0, and each further one from a higher number";
        faults.require(
            starts_at_zero && is_ascending,
            Reason::OutOfRange,
            &tiers,
            message,
        );
        if self.measure == TierMeasure::Amount && !is_conversion {
            let message = "only conversions have an amount; clicks and impressions are counted";
            faults.add(
                Reason::Contradiction,
                &format!("{pointer}/measure"),
                message,
            );
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            tier.validate(faults, &format!("{tiers}/{index}"), is_conversion);
        }
    }
}

impl PriceTier {
    fn validate(&self, faults: &mut Validation<'_>, pointer: &str, is_conversion: bool) {
        let share = i64::from(self.sale_basis_points);
        for (field, number, most) in [
            ("per_event_minor", self.per_event_minor, MAX_PRICE_MINOR),
            (
                "per_thousand_minor",
                self.per_thousand_minor,
                MAX_PRICE_MINOR,
            ),
            ("sale_basis_points", share, MAX_BASIS_POINTS),
        ] {
            faults.range(&format!("{pointer}/{field}"), number, 0..=most);
        }
        if share > 0 && !is_conversion {
            let message = "a share of a sale needs a conversion; clicks and impressions have none";
            let pointer = format!("{pointer}/sale_basis_points");
            faults.add(Reason::Contradiction, &pointer, message);
        }
    }
}
