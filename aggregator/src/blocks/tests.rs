//! Block files and checkpoints on a real disk: what was written comes back, what was damaged shows,
//! and what it held is asked for again.

use super::{Block, Checkpoint, Entry, Store};
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
        .expect("a compressor")
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

fn open(dir: &Path) -> (Store<Disk>, super::Recovered) {
    Store::open(Disk, dir).expect("a usable directory")
}

fn checkpoint(block: &Block, taken: u64) -> Checkpoint {
    Checkpoint {
        block: block.number,
        day: 20_000,
        taken: vec![(key(0), taken, 0)],
    }
}

/// Two blocks, of which the first was taken.
fn two_blocks(dir: &Path) -> [(String, Block); 2] {
    let (mut store, _) = open(dir);
    let blocks = [0, 5].map(|after| {
        let block = Block {
            number: store.next_number(),
            entries: vec![entry(0, after, b"frames")],
        };
        (store.write(&block).expect("written"), block)
    });
    store
        .taken(&blocks[0].0, &checkpoint(&blocks[0].1, 5))
        .expect("written");
    blocks
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("blocks")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_block_comes_back_as_it_was_written(
        batches in prop::collection::vec((0..9_u8, 0..1_000_u64, prop::collection::vec(any::<u8>(), 1..300)), 1..8)
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut store, _) = open(directory.path());
        let entries = batches.iter().map(|(lane, after, raw)| entry(*lane, *after, raw)).collect();
        let block = Block { number: store.next_number(), entries };
        let token = store.write(&block).expect("written");
        drop(store);
        let (_, recovered) = open(directory.path());
        prop_assert_eq!(recovered.blocks, vec![(token, block)]);
    }
}

#[test]
fn only_what_was_not_taken_is_recovered() {
    let directory = tempfile::tempdir().expect("a directory");
    let [first, second] = two_blocks(directory.path());
    let (mut store, recovered) = open(directory.path());
    assert_eq!(recovered.blocks, vec![second.clone()]);
    assert_eq!(recovered.checkpoint, checkpoint(&first.1, 5));
    assert!(store.next_number() > second.1.number);
    store
        .taken(&second.0, &checkpoint(&second.1, 10))
        .expect("written");
    // The last block taken stays for the sake of the previous checkpoint, and no other.
    assert_eq!(files(directory.path(), "block").len(), 1);
    assert!(open(directory.path()).1.blocks.is_empty());
}

#[test]
fn every_flipped_bit_and_every_truncation_of_a_block_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let [first, second] = two_blocks(directory.path());
    // The block that was taken stays beside for the sake of the checkpoint before.
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
            assert_eq!(fs::read(&recovered.set_aside[0]).expect("kept"), damaged);
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
fn a_block_under_another_name_is_not_believed() {
    let directory = tempfile::tempdir().expect("a directory");
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
fn a_damaged_checkpoint_costs_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let [first, second] = two_blocks(directory.path());
    let (mut store, _) = open(directory.path());
    store
        .taken(&second.0, &checkpoint(&second.1, 10))
        .expect("written");
    drop(store);
    let path = directory.path().join("blocks/checkpoint");
    let sound = fs::read(&path).expect("written");
    for damaged in damages(&sound) {
        fs::write(&path, &damaged).expect("written");
        let (_, recovered) = open(directory.path());
        let aside = directory.path().join("blocks/checkpoint.corrupt");
        assert_eq!(fs::read(&aside).expect("kept"), damaged);
        assert_eq!(recovered.set_aside, [aside]);
        // The one before, and the block between the two, say the same together.
        assert_eq!(recovered.checkpoint, checkpoint(&first.1, 5));
        assert_eq!(recovered.blocks, vec![second.clone()]);
    }
    // The previous checkpoint is not read while the current one is valid.
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
fn what_follows_a_damaged_block_is_asked_for_again_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut store, _) = open(directory.path());
    let tokens = [0, 5, 10].map(|after| {
        let block = Block {
            number: store.next_number(),
            entries: vec![entry(0, after, b"frames")],
        };
        store.write(&block).expect("written")
    });
    let path = directory
        .path()
        .join("blocks")
        .join(format!("{}.block", tokens[1]));
    fs::write(&path, b"FZBLOCK1 and nothing sensible").expect("written");
    let (_, recovered) = open(directory.path());
    let left: Vec<_> = recovered.blocks.iter().map(|(token, _)| token).collect();
    assert_eq!(left, [&tokens[0]]);
    assert_eq!(recovered.set_aside.len(), 2);
    let reaches: BTreeMap<_, _> = recovered.blocks[0].1.reaches();
    assert_eq!(reaches, BTreeMap::from([(key(0), 5)]));
}

#[test]
fn a_block_begun_and_not_finished_leaves_no_trace() {
    let directory = tempfile::tempdir().expect("a directory");
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
    let token = |block: &Block| block.token(&block.to_body().expect("a body"));
    assert_ne!(token(&one), token(&other));
    assert_eq!(token(&one), token(&one.clone()));
}

#[test]
fn recovered_blocks_survive_failures_between_starts() {
    let data = Path::new("/data");
    let open = |disk: &ModelDisk| Store::open(disk.clone(), data).expect("opens");
    let tokens = |disk: &ModelDisk| -> Vec<String> {
        let (_, recovered) = open(disk);
        let blocks = recovered.blocks.into_iter();
        blocks.map(|(token, _)| token).collect()
    };
    let mut found = [0, 0];
    for operation in 0.. {
        let disk = ModelDisk::new(1);
        let (mut store, _) = open(&disk);
        let block = Block {
            number: store.next_number(),
            entries: vec![entry(0, 0, b"five events")],
        };
        disk.inject_fault_at(disk.operations() + operation, Fault::Stop);
        let written = store.write(&block);
        if let Ok(token) = &written {
            let after = disk.after_power_loss(Loss::Everything);
            assert_eq!(tokens(&after), std::slice::from_ref(token));
        }
        // Killed there and started again, it relies on what it finds.
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
