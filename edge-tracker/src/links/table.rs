//! All links in shards: a change copies the shards that it touches, and shares all others with the table before.

use super::{Link, Slug};
use ahash::{AHashMap, RandomState};
use domain::LinkId;
use hashbrown::HashTable;
use std::sync::Arc;
use thiserror::Error;

/// With a million links a change copies a thousand pointers.
const SHARDS: usize = 1024;

/// All links, by slug. A copy is cheap: it shares every shard.
#[derive(Debug, Clone)]
pub struct Table {
    hasher: RandomState,
    by_slug: Vec<Arc<HashTable<Arc<Link>>>>,
    by_id: Vec<Arc<AHashMap<LinkId, Arc<Link>>>>,
    /// The slugs with capitals, by their lower-case form.
    with_capitals: Vec<Arc<Spellings>>,
    len: usize,
}

type Spellings = AHashMap<Box<str>, Vec<Box<str>>>;

/// A link whose slug another link has on the same domain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("link {id} has the slug {slug:?} of link {other}")]
pub struct SlugCollision {
    id: LinkId,
    slug: Box<str>,
    other: LinkId,
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

impl Default for Table {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            by_slug: vec![Arc::default(); SHARDS],
            by_id: vec![Arc::default(); SHARDS],
            with_capitals: vec![Arc::default(); SHARDS],
            len: 0,
        }
    }
}

impl Table {
    /// Adds a link, whose id no link in the table has.
    ///
    /// # Errors
    /// When another link has its slug on the same domain.
    pub fn insert(&mut self, link: Arc<Link>) -> Result<(), SlugCollision> {
        let hash = self.hasher.hash_one(&*link.slug);
        let shard = &self.by_slug[shard_of(hash)];
        if let Some(other) = shard.find(hash, |other| other.has_place_of(&link)) {
            return Err(SlugCollision {
                id: link.id,
                slug: (*link.slug).into(),
                other: other.id,
            });
        }
        self.add_spelling(&link.slug);
        let by_id = Arc::make_mut(&mut self.by_id[shard_of_id(link.id)]);
        by_id.insert(link.id, link.clone());
        let hasher = &self.hasher;
        let by_slug = Arc::make_mut(&mut self.by_slug[shard_of(hash)]);
        by_slug.insert_unique(hash, link, |link| hasher.hash_one(&*link.slug));
        self.len += 1;
        Ok(())
    }

    /// Removes the link with this id, if there is one.
    pub fn remove(&mut self, id: LinkId) {
        let by_id = &mut self.by_id[shard_of_id(id)];
        if !by_id.contains_key(&id) {
            return;
        }
        let Some(link) = Arc::make_mut(by_id).remove(&id) else {
            return;
        };
        let hash = self.hasher.hash_one(&*link.slug);
        let by_slug = Arc::make_mut(&mut self.by_slug[shard_of(hash)]);
        if let Ok(found) = by_slug.find_entry(hash, |other| other.id == id) {
            found.remove();
        }
        self.len -= 1;
        let has_slug = |other: &Arc<Link>| *other.slug == *link.slug;
        if by_slug.find(hash, has_slug).is_none() {
            self.remove_spelling(&link.slug);
        }
    }

    /// The link with this id.
    #[must_use]
    pub fn get(&self, id: LinkId) -> Option<&Link> {
        let link = self.by_id[shard_of_id(id)].get(&id);
        link.map(|link| &**link)
    }

    /// The link of `slug` on `host`, which is in lower case: one of this domain, or one of every domain.
    #[must_use]
    pub fn find(&self, slug: &str, host: &str) -> Option<&Link> {
        let hash = self.hasher.hash_one(slug);
        let shard = &self.by_slug[shard_of(hash)];
        let mut everywhere = None;
        for link in shard.iter_hash(hash).filter(|link| *link.slug == *slug) {
            match link.domain.as_deref() {
                None => everywhere = Some(&**link),
                Some(domain) if domain == host => return Some(link),
                Some(_) => {}
            }
        }
        everywhere
    }

    /// The only link on `host` whose slug equals `slug` apart from case.
    #[must_use]
    pub fn find_in_any_case(&self, slug: &str, host: &str) -> Option<&Link> {
        let small = slug.to_ascii_lowercase();
        let shard = &self.with_capitals[shard_of(self.hasher.hash_one(&*small))];
        let spellings = shard.get(&*small).map(Vec::as_slice).unwrap_or_default();
        let spellings = spellings.iter().map(|spelling| &**spelling);
        let mut found = spellings
            .chain([&*small])
            .filter_map(|spelling| self.find(spelling, host));
        let link = found.next();
        link.filter(|_| found.next().is_none())
    }

    /// Checks that each id in `before` still belongs to the same link.
    ///
    /// # Errors
    /// When an id belongs to another link, and the file does not declare a rename.
    pub fn keeps_ids_of(&self, before: &Self) -> Result<(), ReusedId> {
        let reused = self.iter().find_map(|link| {
            let known = &*before.get(link.id)?.slug;
            let renamed_from = link.renamed_from.as_deref();
            (*known != *link.slug && renamed_from != Some(known)).then(|| ReusedId {
                id: link.id,
                before: known.into(),
                after: (*link.slug).into(),
            })
        });
        reused.map_or(Ok(()), Err)
    }

    /// All links, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        let links = self.by_slug.iter().flat_map(|shard| shard.iter());
        links.map(|link| &**link)
    }

    /// How many links there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add_spelling(&mut self, slug: &Slug) {
        if let Some(small) = lower_case(slug) {
            let shard = self.spellings(&small);
            let spellings = shard.entry(small).or_default();
            if !spellings.iter().any(|known| **known == **slug) {
                spellings.push((**slug).into());
            }
        }
    }

    fn remove_spelling(&mut self, slug: &Slug) {
        if let Some(small) = lower_case(slug) {
            let shard = self.spellings(&small);
            if let Some(spellings) = shard.get_mut(&small) {
                spellings.retain(|known| **known != **slug);
                if spellings.is_empty() {
                    shard.remove(&small);
                }
            }
        }
    }

    fn spellings(&mut self, small: &str) -> &mut Spellings {
        let shard = shard_of(self.hasher.hash_one(small));
        Arc::make_mut(&mut self.with_capitals[shard])
    }
}

/// The lower-case form of a slug with capitals.
fn lower_case(slug: &Slug) -> Option<Box<str>> {
    let has_capitals = slug.bytes().any(|byte| byte.is_ascii_uppercase());
    has_capitals.then(|| slug.to_ascii_lowercase().into_boxed_str())
}

const fn shard_of_id(id: LinkId) -> usize {
    id.0 as usize % SHARDS
}

/// By bits that the hash table of a shard uses neither for its buckets nor for its tags.
const fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::{Destination, LinkState, Name};
    use http::StatusCode;
    use proptest::prelude::*;

    fn link(id: u32, slug: &str, domain: Option<&str>) -> Arc<Link> {
        let destination = Destination::try_from("https://shop.example/".to_owned());
        Arc::new(Link {
            id: LinkId(id),
            slug: Slug::try_from(slug.to_owned()).expect("slug"),
            domain: domain.map(Into::into),
            offer: Name::shortened("offer"),
            campaign: Name::shortened("campaign"),
            affiliate: Name::shortened("affiliate"),
            destination: destination.expect("destination"),
            code: StatusCode::FOUND,
            state: LinkState::Active,
            pass_query: false,
            renamed_from: None,
        })
    }

    fn found(link: Option<&Link>) -> Option<u32> {
        link.map(|link| link.id.0)
    }

    #[test]
    fn link_of_the_domain_precedes_the_link_of_every_domain() {
        let mut table = Table::default();
        for (id, domain) in [
            (1, None),
            (2, Some("one.example")),
            (3, Some("two.example")),
        ] {
            table
                .insert(link(id, "a", domain))
                .expect("a place of its own");
        }
        for (host, id) in [("one.example", 2), ("two.example", 3), ("other.example", 1)] {
            assert_eq!(found(table.find("a", host)), Some(id), "{host}");
        }
        let collision = table.insert(link(4, "a", Some("two.example")));
        assert_eq!(
            collision.expect_err("taken").to_string(),
            "link 4 has the slug \"a\" of link 3"
        );
        table.remove(LinkId(1));
        assert_eq!(found(table.find("a", "other.example")), None);
        assert_eq!(table.len(), 2);
    }

    const SLUGS: [&str; 6] = ["a", "A", "both", "Both", "BOTH", "x"];

    proptest! {
        /// Each step inserts or removes a link; earlier tables stay as they were.
        #[test]
        fn table_agrees_with_a_list_of_links(steps in prop::collection::vec((0..12_u32, any::<bool>()), 1..60)) {
            let mut table = Table::default();
            let mut links: Vec<Arc<Link>> = Vec::new();
            for (number, is_removed) in steps {
                let (before, count) = (table.clone(), links.len());
                let (slug, domain) = (SLUGS[number as usize % 6], (number >= 6).then_some("one.example"));
                if is_removed {
                    table.remove(LinkId(number));
                    links.retain(|link| link.id.0 != number);
                } else if !links.iter().any(|link| link.id.0 == number) {
                    let link = link(number, slug, domain);
                    table.insert(link.clone()).expect("a place of its own");
                    links.push(link);
                }
                prop_assert_eq!((before.len(), before.iter().count()), (count, count));
                prop_assert_eq!(table.len(), links.len());
                for id in 0..12 {
                    let known = links.iter().any(|link| link.id.0 == id);
                    prop_assert_eq!(table.get(LinkId(id)).is_some(), known);
                }
                for host in ["one.example", ""] {
                    let served = |slug: &str| {
                        let of = |domain: Option<&str>| {
                            let mut all = links.iter();
                            all.find(|link| &*link.slug == slug && link.domain.as_deref() == domain)
                        };
                        of(Some(host)).or_else(|| of(None)).map(|link| link.id.0)
                    };
                    for slug in SLUGS {
                        prop_assert_eq!(found(table.find(slug, host)), served(slug));
                        let spellings = SLUGS.iter().filter(|it| it.eq_ignore_ascii_case(slug));
                        let mut ids = spellings.filter_map(|slug| served(slug));
                        let only = ids.next().filter(|_| ids.next().is_none());
                        prop_assert_eq!(found(table.find_in_any_case(slug, host)), only);
                    }
                }
            }
        }
    }
}
