//! Events that carry a number, appended to lane 0 and read back.

use event_journal::{AppendError, LaneReader, OpenJournal, frames};

/// The longest payload, in bytes.
pub(crate) const PAYLOAD: usize = 200;

pub(crate) fn payload(number: u64) -> Vec<u8> {
    let len = 1 + (number as usize * 7919) % PAYLOAD;
    let mut bytes = vec![number as u8; len.max(8)];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

pub(crate) fn append(journal: &mut OpenJournal, number: u64) -> Result<u64, AppendError> {
    let bytes = payload(number);
    journal.writers[0].append(PAYLOAD, |buffer| {
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Some(bytes.len())
    })
}

pub(crate) fn append_all(journal: &mut OpenJournal, numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers
        .map(|number| append(journal, number).expect("the journal has space"))
        .collect()
}

/// Every event after `after` as (sequence, number); checks that runs follow each other.
pub(crate) fn read_all(reader: &mut LaneReader, after: u64) -> Vec<(u64, u64)> {
    reader.seek(after);
    let (mut all, mut last) = (Vec::new(), after);
    let mut bytes = Vec::new();
    while let Some(run) = reader.read(10_000, &mut bytes).expect("readable") {
        assert_eq!(run.after, last, "runs follow each other");
        let read: Vec<_> = frames(&bytes)
            .map(|frame| frame.expect("valid frame"))
            .collect();
        assert_eq!(read.len(), run.events as usize);
        assert_eq!(
            (read[0].seq, read[read.len() - 1].seq),
            (run.first, run.last)
        );
        for frame in read {
            assert!(frame.seq > last, "sequences rise");
            last = frame.seq;
            let number = u64::from_le_bytes(frame.payload[..8].try_into().expect("8 bytes"));
            assert_eq!(frame.payload, payload(number));
            all.push((frame.seq, number));
        }
        bytes.clear();
    }
    all
}
