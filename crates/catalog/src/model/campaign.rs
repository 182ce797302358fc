//! Campaigns: an affiliate's promotion of an offer.

use super::affiliate::{POSTBACK_KEY, PostbackSettings};
use super::offer::{Cap, validate_caps};
use crate::kind::{
    Editable, HasSecrets, Kind, KindName, Reference, Relation, Reservation, Validation,
};
use crate::status::Activity;
use domain::{AffiliateId, CampaignId, Micros, NetworkId, OfferId};
use serde::{Deserialize, Serialize};

/// An affiliate's promotion of an offer. Its terms replace those of the offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Campaign {
    /// Unique among the campaigns of its affiliate and offer.
    pub name: String,
    /// The affiliate; fixed.
    pub affiliate: AffiliateId,
    /// The offer; fixed.
    pub offer: OfferId,
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
    /// Limits besides those of the offer; the tighter one counts. Stored; the edges do not enforce them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<Cap>,
    /// How the affiliate is notified of its conversions; by default as the affiliate's settings have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postback: Option<PostbackSettings>,
}

impl Kind for Campaign {
    type Id = CampaignId;
    type Status = Activity;
    const NAME: KindName = KindName::Campaign;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        faults.period("/ends", self.starts, self.ends);
        validate_caps(faults, &mut self.caps);
        if let Some(postback) = &self.postback {
            postback.validate(faults);
        }
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn references(&self) -> Vec<Reference> {
        let parent = Relation::Parent;
        vec![
            Reference::new(parent, "/affiliate", KindName::Affiliate, self.affiliate),
            Reference::new(parent, "/offer", KindName::Offer, self.offer),
        ]
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.name == other.name && self.starts == other.starts && self.ends == other.ends
    }

    fn reservations(&self, _: NetworkId) -> Vec<Reservation> {
        let scope = format!("{}/{}", self.affiliate, self.offer);
        vec![Reservation::of_name(Self::NAME, scope, &self.name)]
    }

    fn dates(&self) -> (Option<Micros>, Option<Micros>) {
        (self.starts, self.ends)
    }

    fn secret_labels(&self) -> Vec<&str> {
        self.postback.iter().map(|_| POSTBACK_KEY).collect()
    }
}

impl Editable for Campaign {}
impl HasSecrets for Campaign {}
