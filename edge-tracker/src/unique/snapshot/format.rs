//! The format of the files: little-endian, each ends with a CRC32C of all bytes before it.
//!
//! | generation | manifest |
//! |---|---|
//! | magic `FFUNIQG\n` | magic `FFUNIQM\n` |
//! | version u16, settings fingerprint u64 | the same |
//! | generation index u64 | count u32 of generations, index u64 of each |
//! | per shard: entries u64, length u32 (0: none), filter | count u32 of lanes, lane u8 and sequence u64 of each |
//! | CRC32C u32 | CRC32C u32 |

use crate::unique::shard::Generation;
use crate::unique::sizing::{Plan, SEED};
use bloomfilter::Bloom;
use std::io::{self, Write};
use thiserror::Error;

const VERSION: u16 = 1;
const GENERATION_MAGIC: &[u8; 8] = b"FFUNIQG\n";
const MANIFEST_MAGIC: &[u8; 8] = b"FFUNIQM\n";
const CRC_BYTES: usize = 4;

/// More than the size of a manifest of 65 generations and 256 lanes.
pub(super) const MAX_MANIFEST_BYTES: u64 = 4096;

/// Why a file can't be used.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("can't be read: {0}")]
    Io(io::Error),
    #[error("not a file of unique visits")]
    Foreign,
    #[error("unknown format version {0}")]
    Version(u16),
    #[error("written under other settings")]
    OtherSettings,
    #[error("the checksum does not match")]
    Damaged,
    #[error("the lengths of its parts contradict each other")]
    Malformed,
}

/// The generations on disk, and the events that they cover.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) generations: Vec<u64>,
    pub(super) covers: Vec<(u8, u64)>,
}

/// Writes a generation and computes its checksum.
pub(super) struct Writer<W> {
    out: W,
    crc: u32,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, crc: 0 }
    }

    pub(super) fn header(&mut self, fingerprint: u64, index: u64) -> io::Result<()> {
        self.put(GENERATION_MAGIC)?;
        self.put(&VERSION.to_le_bytes())?;
        self.put(&fingerprint.to_le_bytes())?;
        self.put(&index.to_le_bytes())
    }

    pub(super) fn part(&mut self, entries: u64, filter: &[u8]) -> io::Result<()> {
        let len = u32::try_from(filter.len()).map_err(io::Error::other)?;
        self.put(&entries.to_le_bytes())?;
        self.put(&len.to_le_bytes())?;
        self.put(filter)
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.crc.to_le_bytes())?;
        self.out.flush()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }
}

/// Parses a generation into its index and its parts by shard.
pub(super) fn generation(
    bytes: &[u8],
    plan: &Plan,
) -> Result<(u64, Vec<(usize, Generation)>), FileError> {
    let mut rest = open(bytes, GENERATION_MAGIC, plan.fingerprint())?;
    let index = rest.u64()?;
    let mut parts = Vec::new();
    for shard in 0..plan.shards {
        let (entries, len) = (rest.u64()?, rest.u32()?);
        // Each entry has set at least one bit.
        if entries > plan.bytes as u64 * 8 {
            return Err(FileError::Malformed);
        }
        if len > 0 {
            let filter = rest.take(len as usize)?.to_vec();
            parts.push((
                shard,
                Generation {
                    index,
                    entries,
                    bloom: bloom(filter, plan)?,
                },
            ));
        }
    }
    if rest.0.is_empty() {
        Ok((index, parts))
    } else {
        Err(FileError::Malformed)
    }
}

fn bloom(filter: Vec<u8>, plan: &Plan) -> Result<Bloom<u64>, FileError> {
    let bloom = Bloom::from_bytes(filter).map_err(|_| FileError::Malformed)?;
    let as_planned = bloom.len() == plan.bytes as u64 * 8
        && bloom.number_of_hash_functions() == plan.hashes
        && bloom.seed() == SEED;
    if as_planned {
        Ok(bloom)
    } else {
        Err(FileError::OtherSettings)
    }
}

/// The bytes of a manifest.
pub(super) fn manifest_bytes(fingerprint: u64, manifest: &Manifest) -> Vec<u8> {
    let mut bytes = MANIFEST_MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&fingerprint.to_le_bytes());
    bytes.extend_from_slice(&count(manifest.generations.len()));
    for index in &manifest.generations {
        bytes.extend_from_slice(&index.to_le_bytes());
    }
    bytes.extend_from_slice(&count(manifest.covers.len()));
    for (lane, seq) in &manifest.covers {
        bytes.push(*lane);
        bytes.extend_from_slice(&seq.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn count(len: usize) -> [u8; 4] {
    u32::try_from(len)
        .expect("a node has at most 256 lanes and 65 generations")
        .to_le_bytes()
}

/// Parses a manifest.
pub(super) fn manifest(bytes: &[u8], fingerprint: u64) -> Result<Manifest, FileError> {
    let mut rest = open(bytes, MANIFEST_MAGIC, fingerprint)?;
    let generations = (0..rest.u32()?)
        .map(|_| rest.u64())
        .collect::<Result<_, _>>()?;
    let covers = (0..rest.u32()?)
        .map(|_| Ok((rest.array::<1>()?[0], rest.u64()?)))
        .collect::<Result<_, FileError>>()?;
    if rest.0.is_empty() {
        Ok(Manifest {
            generations,
            covers,
        })
    } else {
        Err(FileError::Malformed)
    }
}

/// Validates magic, version, fingerprint and checksum, and returns the bytes between.
fn open<'a>(bytes: &'a [u8], magic: &[u8; 8], fingerprint: u64) -> Result<Cursor<'a>, FileError> {
    let Some(body) = bytes.strip_prefix(magic) else {
        return Err(FileError::Foreign);
    };
    let end = bytes
        .len()
        .checked_sub(CRC_BYTES)
        .ok_or(FileError::Damaged)?;
    let mut trailer = Cursor(&bytes[end..]);
    if end < magic.len() || crc32c::crc32c(&bytes[..end]) != trailer.u32()? {
        return Err(FileError::Damaged);
    }
    let mut rest = Cursor(&body[..body.len() - CRC_BYTES]);
    match u16::from_le_bytes(rest.array()?) {
        VERSION => {}
        other => return Err(FileError::Version(other)),
    }
    if rest.u64()? == fingerprint {
        Ok(rest)
    } else {
        Err(FileError::OtherSettings)
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], FileError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(FileError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        self.take(N)?.try_into().map_err(|_| FileError::Malformed)
    }

    fn u32(&mut self) -> Result<u32, FileError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, FileError> {
        self.array().map(u64::from_le_bytes)
    }
}
