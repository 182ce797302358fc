//! Under which journal ids the sequences of a spool are shipped: each process that writes takes a new one.
//! So an id stands for what one process wrote, however the spool's directory is copied or restored.

use crate::frame::SEQ_LIMIT;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use storage::{Disk, Storage};

const FILE: &str = "journal.ids";
const MAGIC: &[u8; 8] = b"FZJRNID1";

/// No lane has more ranges at once, so that those of 64 lanes can be named in one message.
const MAX_RANGES: usize = 16;
/// With more a process goes on under the id of the one before.
const MAX_RANGES_AT_START: usize = 8;

/// Sequences that are shipped under one id: from `first` up to the next range's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first sequence.
    pub first: u64,
    /// The id.
    pub journal: u64,
}

/// A lane's sequences from `first` on are to be shipped under another id, up to the next range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The lane.
    pub lane: u8,
    /// The first sequence.
    pub first: u64,
}

/// How a process finds a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneStart {
    /// The lane.
    pub lane: u8,
    /// The first sequence that this process gives out.
    pub first_own: u64,
    /// The last sequence of an earlier process that is still there; 0 for none.
    pub last_found: u64,
    /// Up to where an aggregator has acknowledged the lane.
    pub acknowledged: u64,
}

/// The journal ids of a spool, kept in a file of its directory.
#[derive(Debug)]
pub struct JournalIds<S: Storage = Disk> {
    storage: S,
    path: PathBuf,
    own: u64,
    /// Of lanes that were split; everything before the first range was acknowledged.
    lanes: BTreeMap<u8, Vec<IdRange>>,
}

impl<S: Storage> JournalIds<S> {
    /// Reads what an earlier process left. A broken file is set aside: the spool's own id is used again.
    pub(crate) fn load(storage: S, dir: &Path, own: u64) -> io::Result<Self> {
        let path = dir.join(FILE);
        let lanes = match storage::read(&storage, &path) {
            Ok(bytes) => {
                let lanes = decode(&bytes, own);
                if lanes.is_none() {
                    let aside = path.with_extension("ids.corrupt");
                    tracing::error!(file = %path.display(), "not the ids of this journal; set aside, its own id is used again");
                    storage.rename(&path, &aside)?;
                }
                lanes.unwrap_or_default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            storage,
            path,
            own,
            lanes,
        })
    }

    /// The ranges of a lane, in order.
    #[must_use]
    pub fn of(&self, lane: u8) -> Vec<IdRange> {
        let own = IdRange {
            first: 0,
            journal: self.own,
        };
        self.lanes.get(&lane).cloned().unwrap_or_else(|| vec![own])
    }

    /// A number that no other process has.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn random(&self) -> io::Result<u64> {
        // 0 stands for none.
        Ok(self.storage.random()?.max(1))
    }

    /// Forgets ranges of a lane that end before or with `through`, from the next split on.
    pub fn forget_through(&mut self, lane: u8, through: u64) {
        if let Some(ranges) = self.lanes.get_mut(&lane) {
            let ended = ranges
                .iter()
                .skip(1)
                .take_while(|next| next.first <= through.saturating_add(1))
                .count();
            ranges.drain(..ended);
        }
    }

    /// Up to where everything of a lane was acknowledged when its first range began: a power cut may take the
    /// checkpoint that said so, and these events must not be shipped under another id.
    #[must_use]
    pub fn acknowledged(&self, lane: u8) -> u64 {
        let oldest = self.lanes.get(&lane).and_then(|ranges| ranges.first());
        oldest.map_or(0, |range| range.first.saturating_sub(1))
    }

    /// Gives what this process writes a new id, lane by lane, and writes that down, durably.
    ///
    /// # Errors
    /// When that can't be written; nothing changes then.
    pub fn begin(&mut self, lanes: &[LaneStart]) -> io::Result<()> {
        let before = self.lanes.clone();
        let mut splits = Vec::new();
        for start in lanes {
            let complete = start.acknowledged >= start.last_found;
            let through = if complete {
                start.first_own - 1
            } else {
                start.acknowledged
            };
            self.forget_through(start.lane, through);
            if let Some(ranges) = self.lanes.get_mut(&start.lane) {
                // Nothing was written under those.
                let oldest = ranges.first().copied();
                ranges.retain(|range| Some(*range) == oldest || range.first <= start.last_found);
            }
            if self.of(start.lane).len() < MAX_RANGES_AT_START {
                splits.push(Split {
                    lane: start.lane,
                    first: start.first_own,
                });
            } else {
                tracing::warn!(
                    lane = start.lane,
                    "events of many earlier processes are not acknowledged; this one goes on under the journal id of the last"
                );
            }
        }
        let begun = self.split(&splits);
        if begun.is_err() {
            self.lanes = before;
        }
        begun
    }

    /// Gives each split a new id and writes that down, durably. A split at the beginning of a range
    /// replaces its id.
    ///
    /// # Errors
    /// When that can't be written or a lane has too many ranges; nothing changes then.
    pub fn split(&mut self, splits: &[Split]) -> io::Result<()> {
        let mut lanes = self.lanes.clone();
        for split in splits {
            let journal = self.random()?;
            let ranges = lanes
                .entry(split.lane)
                .or_insert_with(|| self.of(split.lane));
            let first = split.first;
            match ranges.binary_search_by_key(&first, |range| range.first) {
                Ok(at) => ranges[at].journal = journal,
                Err(at) => ranges.insert(at, IdRange { first, journal }),
            }
            if ranges.len() > MAX_RANGES {
                return Err(io::Error::other(format!(
                    "lane {} has events under {MAX_RANGES} journal ids that no aggregator acknowledged",
                    split.lane
                )));
            }
        }
        let bytes = encode(&lanes, self.own);
        storage::replace(&self.storage, &self.path, &bytes, true)?;
        self.lanes = lanes;
        Ok(())
    }
}

fn encode(lanes: &BTreeMap<u8, Vec<IdRange>>, own: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&own.to_le_bytes());
    for (lane, ranges) in lanes {
        for range in ranges {
            for number in [u64::from(*lane), range.first, range.journal] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], own: u64) -> Option<BTreeMap<u8, Vec<IdRange>>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (numbers, rest) = body.strip_prefix(MAGIC)?.as_chunks::<8>();
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect();
    let (whose, numbers) = numbers.split_first()?;
    let (ranges, odd) = numbers.as_chunks::<3>();
    if *whose != own || !rest.is_empty() || !odd.is_empty() {
        return None;
    }
    let mut lanes = BTreeMap::<u8, Vec<IdRange>>::new();
    for &[lane, first, journal] in ranges {
        let known = lanes.entry(u8::try_from(lane).ok()?).or_default();
        let in_order = known.last().is_none_or(|last| last.first < first);
        if !in_order || first >= SEQ_LIMIT || known.len() == MAX_RANGES {
            return None;
        }
        known.push(IdRange { first, journal });
    }
    Some(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(dir: &Path) -> JournalIds {
        JournalIds::load(Disk, dir, 7).expect("readable")
    }

    fn split(lane: u8, first: u64) -> Split {
        Split { lane, first }
    }

    fn firsts(ids: &JournalIds, lane: u8) -> Vec<u64> {
        ids.of(lane).iter().map(|range| range.first).collect()
    }

    #[test]
    fn splits_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut before = ids(dir.path());
        assert_eq!(
            before.of(3),
            [IdRange {
                first: 0,
                journal: 7
            }]
        );
        before
            .split(&[split(0, 500), split(3, 1)])
            .expect("written");
        before
            .split(&[split(0, 900), split(0, 500)])
            .expect("written");
        let after = ids(dir.path());
        assert_eq!(firsts(&after, 0), [0, 500, 900]);
        for lane in 0..4 {
            assert_eq!(after.of(lane), before.of(lane));
        }
        let of = after.of(0);
        assert!(of[0].journal == 7 && of[1].journal != 7 && of[1].journal != of[2].journal);
    }

    #[test]
    fn ended_ranges_are_forgotten_and_too_many_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ids = ids(dir.path());
        for first in 1..16 {
            ids.split(&[split(0, first * 100)]).expect("there is room");
        }
        assert!(ids.split(&[split(0, 9_000)]).is_err());
        assert_eq!(firsts(&ids, 0).len(), 16);
        ids.forget_through(0, 298);
        assert_eq!(
            firsts(&ids, 0),
            [
                200, 300, 400, 500, 600, 700, 800, 900, 1_000, 1_100, 1_200, 1_300, 1_400, 1_500
            ]
        );
        ids.forget_through(0, 299);
        assert_eq!(
            firsts(&ids, 0),
            [
                300, 400, 500, 600, 700, 800, 900, 1_000, 1_100, 1_200, 1_300, 1_400, 1_500
            ]
        );
        assert!(ids.split(&[split(0, 9_000)]).is_ok());
    }

    #[test]
    fn each_process_takes_a_new_id_and_empty_ranges_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ids = ids(dir.path());
        let start = |first_own, last_found, acknowledged| LaneStart {
            lane: 0,
            first_own,
            last_found,
            acknowledged,
        };
        ids.begin(&[start(1, 0, 0)]).expect("written");
        let first = ids.of(0).last().copied().expect("a range");
        assert_eq!(firsts(&ids, 0), [0, 1]);
        // The second process finds events of the first, the third none of the second.
        ids.begin(&[start(500, 30, 10)]).expect("written");
        assert_eq!(firsts(&ids, 0), [1, 500]);
        assert_eq!(ids.acknowledged(0), 0);
        assert_eq!(ids.of(0)[0].journal, first.journal);
        ids.begin(&[start(900, 30, 10)]).expect("written");
        assert_eq!(firsts(&ids, 0), [1, 900]);
        // Everything before was acknowledged: its ids end.
        ids.begin(&[start(1_300, 950, 950)]).expect("written");
        assert_eq!(firsts(&ids, 0), [900, 1_300]);
        assert_eq!(ids.acknowledged(0), 899);
        assert_ne!(ids.of(0)[0].journal, first.journal);
    }

    #[test]
    fn every_flipped_bit_and_other_spools_are_set_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        ids(dir.path()).split(&[split(0, 500)]).expect("written");
        let path = dir.path().join(FILE);
        let sound = std::fs::read(&path).expect("readable");
        assert_eq!(decode(&sound, 8), None);
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, 7), None, "bit {bit}");
        }
        std::fs::write(&path, &sound[1..]).expect("writable");
        assert_eq!(firsts(&ids(dir.path()), 0), [0]);
        assert!(!path.exists());
    }
}
