//! One version of the configuration, as the publisher holds it.

use crate::{Change, Digest, HeldVersion, ResourceKey};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A change copies one shard: with a million resources, a thousand entries.
const SHARDS: usize = 1024;

type Shard = BTreeMap<ResourceKey, Arc<[u8]>>;

/// All resources of one version. A copy is cheap: versions share the resources that are equal in both.
#[derive(Debug, Clone)]
pub struct ConfigVersion {
    held: HeldVersion,
    count: usize,
    shards: Vec<Arc<Shard>>,
}

impl Default for ConfigVersion {
    fn default() -> Self {
        Self {
            held: HeldVersion::default(),
            count: 0,
            shards: vec![Arc::default(); SHARDS],
        }
    }
}

impl ConfigVersion {
    /// The version with these resources; of several with the same key the last one counts.
    #[must_use]
    pub fn new(version: u64, resources: impl IntoIterator<Item = (ResourceKey, Vec<u8>)>) -> Self {
        let mut state = Self::default();
        for (key, content) in resources {
            state.set(key, Some(content));
        }
        state.held.version = version;
        state
    }

    /// Its number and checksum.
    #[must_use]
    pub const fn held(&self) -> HeldVersion {
        self.held
    }

    /// The content of a resource.
    #[must_use]
    pub fn get(&self, key: ResourceKey) -> Option<&[u8]> {
        let content = self.shards[shard_of(key)].get(&key);
        content.map(|content| &**content)
    }

    /// All resources, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceKey, &[u8])> {
        let resources = self.shards.iter().flat_map(|shard| shard.iter());
        resources.map(|(key, content)| (*key, &**content))
    }

    /// The resources after `key` in the order of [`ConfigVersion::iter`]; all of them after `None`.
    pub(crate) fn after(
        &self,
        key: Option<ResourceKey>,
    ) -> impl Iterator<Item = (ResourceKey, &[u8])> {
        let (first, bound) = match key {
            Some(key) => (shard_of(key), Bound::Excluded(key)),
            None => (0, Bound::Unbounded),
        };
        let begun = self.shards[first].range((bound, Bound::Unbounded));
        let whole = self.shards[first + 1..]
            .iter()
            .flat_map(|shard| shard.iter());
        begun.chain(whole).map(|(key, content)| (*key, &**content))
    }

    /// The number of resources.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether it has no resource.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a resource, or replaces it, within the same version.
    pub fn insert(&mut self, key: ResourceKey, content: Vec<u8>) {
        self.set(key, Some(content));
    }

    /// The changes that lead from this version to `next`.
    #[must_use]
    pub fn changes_to(&self, next: &Self) -> Vec<Change> {
        let removed = self.iter().filter(|(key, _)| next.get(*key).is_none());
        let removed = removed.map(|(key, _)| Change { key, content: None });
        let changed = next
            .iter()
            .filter(|(key, content)| self.get(*key) != Some(content));
        let changed = changed.map(|(key, content)| Change {
            key,
            content: Some(content.to_vec()),
        });
        removed.chain(changed).collect()
    }

    /// Becomes the next version. Returns the keys whose content changed.
    pub(crate) fn advance(&mut self, version: u64, changes: Vec<Change>) -> Vec<ResourceKey> {
        self.held.version = version;
        let keys = changes.into_iter().filter_map(|change| {
            let key = change.key;
            self.set(key, change.content).then_some(key)
        });
        keys.collect()
    }

    /// Returns whether the content differs from the one before.
    fn set(&mut self, key: ResourceKey, content: Option<Vec<u8>>) -> bool {
        let before = self.get(key);
        if before == content.as_deref() {
            return false;
        }
        let mut checksum = self.held.checksum;
        if let Some(before) = before {
            checksum = checksum.without(Digest::of(key, before));
            self.count -= 1;
        }
        let shard = Arc::make_mut(&mut self.shards[shard_of(key)]);
        match content {
            Some(content) => {
                checksum = checksum.with(Digest::of(key, &content));
                self.count += 1;
                shard.insert(key, content.into());
            }
            None => {
                shard.remove(&key);
            }
        }
        self.held.checksum = checksum;
        true
    }
}

const fn shard_of(key: ResourceKey) -> usize {
    key.id as usize % SHARDS
}
