//! Resources, their changes, and the checksum over all resources of a version.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of links: [`crate::LinkRecord`].
pub const KIND_LINK: u8 = 1;

/// The name of a resource: its kind, and its id among those of its kind. An edge keeps resources of kinds that it does
/// not know, and uses them after its upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// The kind, such as [`KIND_LINK`].
    pub kind: u8,
    /// The id.
    pub id: u32,
}

impl ResourceKey {
    /// The key of a link.
    #[must_use]
    pub const fn link(id: u32) -> Self {
        Self {
            kind: KIND_LINK,
            id,
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            KIND_LINK => write!(f, "link {}", self.id),
            kind => write!(f, "resource {} of kind {kind}", self.id),
        }
    }
}

/// A change of one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The resource.
    pub key: ResourceKey,
    /// Its new content; `None` if it is removed.
    pub content: Option<Vec<u8>>,
}

/// The hash of one resource with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// The digest of a resource.
    #[must_use]
    pub fn of(key: ResourceKey, content: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[key.kind]);
        hasher.update(&key.id.to_le_bytes());
        hasher.update(content);
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(u128::from_le_bytes(half))
    }
}

/// The checksum of a version: the sum of its resources' digests, so that a change of one resource changes it without
/// reading the others. It detects errors; the connection authenticates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum(u128);

impl Checksum {
    /// With one more resource.
    #[must_use]
    pub const fn with(self, digest: Digest) -> Self {
        Self(self.0.wrapping_add(digest.0))
    }

    /// With one resource fewer.
    #[must_use]
    pub const fn without(self, digest: Digest) -> Self {
        Self(self.0.wrapping_sub(digest.0))
    }

    /// For storage.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// From storage.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
