//! Links: short URLs of campaigns. It holds what `links.toml` holds.

use crate::error::Reason;
use crate::kind::{Editable, Kind, KindName, Reference, Relation, Reservation, Validation};
use crate::status::Activity;
use crate::urls::UrlUse;
use domain::{CampaignId, CreativeId, LinkId, Micros, NetworkId};
use serde::{Deserialize, Serialize};

/// The statuses of redirects.
const CODES: [u16; 5] = [301, 302, 303, 307, 308];
const DEFAULT_CODE: u16 = 302;

/// A short URL of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One of the network's domains. With the slug it is unique in the installation. Only the default network may leave
    /// it empty, for every domain that leads to the edges: these are the domains of all networks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// The path after `/c/`: 1 to 64 of `A-Z a-z 0-9 - _ .`.
    pub slug: String,
    /// The campaign; fixed.
    pub campaign: CampaignId,
    /// The redirect target, with macros such as `{click_id}`; by default one of the offer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The name of the offer's destination; by default the first one. A name that the offer does not have any more
    /// stands for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_destination: Option<String>,
    /// Where visitors are sent while the link is not active; by default to the offer's fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// The redirect's status: 301, 302, 303, 307 or 308.
    #[serde(default = "default_code")]
    pub code: u16,
    /// Whether foreign query parameters are passed on.
    #[serde(default)]
    pub pass_query: bool,
    /// Whether `click_id` is appended to destinations without that macro.
    #[serde(default = "yes")]
    pub append_click_id: bool,
    /// The creative that it is used with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creative: Option<CreativeId>,
    /// It is not active before.
    #[serde(
        default,
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub starts: Option<Micros>,
    /// It is not active from this moment on.
    #[serde(
        default,
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub ends: Option<Micros>,
}

const fn default_code() -> u16 {
    DEFAULT_CODE
}

const fn yes() -> bool {
    true
}

impl Link {
    /// A link of every domain, with the defaults of all other fields.
    #[must_use]
    pub const fn new(campaign: CampaignId, slug: String) -> Self {
        Self {
            domain: String::new(),
            slug,
            campaign,
            destination: None,
            offer_destination: None,
            fallback: None,
            code: DEFAULT_CODE,
            pass_query: false,
            append_click_id: true,
            creative: None,
            starts: None,
            ends: None,
        }
    }

    /// The key that reserves a slug.
    pub(crate) fn slug_key(domain: &str, slug: &str) -> String {
        format!("link:{domain}/{slug}")
    }
}

impl Kind for Link {
    type Id = LinkId;
    type Status = Activity;
    const NAME: KindName = KindName::Link;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        if !self.domain.is_empty() {
            faults.domain("/domain", &mut self.domain);
        }
        faults.slug("/slug", &self.slug);
        for (pointer, url) in [
            ("/destination", &self.destination),
            ("/fallback", &self.fallback),
        ] {
            if let Some(url) = url {
                faults.url(pointer, url, UrlUse::Destination);
            }
        }
        if let Some(name) = &self.offer_destination {
            faults.name("/offer_destination", name);
            let message = "a link has a destination of its own or one of the offer's, not both";
            let has_one = self.destination.is_none();
            faults.require(
                has_one,
                Reason::Contradiction,
                "/offer_destination",
                message,
            );
        }
        let is_code = CODES.contains(&self.code);
        let message = "a redirect's code is 301, 302, 303, 307 or 308";
        faults.require(is_code, Reason::OutOfRange, "/code", message);
        faults.period("/ends", self.starts, self.ends);
    }

    fn label(&self) -> String {
        format!("{}/{}", self.domain, self.slug)
    }

    fn references(&self) -> Vec<Reference> {
        let (parent, kind) = (Relation::Parent, KindName::Campaign);
        let mut references = vec![Reference::new(parent, "/campaign", kind, self.campaign)];
        if let Some(creative) = self.creative {
            let (sibling, kind) = (Relation::Sibling, KindName::Creative);
            references.push(Reference::new(sibling, "/creative", kind, creative));
        }
        references
    }

    fn reservations(&self, _: NetworkId) -> Vec<Reservation> {
        vec![Reservation {
            pointer: "/slug".to_owned(),
            key: Self::slug_key(&self.domain, &self.slug),
            shown: self.slug.clone(),
            domain: self.domain.clone(),
        }]
    }

    fn required_domain(&self) -> Option<&str> {
        Some(&self.domain)
    }

    fn dates(&self) -> (Option<Micros>, Option<Micros>) {
        (self.starts, self.ends)
    }
}

impl Editable for Link {}
