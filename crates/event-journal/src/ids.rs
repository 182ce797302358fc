//! The journal ids under which a spool's sequences are shipped. Each writing process takes a new id, so
//! that an id identifies the events of one process even when the spool's directory is copied or restored.

use crate::frame::SEQ_LIMIT;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use storage::{Disk, Storage};

const FILE_NAME: &str = "journal.ids";
const MAGIC: &[u8; 8] = b"FZJRNID1";

/// The maximum number of ranges per lane, so that the ranges of 64 lanes fit into one message.
const MAX_RANGES: usize = 16;
/// With this many ranges or more a new process continues under the id of the previous one.
const MAX_RANGES_AT_OPEN: usize = 8;

/// Sequences shipped under one id: from `first` up to the start of the next range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first sequence.
    pub first: u64,
    /// The journal id.
    pub journal: u64,
}

/// A request for a new id: for a lane's sequences from `first` on, up to the next range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdSplit {
    /// The lane.
    pub lane: u8,
    /// The first sequence.
    pub first: u64,
}

/// The state of a lane when a process opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneStart {
    /// The lane.
    pub lane: u8,
    /// The first sequence that this process assigns.
    pub first_own: u64,
    /// The last sequence of an earlier process that still exists; 0 for none.
    pub last_found: u64,
    /// The last sequence acknowledged by an aggregator.
    pub acknowledged: u64,
}

/// The journal ids of a spool, stored in a file of its directory.
#[derive(Debug)]
pub struct JournalIds<S: Storage = Disk> {
    storage: S,
    path: PathBuf,
    spool_id: u64,
    /// The ranges of lanes with more than one id; events before the first range were acknowledged.
    lanes: BTreeMap<u8, Vec<IdRange>>,
}

impl<S: Storage> JournalIds<S> {
    /// Reads the file of an earlier process. An invalid file is renamed, and the spool's own id is used.
    pub(crate) fn load(storage: S, dir: &Path, spool_id: u64) -> io::Result<Self> {
        let path = dir.join(FILE_NAME);
        let lanes = match storage::read(&storage, &path) {
            Ok(bytes) => {
                let lanes = decode(&bytes, spool_id);
                if lanes.is_none() {
                    let renamed = path.with_extension("ids.corrupt");
                    tracing::error!(file = %path.display(), renamed = %renamed.display(), "invalid journal ids file; renamed it, using the spool's own id");
                    storage.rename(&path, &renamed)?;
                }
                lanes.unwrap_or_default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            storage,
            path,
            spool_id,
            lanes,
        })
    }

    /// The ranges of a lane, in order.
    #[must_use]
    pub fn ranges(&self, lane: u8) -> Vec<IdRange> {
        let initial = IdRange {
            first: 0,
            journal: self.spool_id,
        };
        self.lanes
            .get(&lane)
            .cloned()
            .unwrap_or_else(|| vec![initial])
    }

    /// A random journal id.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new_id(&self) -> io::Result<u64> {
        // 0 means "no id".
        Ok(self.storage.random()?.max(1))
    }

    /// Removes ranges of a lane that end at or before `through`; the next split stores the removal.
    pub fn forget_ranges_through(&mut self, lane: u8, through: u64) {
        if let Some(ranges) = self.lanes.get_mut(&lane) {
            let ended = ranges
                .iter()
                .skip(1)
                .take_while(|next| next.first <= through.saturating_add(1))
                .count();
            ranges.drain(..ended);
        }
    }

    /// The last acknowledged sequence when the lane's first range started. A power loss may destroy the
    /// checkpoint with that sequence, and these events must not be shipped under another id.
    #[must_use]
    pub fn acknowledged(&self, lane: u8) -> u64 {
        let oldest = self.lanes.get(&lane).and_then(|ranges| ranges.first());
        oldest.map_or(0, |range| range.first.saturating_sub(1))
    }

    /// Assigns a new id to the events of this process on each lane and stores the ids durably.
    ///
    /// # Errors
    /// When the file can't be written; nothing changes then.
    pub fn assign_new_ids(&mut self, lanes: &[LaneStart]) -> io::Result<()> {
        let before = self.lanes.clone();
        let mut splits = Vec::new();
        for start in lanes {
            let complete = start.acknowledged >= start.last_found;
            let through = if complete {
                start.first_own - 1
            } else {
                start.acknowledged
            };
            self.forget_ranges_through(start.lane, through);
            if let Some(ranges) = self.lanes.get_mut(&start.lane) {
                // No event was written under the ids of the removed ranges.
                let oldest = ranges.first().copied();
                ranges.retain(|range| Some(*range) == oldest || range.first <= start.last_found);
            }
            if self.ranges(start.lane).len() < MAX_RANGES_AT_OPEN {
                splits.push(IdSplit {
                    lane: start.lane,
                    first: start.first_own,
                });
            } else {
                tracing::warn!(
                    lane = start.lane,
                    "many earlier processes have unacknowledged events; continuing under the previous process's journal id"
                );
            }
        }
        let result = self.split(&splits);
        if result.is_err() {
            self.lanes = before;
        }
        result
    }

    /// Assigns a new id to each split and stores the ids durably. A split at the start of a range
    /// replaces the range's id.
    ///
    /// # Errors
    /// When the file can't be written or a lane has too many ranges; nothing changes then.
    pub fn split(&mut self, splits: &[IdSplit]) -> io::Result<()> {
        let mut lanes = self.lanes.clone();
        for split in splits {
            let journal = self.new_id()?;
            let ranges = lanes
                .entry(split.lane)
                .or_insert_with(|| self.ranges(split.lane));
            let first = split.first;
            match ranges.binary_search_by_key(&first, |range| range.first) {
                Ok(at) => ranges[at].journal = journal,
                Err(at) => ranges.insert(at, IdRange { first, journal }),
            }
            if ranges.len() > MAX_RANGES {
                return Err(io::Error::other(format!(
                    "lane {} has unacknowledged events under {MAX_RANGES} journal ids; reconnect the aggregator",
                    split.lane
                )));
            }
        }
        let bytes = encode(&lanes, self.spool_id);
        storage::replace(&self.storage, &self.path, &bytes, true)?;
        self.lanes = lanes;
        Ok(())
    }
}

fn encode(lanes: &BTreeMap<u8, Vec<IdRange>>, spool_id: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&spool_id.to_le_bytes());
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

fn decode(bytes: &[u8], spool_id: u64) -> Option<BTreeMap<u8, Vec<IdRange>>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (numbers, rest) = body.strip_prefix(MAGIC)?.as_chunks::<8>();
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .collect();
    let (owner, numbers) = numbers.split_first()?;
    let (ranges, odd) = numbers.as_chunks::<3>();
    if *owner != spool_id || !rest.is_empty() || !odd.is_empty() {
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

    fn split(lane: u8, first: u64) -> IdSplit {
        IdSplit { lane, first }
    }

    fn firsts(ids: &JournalIds, lane: u8) -> Vec<u64> {
        ids.ranges(lane).iter().map(|range| range.first).collect()
    }

    #[test]
    fn splits_survive_a_restart() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut before = ids(dir.path());
        assert_eq!(
            before.ranges(3),
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
            assert_eq!(after.ranges(lane), before.ranges(lane));
        }
        let ids: Vec<u64> = after.ranges(0).iter().map(|range| range.journal).collect();
        assert!(ids[0] == 7 && ids[1] != 7 && ids[1] != ids[2]);
    }

    #[test]
    fn ended_ranges_are_removed_and_too_many_are_rejected() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut ids = ids(dir.path());
        for first in 1..16 {
            ids.split(&[split(0, first * 100)])
                .expect("the journal has space");
        }
        assert!(ids.split(&[split(0, 9_000)]).is_err());
        assert_eq!(firsts(&ids, 0).len(), 16);
        ids.forget_ranges_through(0, 298);
        assert_eq!(
            firsts(&ids, 0),
            [
                200, 300, 400, 500, 600, 700, 800, 900, 1_000, 1_100, 1_200, 1_300, 1_400, 1_500
            ]
        );
        ids.forget_ranges_through(0, 299);
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
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut ids = ids(dir.path());
        let start = |first_own, last_found, acknowledged| LaneStart {
            lane: 0,
            first_own,
            last_found,
            acknowledged,
        };
        ids.assign_new_ids(&[start(1, 0, 0)]).expect("written");
        let first = ids.ranges(0).last().copied().expect("range");
        assert_eq!(firsts(&ids, 0), [0, 1]);
        // The second process finds events of the first, the third none of the second.
        ids.assign_new_ids(&[start(500, 30, 10)]).expect("written");
        assert_eq!(firsts(&ids, 0), [1, 500]);
        assert_eq!(ids.acknowledged(0), 0);
        assert_eq!(ids.ranges(0)[0].journal, first.journal);
        ids.assign_new_ids(&[start(900, 30, 10)]).expect("written");
        assert_eq!(firsts(&ids, 0), [1, 900]);
        // Everything before was acknowledged: its ids end.
        ids.assign_new_ids(&[start(1_300, 950, 950)])
            .expect("written");
        assert_eq!(firsts(&ids, 0), [900, 1_300]);
        assert_eq!(ids.acknowledged(0), 899);
        assert_ne!(ids.ranges(0)[0].journal, first.journal);
    }

    #[test]
    fn ranges_without_events_are_removed_and_others_kept() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut ids = ids(dir.path());
        let assign = |ids: &mut JournalIds, first_own, last_found, acknowledged| {
            let start = LaneStart {
                lane: 0,
                first_own,
                last_found,
                acknowledged,
            };
            ids.assign_new_ids(&[start]).expect("written");
        };
        ids.split(&[split(0, 100)]).expect("written");
        assign(&mut ids, 200, 150, 50);
        assert_eq!(firsts(&ids, 0), [0, 100, 200]);
        // An earlier process began after the sequences of this one, and wrote nothing.
        ids.split(&[split(0, 301)]).expect("written");
        assign(&mut ids, 300, 290, 290);
        assert_eq!(firsts(&ids, 0), [200, 300]);
    }

    #[test]
    fn process_keeps_the_previous_id_when_ranges_are_many() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut ids = ids(dir.path());
        for process in 1..=2 * MAX_RANGES as u64 {
            let start = LaneStart {
                lane: 0,
                first_own: process * 100,
                last_found: process * 100 - 1,
                acknowledged: 0,
            };
            ids.assign_new_ids(&[start]).expect("written");
            let expected = MAX_RANGES_AT_OPEN.min(1 + process as usize);
            assert_eq!(firsts(&ids, 0).len(), expected);
        }
    }

    #[test]
    fn id_file_with_impossible_numbers_is_invalid() {
        let file = |numbers: &[u64], rest: &[u8]| {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            bytes.extend_from_slice(rest);
            bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            decode(&bytes, 7)
        };
        assert!(file(&[7, 0, 1, 5, 0, 2, 6], b"").is_some());
        assert!(file(&[7, 0, SEQ_LIMIT - 1, 5], b"").is_some());
        let (other_spool, odd) = ([8, 0, 1, 5], [7, 0, 1]);
        let (falling, equal) = ([7, 0, 2, 5, 0, 1, 6], [7, 0, 2, 5, 0, 2, 6]);
        let (far, lane) = ([7, 0, SEQ_LIMIT, 5], [7, 256, 1, 5]);
        for numbers in [&other_spool[..], &odd, &falling, &equal, &far, &lane] {
            assert_eq!(file(numbers, b""), None, "{numbers:?}");
        }
        assert_eq!(file(&[7, 0, 1, 5], b"x"), None);
        let ranges = |count: u64| {
            let ranges = (0..count).flat_map(|first| [0, first, 5]);
            file(&Vec::from_iter([7].into_iter().chain(ranges)), b"")
        };
        assert!(ranges(MAX_RANGES as u64).is_some());
        assert!(ranges(MAX_RANGES as u64 + 1).is_none());
    }

    #[test]
    fn damaged_or_foreign_id_file_is_renamed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        ids(dir.path()).split(&[split(0, 500)]).expect("written");
        let path = dir.path().join(FILE_NAME);
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
