//! Affiliates, their applications to offers, and their postbacks. It holds what `postbacks.toml` holds, with labels in
//! place of keys.

use crate::kind::{
    Editable, HasSecrets, Kind, KindName, Reference, Relation, Reservation, Validation,
};
use crate::status::{AffiliateStatus, ApplicationStatus};
use crate::urls::UrlUse;
use domain::{
    AffiliateId, ApplicationId, ConversionKind, ConversionStatus, Currency, Money, NetworkId,
    OfferId, TIERS,
};
use serde::{Deserialize, Serialize};

const MAX_MESSAGE_CHARS: usize = 4_000;
/// The label of the key that signs postbacks.
pub(super) const POSTBACK_KEY: &str = "postback";

/// A partner that promotes offers. Persons, addresses and bank accounts are stored elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affiliate {
    /// Unique in the network.
    pub name: String,
    /// The tier of its identity check, 0 to 3 ([`domain::TIERS`]).
    #[serde(default)]
    pub kyc_tier: u8,
    /// How it is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout: Option<PayoutSettings>,
    /// How it is notified of conversions, where a campaign has no settings of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postback: Option<PostbackSettings>,
}

/// How an affiliate is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutSettings {
    /// The provider.
    pub method: PayoutMethod,
    /// The currency of payouts (ISO 4217).
    pub currency: String,
    /// The smallest payout, in minor units of the currency.
    #[serde(default)]
    pub minimum_minor: i64,
}

/// A way of payouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutMethod {
    /// A bank transfer through Wise.
    Wise,
    /// A transfer between Paxum accounts.
    Paxum,
    /// The stablecoin USDT.
    Usdt,
}

/// How an affiliate is notified of conversions. The key that signs requests is the secret `postback`; without one they
/// are not signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostbackSettings {
    /// The URL of the receiver, with macros such as `{payout}`.
    pub url: String,
    /// The statuses that are reported; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<String>,
    /// The kinds of conversions that are reported; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// An affiliate's request to promote an offer; there is one for each affiliate and offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// The affiliate; fixed.
    pub affiliate: AffiliateId,
    /// The offer; fixed.
    pub offer: OfferId,
    /// What the affiliate writes about its traffic.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Kind for Affiliate {
    type Id = AffiliateId;
    type Status = AffiliateStatus;
    const NAME: KindName = KindName::Affiliate;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        let highest = TIERS.len() as i64 - 1;
        faults.range("/kyc_tier", self.kyc_tier.into(), 0..=highest);
        if let Some(payout) = &mut self.payout {
            faults.currency("/payout/currency", &mut payout.currency);
            let minimum = payout.minimum_minor;
            faults.range("/payout/minimum_minor", minimum, 0..=i64::MAX);
        }
        if let Some(postback) = &self.postback {
            postback.validate(faults);
        }
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn reservations(&self, network: NetworkId) -> Vec<Reservation> {
        vec![Reservation::of_name(Self::NAME, network, &self.name)]
    }

    fn secret_labels(&self) -> Vec<&str> {
        self.postback.iter().map(|_| POSTBACK_KEY).collect()
    }
}

impl Editable for Affiliate {}
impl HasSecrets for Affiliate {}

impl PayoutSettings {
    /// The smallest payout.
    #[must_use]
    pub fn minimum(&self) -> Money {
        Money {
            minor: self.minimum_minor,
            currency: Currency::from_stored(&self.currency),
        }
    }
}

impl PostbackSettings {
    pub(super) fn validate(&self, faults: &mut Validation<'_>) {
        faults.url("/postback/url", &self.url, UrlUse::Postback);
        let statuses: Vec<_> = ConversionStatus::ALL.iter().map(|it| it.as_str()).collect();
        let kinds: Vec<_> = ConversionKind::ALL.iter().map(|it| it.as_str()).collect();
        for (field, words, known) in [
            ("statuses", &self.statuses, statuses),
            ("events", &self.events, kinds),
        ] {
            let pointer = format!("/postback/{field}");
            for (index, word) in words.iter().enumerate() {
                faults.word(&format!("{pointer}/{index}"), word, &known);
            }
            faults.distinct(&pointer, words);
        }
    }
}

impl Kind for Application {
    type Id = ApplicationId;
    type Status = ApplicationStatus;
    const NAME: KindName = KindName::Application;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.text("/message", &self.message, MAX_MESSAGE_CHARS);
    }

    fn label(&self) -> String {
        format!("{}/{}", self.affiliate, self.offer)
    }

    fn references(&self) -> Vec<Reference> {
        let parent = Relation::Parent;
        vec![
            Reference::new(parent, "/affiliate", KindName::Affiliate, self.affiliate),
            Reference::new(parent, "/offer", KindName::Offer, self.offer),
        ]
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.affiliate == other.affiliate && self.offer == other.offer
    }

    fn reservations(&self, _: NetworkId) -> Vec<Reservation> {
        vec![Reservation {
            pointer: "/offer".to_owned(),
            key: format!("{}:{}", Self::NAME, self.label()),
            shown: format!("an application of the affiliate to offer {}", self.offer),
            domain: String::new(),
        }]
    }
}

impl Editable for Application {}
