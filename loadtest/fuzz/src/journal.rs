//! Frames, segments and checkpoints. Invariants: only written events are read, and the journal always opens.

use crate::input::{Input, piece};
use crate::temp_dir::{empty, temp_dir};
use event_journal::{Frame, ManualJournal, Options, frames as whole_frames, open_manual};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use storage::Disk;
use tempfile::TempDir;

const PAGE: usize = 4_096;
const SEGMENT_BYTES: u32 = 64 << 10;
/// Longer than the body that any input makes.
const MAX_BODY_BYTES: usize = SEGMENT_BYTES as usize - PAGE;

/// Reads frames and returns the length of the valid prefix.
fn read_frames(bytes: &[u8]) -> usize {
    let (mut again, mut at) = (Vec::new(), 0);
    for frame in whole_frames(bytes).map_while(Result::ok) {
        assert!(!frame.payload.is_empty());
        frame.write(&mut again);
        // Everything except the padding is determined by the content.
        let end = at + 16 + frame.payload.len();
        assert_eq!(again[at..end], bytes[at..end]);
        assert!(again.len() <= bytes.len() && again.len() - end < 8);
        at = again.len();
    }
    let failed = whole_frames(bytes).filter(Result::is_err).count();
    assert_eq!(failed, usize::from(at < bytes.len()));
    assert!(!matches!(whole_frames(bytes).last(), Some(Ok(_))) || at == bytes.len());
    at
}

/// The input's bytes as frames, and frames built from the input and then damaged in one place.
pub(crate) fn frames(bytes: &[u8]) {
    read_frames(bytes);
    let mut input = Input(bytes);
    let noise = usize::from(input.u16());
    let (mut whole, mut ends) = (Vec::new(), vec![0]);
    while !input.is_empty() {
        let seq = input.u64();
        let payload = input.piece();
        if !payload.is_empty() {
            Frame { seq, payload }.write(&mut whole);
            ends.push(whole.len());
        }
    }
    assert_eq!(read_frames(&whole), whole.len());
    if !whole.is_empty() {
        let at = noise / 8 % whole.len();
        whole[at] ^= 1 << (noise % 8);
        let before = ends.iter().rfind(|end| **end <= at).copied();
        assert!(read_frames(&whole) >= before.expect("0 is before"));
    }
}

/// A journal directory with one segment, of which only the header is kept.
struct JournalDir {
    dir: TempDir,
    id: Vec<u8>,
    header: Vec<u8>,
}

impl JournalDir {
    fn new() -> Self {
        let dir = temp_dir();
        drop(opened(dir.path()));
        let journal_dir = Self {
            id: fs::read(dir.path().join("spool.id")).expect("readable"),
            header: fs::read(Self::segment(dir.path())).expect("readable")[..PAGE].to_vec(),
            dir,
        };
        journal_dir.empty();
        journal_dir
    }

    fn segment(dir: &Path) -> PathBuf {
        dir.join("lane-0/0000000000000001.seg")
    }

    fn empty(&self) {
        empty(&self.dir.path().join("lane-0"));
        fs::write(self.dir.path().join("spool.id"), &self.id).expect("writable");
    }

    /// Upper bound of the segment's sequences.
    fn limit(&self) -> u64 {
        u64::from_le_bytes(self.header[24..32].try_into().expect("8 bytes"))
    }
}

fn opened(dir: &Path) -> ManualJournal<Disk> {
    let options = Options {
        dir: dir.into(),
        lanes: 1,
        format_version: 1,
        segment_bytes: SEGMENT_BYTES,
        max_bytes: 1 << 20,
        sync_interval: Duration::from_secs(60),
    };
    open_manual(Disk, &options).expect("opens with any files")
}

fn read_all(journal: &mut ManualJournal<Disk>) -> Events {
    let mut bytes = Vec::new();
    journal.readers[0].seek(0);
    while journal.readers[0]
        .read(1 << 20, &mut bytes)
        .expect("readable")
        .is_some()
    {}
    let events = whole_frames(&bytes).map(|frame| frame.expect("complete frame"));
    events
        .map(|frame| (frame.seq, frame.payload.to_vec()))
        .collect()
}

thread_local! {
    static JOURNAL_DIR: JournalDir = JournalDir::new();
}

/// Sequences and payloads.
type Events = Vec<(u64, Vec<u8>)>;

/// A segment's body, the events written to it, and whether it contains nothing else.
fn segment_body(mut input: Input<'_>) -> (Vec<u8>, Events, bool) {
    let (mut body, mut written, mut is_clean, mut last) = (Vec::new(), Vec::new(), true, 0);
    while !input.is_empty() && body.len() + 1_024 < MAX_BODY_BYTES {
        match input.u8() % 8 {
            // A frame with the next sequence, as the writer appends it.
            0..=2 => {
                last += 1 + u64::from(input.u8());
                let payload = input.piece();
                if !payload.is_empty() {
                    Frame { seq: last, payload }.write(&mut body);
                    written.push((last, payload.to_vec()));
                }
            }
            // A valid frame with any sequence.
            3 => {
                let (seq, payload) = (input.u64(), input.piece());
                if !payload.is_empty() {
                    Frame { seq, payload }.write(&mut body);
                    written.push((seq, payload.to_vec()));
                    is_clean = false;
                }
            }
            // A frame with a changed bit.
            4 => {
                let (noise, payload) = (usize::from(input.u16()), input.piece());
                let at = body.len();
                if !payload.is_empty() {
                    last += 1;
                    Frame { seq: last, payload }.write(&mut body);
                    let hit = at + noise / 8 % (body.len() - at);
                    body[hit] ^= 1 << (noise % 8);
                    written.push((last, payload.to_vec()));
                    is_clean = false;
                }
            }
            5 => {
                let zeros = usize::from(input.u8()) * 8;
                body.resize(body.len() + zeros, 0);
                is_clean = false;
            }
            _ => {
                body.extend_from_slice(input.piece());
                is_clean = false;
            }
        }
    }
    (body, written, is_clean)
}

/// The bytes after a segment's header.
pub(crate) fn segment(bytes: &[u8]) {
    JOURNAL_DIR.with(|journal_dir| {
        let mut input = Input(bytes);
        let mut header = journal_dir.header.clone();
        let (hit, noise) = (input.u8() == 1, usize::from(input.u16()));
        if hit {
            header[noise / 8 % PAGE] ^= 1 << (noise % 8);
        }
        let (body, written, is_clean) = segment_body(input);
        let path = JournalDir::segment(journal_dir.dir.path());
        fs::write(&path, [&header, &body[..]].concat()).expect("writable");

        let mut journal = opened(journal_dir.dir.path());
        let read = read_all(&mut journal);
        let found = journal.recovery.lanes[0].clone();
        assert_eq!(found.events as usize, read.len());
        assert!(read.is_sorted_by(|one, other| one.0 < other.0));
        // A frame may also be part of raw bytes or of another frame's payload, if the input contains it.
        for (seq, payload) in &read {
            let mut frame = Vec::new();
            Frame { seq: *seq, payload }.write(&mut frame);
            let frame = &frame[..16 + payload.len()];
            assert!(*seq < journal_dir.limit() && body.windows(frame.len()).any(|it| it == frame));
        }
        if found.set_aside.is_empty() {
            let spaces = read
                .iter()
                .map(|it| (16 + it.1.len()).next_multiple_of(8) as u64);
            let accounted = spaces.sum::<u64>() + found.damaged_bytes + found.torn_bytes;
            assert!(accounted <= body.len() as u64);
            assert!(journal.writers[0].next_seq() >= journal_dir.limit());
            let below = written.iter().all(|it| it.0 < journal_dir.limit());
            assert!(
                !(is_clean && below) || read == written,
                "everything that was written is read"
            );
        } else {
            assert!(hit && read.is_empty());
        }
        drop(journal);
        // Damage is repaired permanently.
        let mut again = opened(journal_dir.dir.path());
        assert_eq!(read_all(&mut again), read);
        let later = &again.recovery.lanes[0];
        assert_eq!((later.torn_bytes, later.set_aside.len()), (0, 0));
        drop(again);
        journal_dir.empty();
    });
}

/// A lane's checkpoint: any bytes, or any numbers with a valid checksum.
pub(crate) fn checkpoint(bytes: &[u8]) {
    JOURNAL_DIR.with(|journal_dir| {
        let mut input = Input(bytes);
        let whole = input.u8() & 1 == 1;
        let mut content = Vec::new();
        if whole {
            content.extend_from_slice(b"FZCHKPT2");
            while input.0.len() >= 8 {
                content.extend_from_slice(&input.u64().to_le_bytes());
            }
            content.extend_from_slice(input.0);
            content.extend_from_slice(&crc32c::crc32c(&content).to_le_bytes());
        } else {
            content.extend_from_slice(input.0);
        }
        let path = journal_dir.dir.path().join("lane-0/checkpoint");
        fs::write(&path, &content).expect("writable");
        let mut journal = opened(journal_dir.dir.path());
        let reader = &journal.readers[0];
        let (released, acknowledged) = (reader.released(), reader.acknowledged());
        let batch_boundaries = reader.batch_boundaries().to_vec();
        let aside = path.with_extension("corrupt");
        if aside.exists() {
            assert!((released, acknowledged, batch_boundaries.is_empty()) == (0, 0, true));
            assert_eq!(fs::read(&aside).expect("file kept"), content);
        } else {
            // Only bytes in the written format are accepted.
            assert_eq!(content.len(), 8 + 16 + batch_boundaries.len() * 24 + 4);
            let numbers = batch_boundaries
                .iter()
                .flat_map(|it| [it.after, it.first, it.last]);
            let numbers = [released, acknowledged].into_iter().chain(numbers);
            let written: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
            assert_eq!(content[8..content.len() - 4], written);
            let known = batch_boundaries
                .iter()
                .map(|it| it.last)
                .fold(acknowledged, u64::max);
            assert!(journal.writers[0].next_seq() > known);
        }
        let mut raw = Vec::new();
        for seal in batch_boundaries.iter().take(8) {
            journal.readers[0]
                .read_exact(seal, &mut raw)
                .expect_err("there are no events");
        }
        assert!(raw.is_empty() && read_all(&mut journal).is_empty());
        drop(journal);
        journal_dir.empty();
    });
}

pub(crate) mod seeds {
    //! Files as a writer leaves them, complete and damaged.

    use super::{Frame, piece};

    pub(crate) fn frames() -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for (seq, payload) in [
            (1, &b"a"[..]),
            (2, b"12345678"),
            (5, b"an event of some length"),
        ] {
            Frame { seq, payload }.write(&mut whole);
        }
        let built = [
            &[9, 1, 1, 0, 0, 0, 0, 0, 0, 0, 3][..],
            b"abc",
            &[2, 0, 0, 0, 0, 0, 0, 0, 8],
            b"12345678",
        ];
        vec![
            whole.clone(),
            whole[..whole.len() - 9].to_vec(),
            built.concat(),
        ]
    }

    pub(crate) fn segment() -> Vec<Vec<u8>> {
        let event = |text: &[u8]| [&[0, 0][..], &piece(text)].concat();
        let damaged =
            |noise: u16, text: &[u8]| [&[4][..], &noise.to_le_bytes(), &piece(text)].concat();
        let (mut inner, whole) = (Vec::new(), [0, 0, 0]);
        Frame {
            seq: 3,
            payload: b"within",
        }
        .write(&mut inner);
        vec![
            [
                &whole[..],
                &event(b"one"),
                &event(b"second"),
                &event(&[7; 200]),
            ]
            .concat(),
            [
                &whole[..],
                &event(b"one"),
                &damaged(3, b"second"),
                &event(b"third"),
            ]
            .concat(),
            [
                &whole[..],
                &event(b"one"),
                &damaged(130, &inner),
                &event(b"third"),
            ]
            .concat(),
            [&[1, 9, 0][..], &event(b"one")].concat(),
            [
                &whole[..],
                &event(b"one"),
                &[5, 9],
                &event(b"third"),
                &[6, 3, 1, 2, 3],
            ]
            .concat(),
            [
                &whole[..],
                &[3, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0],
                &piece(b"far"),
            ]
            .concat(),
        ]
    }

    pub(crate) fn checkpoint() -> Vec<Vec<u8>> {
        let numbers = |numbers: &[u64]| {
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
            [1].into_iter().chain(bytes).collect::<Vec<u8>>()
        };
        vec![
            numbers(&[5, 5]),
            numbers(&[5, 7, 5, 6, 9, 9, 10, 12]),
            numbers(&[9, 9, 1]),
            numbers(&[9, 8]),
            numbers(&[0, u64::MAX]),
            [&[0][..], b"FZCHKPT2 and more"].concat(),
            vec![],
        ]
    }
}
