//! Links: an immutable table behind an atomic pointer, replaced at each change.
//!
//! Links and their destinations belong here; requests and visitors never do.

mod active;
mod destination;
mod file;
mod name;
mod record;
mod table;

pub use active::ActiveLinks;
pub use destination::{Destination, RequiredValues, Values};
pub use file::{load, redirect_status};
pub use name::{Name, NameError, Slug};
pub use record::UnusableLink;
pub use table::{ReusedId, SlugCollision, Table};

use domain::LinkId;
use http::StatusCode;

/// A short path and its destination.
#[derive(Debug)]
pub struct Link {
    /// The link's id.
    pub id: LinkId,
    /// The path.
    pub slug: Slug,
    /// The only host on which it is served, in lower case.
    pub domain: Option<Box<str>>,
    /// The promoted offer.
    pub offer: Name,
    /// The affiliate's campaign.
    pub campaign: Name,
    /// The promoting affiliate.
    pub affiliate: Name,
    /// The redirect target.
    pub destination: Destination,
    /// The redirect's status: 301, 302, 303, 307 or 308.
    pub code: StatusCode,
    /// Whether it is in use.
    pub state: LinkState,
    /// Whether foreign query parameters are passed on.
    pub pass_query: bool,
    /// The slug of its id in an earlier file, if it was renamed on purpose.
    pub renamed_from: Option<Slug>,
}

/// Whether a link is in use.
#[derive(Debug)]
pub enum LinkState {
    /// Visitors are redirected to the destination.
    Active,
    /// Visitors are redirected to the fallback, if there is one.
    Paused {
        /// The fallback destination.
        fallback: Option<Destination>,
    },
}

impl Link {
    /// Whether both are found by the same slug on the same host.
    fn has_place_of(&self, other: &Self) -> bool {
        *self.slug == *other.slug && self.domain == other.domain
    }
}
