//! The messages between publisher and subscriber. Within one protocol version fields and variants are only appended.

use crate::{Change, Checksum};
use bytes::Bytes;
use event_shipping::{Message, WireError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The protocol version in [`Subscribe::protocol`].
pub const CONFIG_PROTOCOL_VERSION: u16 = 1;

/// The maximum length of every message.
pub const MAX_CONFIG_MESSAGE_BYTES: usize = 2 << 20;

/// A part's changes are closed at this length, before compression.
pub(crate) const PART_BYTES: usize = 1 << 20;
/// The maximum length of a part's changes before compression: a part that is almost full, and one resource.
pub(crate) const MAX_PART_BYTES: usize = PART_BYTES + MAX_RESOURCE_BYTES;
/// The maximum length of one resource.
pub(crate) const MAX_RESOURCE_BYTES: usize = 256 << 10;

/// The longest detail of a refusal, in bytes.
const MAX_DETAIL_BYTES: usize = 500;

/// The fastest level: links compress to a fifth with it.
const ZSTD_LEVEL: i32 = 1;

/// A version that an edge holds; version 0 with the checksum 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldVersion {
    /// The version.
    pub version: u64,
    /// The checksum over all its resources.
    pub checksum: Checksum,
}

/// A message from an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubscriberMessage {
    /// The first message on the stream.
    Subscribe(Subscribe),
    /// The result of an update.
    Response(Response),
}

/// The beginning of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// [`CONFIG_PROTOCOL_VERSION`].
    pub protocol: u16,
    /// The edge node.
    pub node: u16,
    /// What the edge holds.
    pub held: HeldVersion,
}

/// The result of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The update's nonce.
    pub nonce: u64,
    /// Whether it was applied.
    pub outcome: Outcome,
}

/// Whether an update was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is stored on the edge's disk and in use.
    Applied,
    /// Nothing changed: the edge holds the version that it held before.
    Refused {
        /// The number of an [`UpdateRefusal`]; a newer edge may send one that is unknown to this build.
        code: u16,
        /// A text for the log: which resource is wrong, and how.
        detail: String,
    },
}

impl Outcome {
    /// A refusal; a long detail is truncated.
    #[must_use]
    pub fn refused(reason: UpdateRefusal, detail: impl ToString) -> Self {
        let mut detail = detail.to_string();
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
        Self::Refused {
            code: reason.number(),
            detail,
        }
    }
}

/// A message to an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublisherMessage {
    /// A part of an update.
    Part(UpdatePart),
}

/// A part of an update. The parts of one update follow each other, beginning with number 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePart {
    /// The update's number on this stream, which the edge's response repeats.
    pub nonce: u64,
    /// The version after the update, with its checksum.
    pub after: HeldVersion,
    /// What the changes are relative to.
    pub base: Base,
    /// The part's number.
    pub number: u32,
    /// Whether the update is complete with this part.
    pub is_last: bool,
    /// The changes, encoded and compressed.
    pub changes: Bytes,
}

/// What an update's changes are relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// Nothing: a snapshot. Resources that it lacks are removed.
    Empty,
    /// The version with this number: a delta.
    Version(u64),
}

numbered_reasons::numbered_reasons! {
    /// Why an edge refused an update of its configuration; it keeps the version before.
    pub enum UpdateRefusal;

    /// The update is no valid sequence of parts. The aggregator is newer than the edge, or faulty.
    Malformed = 1, "malformed";
    /// The delta begins at a version that the edge does not hold. The aggregator sends a snapshot next.
    OtherBase = 2, "other_base";
    /// The resources after the update do not have its checksum. The aggregator sends a snapshot next.
    Checksum = 3, "checksum";
    /// A resource can't be used by this edge; the detail names it. Correct it, or upgrade the edge.
    Resource = 4, "resource";
    /// The edge failed to store the update: check its disk.
    Storage = 5, "storage";
}

impl UpdateRefusal {
    /// The reason with this number; `None` if this build does not know it.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|reason| reason.number() == number)
    }
}

/// Changes that can't be read.
#[derive(Debug, Error)]
pub(crate) enum ChangesError {
    #[error("decompression failed: {0}")]
    Decompress(std::io::Error),
    #[error("not a list of changes: {0}")]
    Malformed(#[from] postcard::Error),
}

impl UpdatePart {
    pub(crate) fn new(
        (nonce, number, is_last): (u64, u32, bool),
        (base, after): (Base, HeldVersion),
        changes: &[Change],
    ) -> Result<Self, crate::PartError> {
        let raw = postcard::to_stdvec(changes)?;
        let changes = zstd::bulk::compress(&raw, ZSTD_LEVEL)?;
        Ok(Self {
            nonce,
            after,
            base,
            number,
            is_last,
            changes: changes.into(),
        })
    }

    pub(crate) fn changes(&self) -> Result<Vec<Change>, ChangesError> {
        let raw = zstd::bulk::decompress(&self.changes, MAX_PART_BYTES);
        let raw = raw.map_err(ChangesError::Decompress)?;
        Ok(postcard::from_bytes(&raw)?)
    }
}

impl Message for SubscriberMessage {
    fn limit(&self) -> usize {
        1024
    }
}

impl Message for PublisherMessage {
    fn limit(&self) -> usize {
        MAX_CONFIG_MESSAGE_BYTES
    }

    fn expected_bytes(&self) -> usize {
        let Self::Part(part) = self;
        part.changes.len() + 256
    }

    fn validate(&self) -> Result<(), WireError> {
        Ok(())
    }
}
