//! Visibility of events to a reader while the writer appends.
#![allow(missing_docs)]

mod common;

use common::options;
use event_journal::{LaneReader, frames, open_manual};
use storage::Disk;

fn payloads(reader: &mut LaneReader) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read(1 << 20, &mut bytes).expect("readable");
    let payloads = frames(&bytes).map(|frame| frame.expect("valid frame").payload.to_vec());
    payloads.collect()
}

#[test]
fn incomplete_event_is_invisible_to_readers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut journal = open_manual(Disk, &options(dir.path())).expect("opens");
    let (writer, reader) = (&mut journal.writers[0], &mut journal.readers[0]);
    for text in [&b"first"[..], b"second"] {
        let appended = writer.append(text.len(), |buffer| {
            let (start, rest) = buffer.split_at_mut(2);
            start.copy_from_slice(&text[..2]);
            assert_eq!(payloads(reader), Vec::<Vec<u8>>::new());
            rest.copy_from_slice(&text[2..]);
            Some(text.len())
        });
        appended.expect("the journal has space");
        assert_eq!(payloads(reader), [text]);
    }
}
