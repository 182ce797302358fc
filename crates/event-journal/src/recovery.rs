//! What an earlier process left behind: whole frames are kept, a torn tail is forgotten, damage is
//! set aside, and foreign files are moved out of the way. Start is never refused because of them.

use crate::frame::{self, FrameError};
use crate::segment::{self, Header, START, Segment};
use std::io;
use std::path::{Path, PathBuf};
use storage::{File as _, Storage};

/// By how much the sequences are moved on when a segment does not tell how far its own reach: more than
/// any number of restarts can have put between them and those that are known.
const UNKNOWN: u64 = 1 << 36;

/// The most bytes of one damaged range that are copied aside.
const MAX_ASIDE: usize = 1 << 20;

/// What was found when the journal was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Each lane, by number.
    pub lanes: Vec<LaneRecovery>,
}

/// What was found in one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaneRecovery {
    /// The lane.
    pub lane: u8,
    /// Segments with events.
    pub segments: u64,
    /// Events that are whole.
    pub events: u64,
    /// Bytes of an append that a crash interrupted; it was never accepted.
    pub torn_bytes: u64,
    /// Bytes that had been events and no longer are; copies are beside the segments.
    pub damaged_bytes: u64,
    /// Files that are not segments of this lane, renamed.
    pub set_aside: Vec<PathBuf>,
}

/// The spool's id as the segments of any lane tell it.
pub(crate) fn journal_of(storage: &impl Storage, dir: &Path) -> io::Result<Option<u64>> {
    for (_, lane) in lanes(storage, dir)? {
        for segment in storage.list(&lane)? {
            let mut head = [0; START as usize];
            let read = storage
                .open(&segment)
                .and_then(|it| it.read_exact_at(&mut head, 0));
            if let (Ok(()), Some(header)) = (read, Header::decode(&head)) {
                return Ok(Some(header.journal));
            }
        }
    }
    Ok(None)
}

/// The lanes that the spool has folders for.
pub(crate) fn lanes(storage: &impl Storage, dir: &Path) -> io::Result<Vec<(u8, PathBuf)>> {
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

/// A lane's segments and where its sequences may go on.
#[derive(Debug)]
pub(crate) struct Found<F> {
    pub(crate) segments: Vec<Segment<F>>,
    /// Segments without events; to be removed once their limits are written down elsewhere.
    pub(crate) empty: Vec<Segment<F>>,
    /// No sequence at or above this was ever given out, as far as headers and frames tell…
    pub(crate) next_seq: u64,
    /// …and by how much those may reach further that do not tell.
    pub(crate) unknown: u64,
    pub(crate) next_number: u64,
    /// Whether something that an earlier process could not sync can't be synced now either.
    pub(crate) sync_failed: bool,
}

pub(crate) fn lane<S: Storage>(
    storage: &S,
    dir: &Path,
    journal: u64,
    lane: u8,
    report: &mut LaneRecovery,
) -> io::Result<Found<S::File>> {
    let mut found = Found {
        segments: Vec::new(),
        empty: Vec::new(),
        next_seq: 1,
        unknown: 0,
        next_number: 1,
        sync_failed: false,
    };
    let mut paths = storage.list(dir)?;
    for unfinished in with_extension(&paths, segment::UNFINISHED) {
        storage.remove(unfinished)?;
    }
    paths = with_extension(&paths, "seg").cloned().collect();
    for path in paths {
        let bytes = storage::read(storage, &path)?;
        let header = match Header::decode(&bytes) {
            Some(header) if bytes.len() >= START as usize => header,
            Some(header) => {
                // Cut within its first page, behind the header.
                found.next_seq = found.next_seq.max(header.limit);
                set_aside(storage, &path, "corrupt", report)?;
                continue;
            }
            None => {
                let last = scan(&bytes, frame::SEQ_LIMIT).last;
                found.next_seq = found.next_seq.max(last + 1);
                found.unknown = UNKNOWN;
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
        keep_damage(storage, &path, &bytes, &scan, report)?;
        report.torn_bytes += scan.torn;
        // Nobody writes to it again, and it is not mapped: the room it does not use is given back.
        let file = storage.open(&path)?;
        file.set_len(u64::from(scan.end))?;
        let length = scan.end;
        let ends = (scan.end, scan.last);
        let segment = Segment::recovered(path, header, file, length, ends, scan.damage);
        if segment::was_given_up(&bytes)
            && let Err(error) = segment.write_anew(&bytes[..scan.end as usize])
        {
            tracing::error!(file = %segment.path.display(), %error, "what could not be synced before can't be synced now");
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
    why: &str,
    report: &mut LaneRecovery,
) -> io::Result<()> {
    let aside = path.with_extension(format!("seg.{why}"));
    tracing::warn!(file = %path.display(), why, "not a segment of this lane; set aside");
    storage.rename(path, &aside)?;
    report.set_aside.push(aside);
    Ok(())
}

fn keep_damage(
    storage: &impl Storage,
    path: &Path,
    bytes: &[u8],
    scan: &Scan,
    report: &mut LaneRecovery,
) -> io::Result<()> {
    for &(from, to) in &scan.damage {
        report.damaged_bytes += u64::from(to - from);
        let aside = path.with_extension(format!("damaged-{from}"));
        tracing::warn!(file = %path.display(), from, to, aside = %aside.display(), "events are damaged; set aside, the others are kept");
        if !storage.exists(&aside)? {
            let end = (to as usize).min(from as usize + MAX_ASIDE);
            let copy = storage.create_new(&aside)?;
            copy.write_all_at(&bytes[from as usize..end], 0)?;
        }
    }
    Ok(())
}

/// What the bytes of a segment hold.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scan {
    end: u32,
    last: u64,
    events: u64,
    torn: u64,
    damage: Vec<(u32, u32)>,
}

fn scan(bytes: &[u8], limit: u64) -> Scan {
    let mut scan = Scan::default();
    let mut at = START as usize;
    let mut good_end = at;
    while at < bytes.len() {
        match frame::parse(bytes, at) {
            Ok(frame) if frame.seq > scan.last && frame.seq < limit => {
                if at > good_end {
                    scan.damage.push((position(good_end), position(at)));
                }
                scan.last = frame.seq;
                scan.events += 1;
                at += frame::frame_bytes(frame.payload.len());
                good_end = at;
            }
            // A length that reaches beyond the file, a broken checksum, or a stale frame: look for
            // the next one. Past the last frame there are only zeros.
            Ok(_) | Err(FrameError::Short { .. } | FrameError::Checksum { .. }) => {
                at = next_candidate(bytes, at + frame::ALIGN);
            }
        }
    }
    scan.end = position(good_end);
    let torn = bytes
        .get(good_end..)
        .unwrap_or_default()
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    scan.torn = torn as u64;
    scan
}

/// The next place from `at` on where a length is not zero.
fn next_candidate(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let (words, _) = rest.as_chunks::<{ frame::ALIGN }>();
    let zeros = words.iter().take_while(|word| word[..4] == [0; 4]).count();
    if zeros == words.len() {
        bytes.len()
    } else {
        at + zeros * frame::ALIGN
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("segments are shorter than 4 GiB")
}
