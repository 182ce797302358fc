//! Links: an immutable table behind an atomic pointer, replaced at each reload.
//!
//! Links and their destinations belong here; requests and visitors never do.

mod destination;
mod file;
mod name;

pub use destination::{Destination, RequiredValues, Values};
pub use file::load;
pub use name::{Name, NameError, Slug};

use ahash::AHashMap;
use domain::LinkId;
use http::StatusCode;
use thiserror::Error;

/// All links, by slug.
#[derive(Debug, Default)]
pub struct Table {
    by_slug: AHashMap<Box<str>, Link>,
    /// The slugs with capitals, by their lower-case form; none where several have the same form.
    with_capitals: AHashMap<Box<str>, Option<Box<str>>>,
}

/// A short path and its destination.
#[derive(Debug)]
pub struct Link {
    /// The link's id.
    pub id: LinkId,
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

/// An id that was reused for another link: clicks would be credited to the wrong one.
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
    /// Visitors are redirected to the destination.
    Active,
    /// Visitors are redirected to the fallback, if there is one.
    Paused {
        /// The fallback destination.
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

    /// The link of `slug`, with the slug as the table stores it.
    #[must_use]
    pub fn find(&self, slug: &str) -> Option<(&str, &Link)> {
        self.by_slug
            .get_key_value(slug)
            .map(|(slug, link)| (&**slug, link))
    }

    /// The only link whose slug equals `slug` apart from case, with the slug as the table stores it.
    #[must_use]
    pub fn find_in_any_case(&self, slug: &str) -> Option<(&str, &Link)> {
        let small = slug.to_ascii_lowercase();
        match (self.find(&small), self.with_capitals.get(&*small)) {
            (found, None) => found,
            (None, Some(slug)) => self.find(slug.as_deref()?),
            (Some(_), Some(_)) => None,
        }
    }

    /// Checks that each id in `before` still belongs to the same link.
    ///
    /// # Errors
    /// When an id belongs to another link, and the file does not declare a rename.
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

    /// All links, in no order.
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
