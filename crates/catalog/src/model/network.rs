//! Networks (tenants) and their platforms.

use crate::error::Reason;
use crate::kind::{Editable, Kind, KindName, Reservation, Validation};
use crate::status::Activity;
use crate::urls::UrlUse;
use domain::{NetworkId, PlatformId};
use serde::{Deserialize, Serialize};

/// The id of the network that every installation has. It can't be archived, and only its links may be of every domain.
pub const DEFAULT_NETWORK: NetworkId = NetworkId(1);

/// The most domains of a network.
const MAX_DOMAINS: usize = 200;
/// The longest description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 4_000;

/// A tenant. It owns all other objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Unique in the installation.
    pub name: String,
    /// How pages for its affiliates and advertisers look.
    #[serde(default)]
    pub brand: Brand,
    /// The domains of its links. A domain belongs to one network.
    #[serde(default)]
    pub domains: Vec<String>,
    /// The IANA name of the zone in which its days and months begin, such as `Europe/Oslo`.
    pub time_zone: String,
    /// The currency of its reports (ISO 4217).
    pub currency: String,
}

/// How pages of a network look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// The title, if it is not the network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The URL of the logo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
    /// The main colour, as `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

/// A site or application that offers belong to, such as a marketplace or a video site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Unique in the network.
    pub name: String,
    /// Its public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A text for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Kind for Network {
    type Id = NetworkId;
    type Status = Activity;
    const NAME: KindName = KindName::Network;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        self.brand.validate(faults);
        faults.count("/domains", self.domains.len(), 0..=MAX_DOMAINS);
        for (index, domain) in self.domains.iter_mut().enumerate() {
            faults.domain(&format!("/domains/{index}"), domain);
        }
        faults.distinct("/domains", &self.domains);
        faults.time_zone("/time_zone", &mut self.time_zone);
        faults.currency("/currency", &mut self.currency);
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn reservations(&self, _: NetworkId) -> Vec<Reservation> {
        let domains = self.domains.iter().enumerate();
        let domains = domains.map(|(index, domain)| Reservation {
            pointer: format!("/domains/{index}"),
            key: Self::domain_key(domain),
            shown: domain.clone(),
            domain: String::new(),
        });
        let name = Reservation::of_name(Self::NAME, "", &self.name);
        std::iter::once(name).chain(domains).collect()
    }
}

impl Network {
    /// The key that reserves a domain.
    pub(crate) fn domain_key(domain: &str) -> String {
        format!("domain:{domain}")
    }
}

impl Editable for Network {}

impl Brand {
    fn validate(&self, faults: &mut Validation<'_>) {
        if let Some(title) = &self.title {
            faults.name("/brand/title", title);
        }
        if let Some(url) = &self.logo_url {
            faults.url("/brand/logo_url", url, UrlUse::Plain);
        }
        if let Some(color) = &self.color {
            let digits = color.strip_prefix('#').unwrap_or_default();
            let fits = digits.len() == 6 && digits.bytes().all(|it| it.is_ascii_hexdigit());
            let message = "a colour is # and six hexadecimal digits, such as #1a2b3c";
            faults.require(fits, Reason::InvalidText, "/brand/color", message);
        }
    }
}

impl Kind for Platform {
    type Id = PlatformId;
    type Status = Activity;
    const NAME: KindName = KindName::Platform;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        if let Some(url) = &self.url {
            faults.url("/url", url, UrlUse::Plain);
        }
        faults.text("/description", &self.description, MAX_DESCRIPTION_CHARS);
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn reservations(&self, network: NetworkId) -> Vec<Reservation> {
        vec![Reservation::of_name(Self::NAME, network, &self.name)]
    }
}

impl Editable for Platform {}
