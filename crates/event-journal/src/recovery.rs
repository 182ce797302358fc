//! Recovery of the files of an earlier process. Valid frames are kept, a torn tail is discarded,
//! damaged ranges are copied to files of their own, and foreign files are renamed. None of these
//! prevents the journal from opening.

use crate::frame::{self, FrameError};
use crate::segment::{self, FRAMES_OFFSET, Segment, SegmentHeader};
use std::io;
use std::path::{Path, PathBuf};
use storage::{File as _, Storage};

/// How far the next sequence is moved when a segment's limit is unreadable: more than any number of
/// restarts can have added to the known sequences.
const UNKNOWN_SEQ_GAP: u64 = 1 << 36;

/// The maximum number of bytes copied from one damaged range.
const MAX_DAMAGE_COPY_BYTES: usize = 1 << 20;

/// The findings of recovery when the journal was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The lanes, by number.
    pub lanes: Vec<LaneRecovery>,
}

/// The findings of recovery in one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneRecovery {
    /// The lane's number.
    pub lane: u8,
    /// Segments with events.
    pub segments: u64,
    /// Valid events.
    pub events: u64,
    /// Bytes of an append that a crash interrupted; it was never accepted.
    pub torn_bytes: u64,
    /// Bytes of damaged events; copies lie in the segments' directory.
    pub damaged_bytes: u64,
    /// Files that are not segments of this lane, under their new names.
    pub set_aside: Vec<PathBuf>,
}

/// The spool's id in the first readable segment header of any lane.
pub(crate) fn find_journal_id(storage: &impl Storage, dir: &Path) -> io::Result<Option<u64>> {
    for (_, lane) in find_lanes(storage, dir)? {
        for segment in storage.list(&lane)? {
            let mut head = [0; FRAMES_OFFSET as usize];
            let read = storage
                .open(&segment)
                .and_then(|it| it.read_exact_at(&mut head, 0));
            if let (Ok(()), Some(header)) = (read, SegmentHeader::decode(&head)) {
                return Ok(Some(header.journal));
            }
        }
    }
    Ok(None)
}

/// The lanes with a directory in the spool.
pub(crate) fn find_lanes(storage: &impl Storage, dir: &Path) -> io::Result<Vec<(u8, PathBuf)>> {
    let number = |path: &Path| {
        path.file_name()?
            .to_str()?
            .strip_prefix("lane-")?
            .parse()
            .ok()
    };
    let paths = storage.list(dir)?.into_iter();
    Ok(paths
        .filter_map(|path| Some((number(&path)?, path)))
        .collect())
}

/// A lane's segments and the sequence after which it may continue.
#[derive(Debug)]
pub(crate) struct RecoveredLane<F> {
    pub(crate) segments: Vec<Segment<F>>,
    /// Segments without events; removed once a later segment holds their limits.
    pub(crate) empty: Vec<Segment<F>>,
    /// No sequence at or above this was assigned, according to the readable headers and frames.
    pub(crate) next_seq: u64,
    /// How much further unreadable segments may reach.
    pub(crate) seq_gap: u64,
    pub(crate) next_number: u64,
    /// Whether frames that an earlier process failed to sync can't be synced now either.
    pub(crate) sync_failed: bool,
}

pub(crate) fn recover_lane<S: Storage>(
    storage: &S,
    dir: &Path,
    journal: u64,
    lane: u8,
    report: &mut LaneRecovery,
) -> io::Result<RecoveredLane<S::File>> {
    let mut found = RecoveredLane {
        segments: Vec::new(),
        empty: Vec::new(),
        next_seq: 1,
        seq_gap: 0,
        next_number: 1,
        sync_failed: false,
    };
    let mut paths = storage.list(dir)?;
    for unfinished in with_extension(&paths, segment::UNFINISHED_EXTENSION) {
        storage.remove(unfinished)?;
    }
    paths = with_extension(&paths, "seg").cloned().collect();
    for path in paths {
        let bytes = storage::read(storage, &path)?;
        let header = match SegmentHeader::decode(&bytes) {
            Some(header) if bytes.len() >= FRAMES_OFFSET as usize => header,
            Some(header) => {
                // The file ends within its first page, after the header.
                found.next_seq = found.next_seq.max(header.limit);
                set_aside(storage, &path, "corrupt", report)?;
                continue;
            }
            None => {
                let last = scan(&bytes, frame::SEQ_LIMIT).last;
                found.next_seq = found.next_seq.max(last);
                found.seq_gap = UNKNOWN_SEQ_GAP;
                set_aside(storage, &path, "corrupt", report)?;
                continue;
            }
        };
        if header.journal != journal
            || header.lane != lane
            || path != segment::path(dir, header.number)
        {
            set_aside(storage, &path, "foreign", report)?;
            continue;
        }
        found.next_seq = found.next_seq.max(header.limit);
        found.next_number = found.next_number.max(header.number + 1);
        let scan = scan(&bytes, header.limit);
        copy_damage(storage, &path, &bytes, &scan, report)?;
        report.torn_bytes += scan.torn_bytes;
        // The segment is closed and not mapped: its unused space is freed.
        let file = storage.open(&path)?;
        file.set_len(u64::from(scan.end))?;
        let length = scan.end;
        let ends = (scan.end, scan.first, scan.last);
        let segment = Segment::recovered(path, header, file, length, ends, scan.damage);
        if segment::has_failed_sync(&bytes)
            && let Err(error) = segment.rewrite_and_sync(&bytes[..scan.end as usize])
        {
            tracing::error!(file = %segment.path.display(), %error, "failed to sync journal segment that an earlier process failed to sync");
            found.sync_failed = true;
        }
        if scan.events == 0 {
            found.empty.push(segment);
        } else {
            report.segments += 1;
            report.events += scan.events;
            found.segments.push(segment);
        }
    }
    Ok(found)
}

fn with_extension<'a>(
    paths: &'a [PathBuf],
    wanted: &'static str,
) -> impl Iterator<Item = &'a PathBuf> {
    let has = move |path: &&PathBuf| path.extension().is_some_and(|it| it == wanted);
    paths.iter().filter(has)
}

fn set_aside(
    storage: &impl Storage,
    path: &Path,
    reason: &str,
    report: &mut LaneRecovery,
) -> io::Result<()> {
    let renamed = path.with_extension(format!("seg.{reason}"));
    tracing::warn!(file = %path.display(), reason, renamed = %renamed.display(), "not a segment of this lane; renamed it");
    storage.rename(path, &renamed)?;
    report.set_aside.push(renamed);
    Ok(())
}

fn copy_damage(
    storage: &impl Storage,
    path: &Path,
    bytes: &[u8],
    scan: &SegmentScan,
    report: &mut LaneRecovery,
) -> io::Result<()> {
    for &(from, to) in &scan.damage {
        report.damaged_bytes += u64::from(to - from);
        let copy_path = path.with_extension(format!("damaged-{from}"));
        tracing::warn!(file = %path.display(), from, to, copy = %copy_path.display(), "damaged events; copied and skipped them");
        if !storage.exists(&copy_path)? {
            let end = (to as usize).min(from as usize + MAX_DAMAGE_COPY_BYTES);
            let copy = storage.create_new(&copy_path)?;
            copy.write_all_at(&bytes[from as usize..end], 0)?;
        }
    }
    Ok(())
}

/// The result of scanning a segment's bytes for frames.
#[derive(Debug, Default, PartialEq, Eq)]
struct SegmentScan {
    end: u32,
    first: u64,
    last: u64,
    events: u64,
    torn_bytes: u64,
    damage: Vec<(u32, u32)>,
}

fn scan(bytes: &[u8], limit: u64) -> SegmentScan {
    let mut scan = SegmentScan::default();
    let mut at = FRAMES_OFFSET as usize;
    let mut good_end = at;
    while at < bytes.len() {
        match frame::parse(bytes, at) {
            Ok(frame) if frame.seq > scan.last && frame.seq < limit => {
                if at > good_end {
                    scan.damage.push((position(good_end), position(at)));
                }
                if scan.events == 0 {
                    scan.first = frame.seq;
                }
                scan.last = frame.seq;
                scan.events += 1;
                at += frame::frame_bytes(frame.payload.len());
                good_end = at;
            }
            // A length beyond the file's end, a wrong checksum, or a stale frame: search for the next
            // frame. After the last frame there are only zeros.
            Ok(_) | Err(FrameError::Short { .. } | FrameError::Checksum { .. }) => {
                at = next_candidate(bytes, at + frame::ALIGN_BYTES);
            }
        }
    }
    scan.end = position(good_end);
    let torn_bytes = bytes
        .get(good_end..)
        .unwrap_or_default()
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    scan.torn_bytes = torn_bytes as u64;
    scan
}

/// The next offset from `at` on with a length that is not zero.
fn next_candidate(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, _) = rest.as_chunks::<{ frame::ALIGN_BYTES }>();
    let zeros = words.iter().take_while(|word| word[..4] == [0; 4]).count();
    if zeros == words.len() {
        bytes.len()
    } else {
        at + zeros * frame::ALIGN_BYTES
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("segments are shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, frame_bytes};

    #[test]
    fn only_rising_sequences_below_the_limit_are_found() {
        let mut bytes = vec![0; FRAMES_OFFSET as usize];
        // A stale frame, as a reused file could hold, and one that the segment could not have assigned.
        for seq in [3, 3, 2, 4, 9] {
            let payload = &b"event"[..];
            Frame { seq, payload }.write(&mut bytes);
        }
        bytes.resize(bytes.len() + 100, 0);
        let at = |frame: u32| FRAMES_OFFSET + frame * position(frame_bytes(5));
        let expected = SegmentScan {
            end: at(4),
            first: 3,
            last: 4,
            events: 2,
            // The last frame without its padding.
            torn_bytes: 21,
            damage: vec![(at(1), at(3))],
        };
        assert_eq!(scan(&bytes, 9), expected);
        assert_eq!(scan(&bytes, 10).events, 3);
    }

    #[test]
    fn frames_after_lost_pages_are_found() {
        let frame_of = |seq: u64| {
            let mut bytes = Vec::new();
            let payload = &b"event"[..];
            Frame { seq, payload }.write(&mut bytes);
            bytes
        };
        // Runs of zeros that a search by other steps than eight bytes would leave at a wrong offset.
        for lost in [8, 24, 72, 600, 4_104] {
            let mut bytes = vec![0; FRAMES_OFFSET as usize];
            bytes.extend(frame_of(1));
            let from = position(bytes.len());
            bytes.resize(bytes.len() + lost, 0);
            let to = position(bytes.len());
            bytes.extend(frame_of(2));
            let scan = scan(&bytes, 9);
            assert_eq!((scan.events, scan.damage), (2, vec![(from, to)]), "{lost}");
        }
    }
}
