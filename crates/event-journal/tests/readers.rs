//! What a reader sees while the writer writes.
#![allow(missing_docs)]

mod common;

use common::options;
use event_journal::{LaneReader, frames, open_on};
use storage::Disk;

fn payloads(reader: &mut LaneReader) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read(1 << 20, &mut bytes).expect("readable");
    let whole = frames(&bytes).map(|frame| frame.expect("whole").payload.to_vec());
    whole.collect()
}

#[test]
fn nothing_of_an_event_is_seen_before_it_is_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut journal = open_on(Disk, &options(dir.path())).expect("opens");
    let (writer, reader) = (&mut journal.writers[0], &mut journal.readers[0]);
    for text in [&b"first"[..], b"second"] {
        let appended = writer.append(text.len(), |room| {
            let (begun, rest) = room.split_at_mut(2);
            begun.copy_from_slice(&text[..2]);
            assert_eq!(payloads(reader), Vec::<Vec<u8>>::new());
            rest.copy_from_slice(&text[2..]);
            Some(text.len())
        });
        appended.expect("there is room");
        assert_eq!(payloads(reader), [text]);
    }
}
