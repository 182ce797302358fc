//! Block files and checkpoints on a real disk: written files are read back, damaged ones are detected, and their events
//! are requested again.

use super::{Block, Checkpoint, Entry, Spool};
use event_shipping::{BatchSpan, LaneKey, Sealer};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use storage::Disk;
use storage::model::{Fault, Loss, ModelDisk};

fn key(lane: u8) -> LaneKey {
    LaneKey {
        node: 3,
        lane,
        journal: 0xabcd,
    }
}

fn entry(lane: u8, after: u64, raw: &[u8]) -> Entry {
    let (first, last) = (after + 1, after + 5);
    let span = BatchSpan {
        lane,
        journal: 0xabcd,
        format_version: 1,
        after,
        first,
        last,
        events: 5,
    };
    let batch = Sealer::new()
        .expect("compressor")
        .seal(&span, raw, 9)
        .expect("seals");
    let (header, payload) = (batch.header, batch.payload);
    Entry {
        key: key(lane),
        skip_through: after,
        header,
        received_at: 11,
        payload,
    }
}

fn open(dir: &Path) -> (Spool<Disk>, super::Recovered) {
    Spool::open(Disk, dir).expect("usable directory")
}

fn checkpoint(block: &Block, taken: u64) -> Checkpoint {
    Checkpoint {
        block: block.number,
        day: 20_000,
        taken: vec![(key(0), taken, 0)],
    }
}

/// Two blocks, of which the first was inserted.
fn two_blocks(dir: &Path) -> [(String, Block); 2] {
    let (mut spool, _) = open(dir);
    let blocks = [0, 5].map(|after| {
        let block = Block {
            number: spool.next_number(),
            entries: vec![entry(0, after, b"frames")],
        };
        (spool.write(&block).expect("written"), block)
    });
    spool
        .taken(&blocks[0].0, &checkpoint(&blocks[0].1, 5))
        .expect("written");
    blocks
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("blocks")).expect("directory");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn block_is_read_as_it_was_written(
        batches in prop::collection::vec((0..9_u8, 0..1_000_u64, prop::collection::vec(any::<u8>(), 1..300)), 1..8)
    ) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (mut spool, _) = open(directory.path());
        let entries = batches.iter().map(|(lane, after, raw)| entry(*lane, *after, raw)).collect();
        let block = Block { number: spool.next_number(), entries };
        let token = spool.write(&block).expect("written");
        drop(spool);
        let (_, recovered) = open(directory.path());
        prop_assert_eq!(recovered.blocks, vec![(token, block)]);
    }
}

#[test]
fn only_uninserted_blocks_are_recovered() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let [first, second] = two_blocks(directory.path());
    let (mut spool, recovered) = open(directory.path());
    assert_eq!(recovered.blocks, vec![second.clone()]);
    assert_eq!(recovered.checkpoint, checkpoint(&first.1, 5));
    assert!(spool.next_number() > second.1.number);
    spool
        .taken(&second.0, &checkpoint(&second.1, 10))
        .expect("written");
    // The last inserted block stays for the previous checkpoint, and no other.
    assert_eq!(files(directory.path(), "block").len(), 1);
    assert!(open(directory.path()).1.blocks.is_empty());
}

#[test]
fn flipped_bits_and_truncations_of_blocks_are_detected() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let [first, second] = two_blocks(directory.path());
    // The inserted block stays for the previous checkpoint.
    for (token, left) in [
        (&second.0, &[][..]),
        (&first.0, std::slice::from_ref(&second)),
    ] {
        let path = directory
            .path()
            .join("blocks")
            .join(format!("{token}.block"));
        let sound = fs::read(&path).expect("written");
        for damaged in damages(&sound) {
            fs::write(&path, &damaged).expect("written");
            let (_, recovered) = open(directory.path());
            assert_eq!(recovered.blocks, left);
            assert_eq!(recovered.checkpoint, checkpoint(&first.1, 5));
            assert_eq!(recovered.set_aside.len(), 1);
            assert_eq!(
                fs::read(&recovered.set_aside[0]).expect("file kept"),
                damaged
            );
        }
        fs::write(&path, sound).expect("written");
        assert_eq!(open(directory.path()).1.blocks, vec![second.clone()]);
    }
}

/// `sound` with each of its bits flipped, then cut to each length.
fn damages(sound: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flipped = (0..sound.len() * 8).map(|bit| {
        let mut bytes = sound.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    flipped.chain((0..sound.len()).map(|length| sound[..length].to_vec()))
}

#[test]
fn block_under_another_name_is_set_aside() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let [_, second] = two_blocks(directory.path());
    let dir = directory.path().join("blocks");
    let other = second.0.replace('-', "-0");
    fs::rename(
        dir.join(format!("{}.block", second.0)),
        dir.join(format!("{other}.block")),
    )
    .expect("renamed");
    let (_, recovered) = open(directory.path());
    assert!(recovered.blocks.is_empty());
    assert_eq!(recovered.set_aside.len(), 1);
}

#[test]
fn damaged_checkpoint_loses_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let [first, second] = two_blocks(directory.path());
    let (mut spool, _) = open(directory.path());
    spool
        .taken(&second.0, &checkpoint(&second.1, 10))
        .expect("written");
    drop(spool);
    let path = directory.path().join("blocks/checkpoint");
    let sound = fs::read(&path).expect("written");
    for damaged in damages(&sound) {
        fs::write(&path, &damaged).expect("written");
        let (_, recovered) = open(directory.path());
        let aside = directory.path().join("blocks/checkpoint.corrupt");
        assert_eq!(fs::read(&aside).expect("file kept"), damaged);
        assert_eq!(recovered.set_aside, [aside]);
        // The previous checkpoint, and the block between the two, have the same information.
        assert_eq!(recovered.checkpoint, checkpoint(&first.1, 5));
        assert_eq!(recovered.blocks, vec![second.clone()]);
    }
    // The previous checkpoint is not read while the present one is valid.
    fs::write(&path, &sound).expect("written");
    let path = directory.path().join("blocks/checkpoint.prev");
    for damaged in damages(&fs::read(&path).expect("written")) {
        fs::write(&path, damaged).expect("written");
        let (_, recovered) = open(directory.path());
        assert_eq!(recovered.checkpoint, checkpoint(&second.1, 10));
        assert!(recovered.set_aside.is_empty() && recovered.blocks.is_empty());
    }
}

#[test]
fn blocks_after_a_damaged_one_are_requested_again() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (mut spool, _) = open(directory.path());
    let tokens = [0, 5, 10].map(|after| {
        let block = Block {
            number: spool.next_number(),
            entries: vec![entry(0, after, b"frames")],
        };
        spool.write(&block).expect("written")
    });
    let path = directory
        .path()
        .join("blocks")
        .join(format!("{}.block", tokens[1]));
    fs::write(&path, b"FZBLOCK1 and random text").expect("written");
    let (_, recovered) = open(directory.path());
    let left: Vec<_> = recovered.blocks.iter().map(|(token, _)| token).collect();
    assert_eq!(left, [&tokens[0]]);
    assert_eq!(recovered.set_aside.len(), 2);
    let reaches: BTreeMap<_, _> = recovered.blocks[0].1.reaches();
    assert_eq!(reaches, BTreeMap::from([(key(0), 5)]));
}

#[test]
fn incomplete_block_leaves_no_trace() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let [_, second] = two_blocks(directory.path());
    fs::write(directory.path().join("blocks/half.tmp"), b"FZBLOCK1").expect("written");
    let (_, recovered) = open(directory.path());
    assert_eq!(recovered.blocks, vec![second]);
    assert!(recovered.set_aside.is_empty());
    assert!(files(directory.path(), "tmp").is_empty());
}

#[test]
fn equal_batches_in_another_block_get_another_token() {
    let (one, other) = (
        Block {
            number: 1,
            entries: vec![entry(0, 0, b"frames")],
        },
        Block {
            number: 1,
            entries: vec![entry(0, 5, b"frames")],
        },
    );
    let token = |block: &Block| block.token(&block.to_body().expect("encodable block"));
    assert_ne!(token(&one), token(&other));
    assert_eq!(token(&one), token(&one.clone()));
}

#[test]
fn recovered_blocks_survive_failures_between_starts() {
    let data = Path::new("/data");
    let open = |disk: &ModelDisk| Spool::open(disk.clone(), data).expect("opens");
    let tokens = |disk: &ModelDisk| -> Vec<String> {
        let (_, recovered) = open(disk);
        let blocks = recovered.blocks.into_iter();
        blocks.map(|(token, _)| token).collect()
    };
    let mut found = [0, 0];
    for operation in 0.. {
        let disk = ModelDisk::new(1);
        let (mut spool, _) = open(&disk);
        let block = Block {
            number: spool.next_number(),
            entries: vec![entry(0, 0, b"five events")],
        };
        disk.inject_fault_at(disk.operations() + operation, Fault::Stop);
        let written = spool.write(&block);
        if let Ok(token) = &written {
            let after = disk.after_power_loss(Loss::Everything);
            assert_eq!(tokens(&after), std::slice::from_ref(token));
        }
        // If the process is killed here and restarted, it relies on the files it finds.
        let again = disk.after_crash();
        let before = tokens(&again);
        assert_eq!(
            tokens(&again.after_power_loss(Loss::Everything)),
            before,
            "operation {operation}"
        );
        found[before.len()] += 1;
        if written.is_ok() {
            break;
        }
    }
    assert!(found[0] > 2 && found[1] > 1, "{found:?}");
}
