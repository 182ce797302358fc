//! A block: batches of many lanes that are inserted together, and its encoding.

use super::sealed::{self, Magic};
use bytes::Bytes;
use event_shipping::{BatchHeader, LaneKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const MAGIC: Magic = *b"FZBLOCK2";

/// One batch of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: LaneKey,
    /// Events up to this sequence are in an earlier block.
    pub(crate) skip_through: u64,
    pub(crate) header: BatchHeader,
    /// When the batch was received, in microseconds since 1970 by the aggregator's trusted time. Stored with the block,
    /// so that times corrected by it are the same in every attempt.
    pub(crate) received_at: u64,
    pub(crate) payload: Bytes,
}

/// Batches that are always inserted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Increases from block to block of one aggregator.
    pub(crate) number: u64,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    number: u64,
    entries: Vec<EntryHeader>,
}

#[derive(Serialize, Deserialize)]
struct EntryHeader {
    key: LaneKey,
    skip_through: u64,
    header: BatchHeader,
    received_at: u64,
    length: u32,
}

impl Block {
    /// The name of the block: its number and the hash of its content.
    pub(crate) fn token(&self, body: &[u8]) -> String {
        token_of(self.number, sealed::hash(MAGIC, body))
    }

    /// The length of the batches' payloads.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.payload.len()).sum()
    }

    /// The last sequence of each lane in this block.
    pub(crate) fn reaches(&self) -> BTreeMap<LaneKey, u64> {
        let mut reaches = BTreeMap::new();
        for entry in &self.entries {
            let through: &mut u64 = reaches.entry(entry.key).or_default();
            *through = entry.header.last.max(*through);
        }
        reaches
    }

    /// Encodes the block: length of the manifest, manifest, payloads.
    pub(crate) fn to_body(&self) -> Result<Vec<u8>, postcard::Error> {
        let headers = self.entries.iter().map(|entry| EntryHeader {
            key: entry.key,
            skip_through: entry.skip_through,
            header: entry.header,
            received_at: entry.received_at,
            length: u32::try_from(entry.payload.len()).expect("a payload is at most 8 MiB"),
        });
        let manifest = Manifest {
            number: self.number,
            entries: headers.collect(),
        };
        let manifest = postcard::to_stdvec(&manifest)?;
        let length =
            u32::try_from(manifest.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
        let mut body = Vec::with_capacity(4 + manifest.len() + self.payload_bytes());
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(&manifest);
        for entry in &self.entries {
            body.extend_from_slice(&entry.payload);
        }
        Ok(body)
    }

    /// Decodes the output of [`Block::to_body`]; `None` if it is invalid.
    pub(crate) fn from_body(body: Vec<u8>) -> Option<Self> {
        let mut rest = Bytes::from(body);
        let length = rest.split_off_checked(4)?;
        let length = u32::from_le_bytes(length[..].try_into().ok()?);
        let manifest = rest.split_off_checked(usize::try_from(length).ok()?)?;
        let manifest: Manifest = postcard::from_bytes(&manifest).ok()?;
        let mut entries = Vec::with_capacity(manifest.entries.len());
        for EntryHeader {
            key,
            skip_through,
            header,
            received_at,
            length,
        } in manifest.entries
        {
            let payload = rest.split_off_checked(usize::try_from(length).ok()?)?;
            entries.push(Entry {
                key,
                skip_through,
                header,
                received_at,
                payload,
            });
        }
        rest.is_empty().then_some(Self {
            number: manifest.number,
            entries,
        })
    }
}

pub(super) fn token_of(number: u64, hash: blake3::Hash) -> String {
    format!("{number:016x}-{}", &hash.to_hex()[..32])
}

trait SplitChecked: Sized {
    /// Splits off the first `length` bytes, if there are that many.
    fn split_off_checked(&mut self, length: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_off_checked(&mut self, length: usize) -> Option<Self> {
        (length <= self.len()).then(|| self.split_to(length))
    }
}
