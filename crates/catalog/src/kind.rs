//! What all kinds of objects have in common: identity, status, revision, parents and reserved names.

use crate::error::Faults;
use crate::status::Status;
use domain::{
    AdvertiserId, AffiliateId, ApplicationId, CampaignId, CreativeId, LinkId, Micros, NetworkId,
    OfferId, PlatformId, TermsId,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use unicode_normalization::UnicodeNormalization as _;

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KindName {
    /// A tenant; it owns all others.
    Network,
    /// A site or application that offers belong to.
    Platform,
    /// A company that pays for conversions.
    Advertiser,
    /// What is promoted.
    Offer,
    /// A partner that promotes offers.
    Affiliate,
    /// An affiliate's request to promote an offer.
    Application,
    /// An affiliate's promotion of an offer.
    Campaign,
    /// An image or a text of an offer.
    Creative,
    /// A short URL of a campaign.
    Link,
    /// A version of an offer's or a campaign's prices.
    Terms,
}

impl KindName {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Network,
        Self::Platform,
        Self::Advertiser,
        Self::Offer,
        Self::Affiliate,
        Self::Application,
        Self::Campaign,
        Self::Creative,
        Self::Link,
        Self::Terms,
    ];

    /// The name in JSON, in SQL and in errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Platform => "platform",
            Self::Advertiser => "advertiser",
            Self::Offer => "offer",
            Self::Affiliate => "affiliate",
            Self::Application => "application",
            Self::Campaign => "campaign",
            Self::Creative => "creative",
            Self::Link => "link",
            Self::Terms => "terms",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// The table of its objects.
    pub(crate) const fn table(self) -> &'static str {
        match self {
            Self::Network => "catalog_networks",
            Self::Platform => "catalog_platforms",
            Self::Advertiser => "catalog_advertisers",
            Self::Offer => "catalog_offers",
            Self::Affiliate => "catalog_affiliates",
            Self::Application => "catalog_applications",
            Self::Campaign => "catalog_campaigns",
            Self::Creative => "catalog_creatives",
            Self::Link => "catalog_links",
            Self::Terms => "catalog_terms",
        }
    }
}

impl Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The id of a kind.
pub trait ObjectId:
    Copy + Eq + Ord + Hash + Debug + Display + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The id with this number.
    fn from_number(number: u32) -> Self;

    /// Its number.
    fn number(self) -> u32;
}

macro_rules! object_ids {
    ($($id:ident)*) => {
        $(impl ObjectId for $id {
            fn from_number(number: u32) -> Self {
                Self(number)
            }

            fn number(self) -> u32 {
                self.0
            }
        })*
    };
}

object_ids! {
    NetworkId PlatformId AdvertiserId OfferId AffiliateId ApplicationId CampaignId CreativeId LinkId TermsId
}

/// The settings of a kind: what people write. They are stored as JSON, and replaced as a whole.
///
/// Texts such as currencies and domains are as they came until they are validated, so that each fault has the pointer
/// of its field. Stored settings are valid, and in their canonical form: domains in the form of DNS, currencies and
/// countries in capitals.
pub trait Kind:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Its id.
    type Id: ObjectId;
    /// Its status.
    type Status: Status;
    /// Its name.
    const NAME: KindName;

    /// Finds all faults that the settings have by themselves, and brings texts into their canonical form.
    #[doc(hidden)]
    fn validate(&mut self, faults: &mut Validation<'_>);

    /// The text that lists are searched and ordered by.
    #[doc(hidden)]
    fn label(&self) -> String;

    /// The other objects that it names.
    #[doc(hidden)]
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    /// The names that no other object of the installation may have.
    #[doc(hidden)]
    fn reservations(&self, network: NetworkId) -> Vec<Reservation>;

    /// The domain that its network must have; empty for every domain. Its field is `/domain`.
    #[doc(hidden)]
    fn required_domain(&self) -> Option<&str> {
        None
    }

    /// The moments at which it begins and ends to apply.
    #[doc(hidden)]
    fn dates(&self) -> (Option<Micros>, Option<Micros>) {
        (None, None)
    }

    /// Whether links that depend on it are resolved to the same with both settings.
    #[doc(hidden)]
    fn resolves_equally(&self, other: &Self) -> bool {
        self == other
    }

    /// The labels of its secrets that stand for it in URLs.
    #[doc(hidden)]
    fn path_keys(&self) -> &[String] {
        &[]
    }

    /// The labels of its secrets.
    #[doc(hidden)]
    fn secret_labels(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// A kind whose settings can be written. Terms are not: they have rules of their own
/// ([`Writer::create_terms`](crate::Writer::create_terms)).
pub trait Editable: Kind {}

/// A kind with secrets, which are stored and read separately from its settings.
pub trait HasSecrets: Kind {}

/// The faults of settings.
pub struct Validation<'a>(pub(crate) &'a mut Faults);

/// The number of changes of an object, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u32);

/// An object of the catalog.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(bound(serialize = "K: Kind"))]
pub struct Object<K: Kind> {
    /// Its id; it never changes and is never reused.
    pub id: K::Id,
    /// The network that owns it; a network owns itself.
    pub network: NetworkId,
    /// Its own status, whatever that of its parents.
    pub status: K::Status,
    /// The reason of the status, where it needs one; empty otherwise.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status_reason: String,
    /// Its revision, which a change must name.
    pub revision: Revision,
    /// When it was created.
    #[serde(serialize_with = "crate::json::time")]
    pub created: Micros,
    /// When it was changed last.
    #[serde(serialize_with = "crate::json::time")]
    pub updated: Micros,
    /// When it was deleted.
    #[serde(
        with = "crate::json::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub archived: Option<Micros>,
    /// Its settings, at the same level of its JSON.
    #[serde(flatten)]
    pub settings: K,
}

/// An object to create.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft<K: Kind> {
    /// Its settings.
    pub settings: K,
    /// Its status, one of [`Status::INITIAL`]; the first of them if it is left out.
    pub status: Option<K::Status>,
    /// An id that no object of the installation ever had, for imports: clicks may name it already. By default the next
    /// one.
    pub id: Option<K::Id>,
}

impl<K: Kind> From<K> for Draft<K> {
    fn from(settings: K) -> Self {
        Self {
            settings,
            status: None,
            id: None,
        }
    }
}

impl<K: Kind> Draft<K> {
    /// With this status.
    #[must_use]
    pub fn with_status(self, status: K::Status) -> Self {
        Self {
            status: Some(status),
            ..self
        }
    }

    /// With this id.
    #[must_use]
    pub fn with_id(self, id: K::Id) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }
}

/// How an object is related to another one that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// It belongs to the other one; this never changes.
    Parent,
    /// The other one has the same parents.
    Sibling,
    /// The other one is mentioned.
    Mention,
}

/// Another object that settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The field.
    pub(crate) pointer: String,
    pub(crate) kind: KindName,
    pub(crate) id: u32,
    pub(crate) relation: Relation,
}

impl Reference {
    pub(crate) fn new(
        relation: Relation,
        pointer: &str,
        kind: KindName,
        id: impl ObjectId,
    ) -> Self {
        Self {
            pointer: pointer.to_owned(),
            kind,
            id: id.number(),
            relation,
        }
    }
}

/// A name that no other object of the installation may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The field.
    pub(crate) pointer: String,
    /// The name with its scope, such as `offer:1/spring`.
    pub(crate) key: String,
    /// The name for the error's text.
    pub(crate) shown: String,
    /// The domain of a link's slug; empty otherwise.
    pub(crate) domain: String,
}

impl Reservation {
    /// A name among objects of one kind in one network, in any case and any composition of its characters.
    pub(crate) fn of_name(kind: KindName, scope: impl Display, name: &str) -> Self {
        Self {
            pointer: "/name".to_owned(),
            key: format!(
                "{kind}:{scope}/{}",
                name.nfc().collect::<String>().to_lowercase()
            ),
            shown: name.to_owned(),
            domain: String::new(),
        }
    }
}
