//! Links: an immutable table behind an atomic pointer, swapped whole.
//!
//! What a link is and where its destination leads belongs here; requests and visitors never do.

mod destination;
mod file;
mod name;

pub use destination::{Destination, Needs, Values};
pub use file::{Loaded, load};
pub use name::{Name, NameError, Slug};

use ahash::AHashMap;
use http::StatusCode;
use thiserror::Error;
use tracking_events::LinkId;

/// All links, by slug.
#[derive(Debug, Default)]
pub struct Table {
    by_slug: AHashMap<Box<str>, Link>,
    /// The slugs with capitals, by their form without; none where that is the form of several.
    with_capitals: AHashMap<Box<str>, Option<Box<str>>>,
}

/// A short path and where it leads.
#[derive(Debug)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// What is promoted.
    pub offer: Name,
    /// The affiliate's use of it.
    pub campaign: Name,
    /// Who promotes.
    pub affiliate: Name,
    /// Where the visitor goes.
    pub destination: Destination,
    /// How the visitor is sent: 301, 302, 303, 307 or 308.
    pub code: StatusCode,
    /// Whether it is in use.
    pub state: LinkState,
    /// Whether query parameters that mean nothing to us are passed on.
    pub pass_query: bool,
    /// The slug that its id had in an earlier file, where it is meant that it changed.
    pub renamed_from: Option<Slug>,
}

/// A link's number stands for another link than before: clicks would be credited to the wrong one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "id {id} was the link {before:?} and is {after:?} now: give the new link a number of its own, or, where \
     the link itself was renamed, add renamed_from = {before:?}"
)]
pub struct ReusedId {
    id: LinkId,
    before: Box<str>,
    after: Box<str>,
}

/// Whether a link is in use.
#[derive(Debug)]
pub enum LinkState {
    /// Visitors go to the destination.
    Active,
    /// Visitors go to the fallback, if there is one.
    Paused {
        /// Where to.
        fallback: Option<Destination>,
    },
}

impl Table {
    fn new(by_slug: AHashMap<Box<str>, Link>) -> Self {
        let mut with_capitals = AHashMap::new();
        for slug in by_slug.keys() {
            if slug.bytes().any(|byte| byte.is_ascii_uppercase()) {
                with_capitals
                    .entry(slug.to_ascii_lowercase().into_boxed_str())
                    .and_modify(|several| *several = None)
                    .or_insert_with(|| Some(slug.clone()));
            }
        }
        Self {
            by_slug,
            with_capitals,
        }
    }

    /// The link named `slug`, with the name as the table keeps it.
    #[must_use]
    pub fn find(&self, slug: &str) -> Option<(&str, &Link)> {
        self.by_slug
            .get_key_value(slug)
            .map(|(slug, link)| (&**slug, link))
    }

    /// The only link whose slug is `slug` but for capitals, with the name as the table keeps it.
    #[must_use]
    pub fn find_in_any_case(&self, slug: &str) -> Option<(&str, &Link)> {
        let small = slug.to_ascii_lowercase();
        match (self.find(&small), self.with_capitals.get(&*small)) {
            (found, None) => found,
            (None, Some(slug)) => self.find(slug.as_deref()?),
            (Some(_), Some(_)) => None,
        }
    }

    /// Whether each link's number that `before` had, too, stands for the same link.
    ///
    /// # Errors
    /// When one stands for another, and the file does not say that it was renamed.
    pub fn keeps_ids_of(&self, before: &Self) -> Result<(), ReusedId> {
        let slugs = before.by_slug.iter();
        let slugs: AHashMap<LinkId, &str> = slugs.map(|(slug, link)| (link.id, &**slug)).collect();
        let mut links = self.by_slug.iter();
        let reused = links.find_map(|(slug, link)| {
            let known = *slugs.get(&link.id)?;
            let renamed_from = link.renamed_from.as_deref();
            (known != &**slug && renamed_from != Some(known)).then(|| ReusedId {
                id: link.id,
                before: known.into(),
                after: slug.clone(),
            })
        });
        reused.map_or(Ok(()), Err)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.by_slug.values()
    }

    /// How many links there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_slug.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_slug.is_empty()
    }
}
