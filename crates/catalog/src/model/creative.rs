//! Creatives: images and texts with which an offer is promoted.

use crate::kind::{Editable, Kind, KindName, Reference, Relation, Reservation, Validation};
use crate::status::Activity;
use crate::urls::UrlUse;
use domain::{CreativeId, NetworkId, OfferId};
use serde::{Deserialize, Serialize};

const MAX_TEXT_CHARS: usize = 10_000;
/// The largest width and height, in pixels.
const MAX_PIXELS: i64 = 16_384;

/// An image or a text of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Creative {
    /// Unique among the creatives of its offer.
    pub name: String,
    /// The offer; fixed.
    pub offer: OfferId,
    /// What is shown.
    pub content: CreativeContent,
    /// The page that it belongs to, for links that are made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landing_page: Option<String>,
    /// The group of creatives whose results are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_group: Option<String>,
}

/// What a creative shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CreativeContent {
    /// An image at a URL.
    Image {
        /// Where the image is.
        url: String,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A text.
    Text {
        /// The text, without markup.
        text: String,
    },
}

impl Kind for Creative {
    type Id = CreativeId;
    type Status = Activity;
    const NAME: KindName = KindName::Creative;

    fn validate(&mut self, faults: &mut Validation<'_>) {
        faults.name("/name", &self.name);
        match &self.content {
            CreativeContent::Image { url, width, height } => {
                faults.url("/content/image/url", url, UrlUse::Plain);
                faults.range("/content/image/width", (*width).into(), 1..=MAX_PIXELS);
                faults.range("/content/image/height", (*height).into(), 1..=MAX_PIXELS);
            }
            CreativeContent::Text { text } => {
                faults.text("/content/text/text", text, MAX_TEXT_CHARS);
            }
        }
        if let Some(url) = &self.landing_page {
            faults.url("/landing_page", url, UrlUse::Destination);
        }
        if let Some(group) = &self.test_group {
            faults.name("/test_group", group);
        }
    }

    fn label(&self) -> String {
        self.name.clone()
    }

    fn references(&self) -> Vec<Reference> {
        let (parent, kind) = (Relation::Parent, KindName::Offer);
        vec![Reference::new(parent, "/offer", kind, self.offer)]
    }

    fn resolves_equally(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn reservations(&self, _: NetworkId) -> Vec<Reservation> {
        vec![Reservation::of_name(Self::NAME, self.offer, &self.name)]
    }
}

impl Editable for Creative {}
