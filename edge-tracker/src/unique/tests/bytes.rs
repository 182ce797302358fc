//! Flips every bit and tries every length of the saved files: a damaged file is set aside, the others count, and all
//! events are to be replayed.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const COVERS: [(u8, u64); 2] = [(0, 24), (3, 25)];

/// A day in three generations of eight hours, small enough to try every bit.
fn small() -> UniqueSettings {
    UniqueSettings {
        generations: 3,
        shards: 2,
        expected_visits: 60,
        ..UniqueSettings::default()
    }
}

/// The files of filters with visitor `n` at each hour `n` of a day.
fn saved(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let filters = Filters::new(&small()).expect("valid settings");
    for hour in 0..24 {
        visit(&filters, hour, at(hour));
    }
    filters.save(dir, &COVERS).expect("saved");
    let entries = fs::read_dir(dir).expect("directory listing");
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths
        .map(|path| (path.clone(), fs::read(path).expect("readable")))
        .collect()
}

fn load(dir: &Path) -> (Filters, Snapshot) {
    Filters::load(&small(), dir, at(23)).expect("valid settings")
}

/// The number of known visitors of the generation that began at this hour.
fn known(filters: &Filters, since: u64) -> usize {
    (since..since + 8)
        .filter(|number| visit(filters, *number, at(23)))
        .count()
}

#[test]
fn flipped_bit_or_truncation_costs_one_file() {
    let dir = TempDir::new().expect("temporary directory");
    let files = saved(dir.path());
    assert_eq!(files.len(), 3 + 1);
    let mut trials = 0;
    for (path, sound) in &files {
        let flipped = (0..sound.len() * 8).map(|bit| {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            (format!("bit {bit}"), bytes)
        });
        let cut = (0..sound.len()).map(|len| (format!("cut to {len}"), sound[..len].to_vec()));
        for (damage, bytes) in flipped.chain(cut) {
            let case = format!("{}, {damage}", path.display());
            fs::write(path, &bytes).expect("writable");
            let (filters, snapshot) = load(dir.path());
            assert_eq!(snapshot.set_aside, 1, "{case}");
            assert!(snapshot.covers.is_empty(), "{case}");
            let set_aside = PathBuf::from(format!("{}.corrupt", path.display()));
            assert_eq!(fs::read(&set_aside).expect("file kept"), bytes, "{case}");
            let manifest = path.ends_with("manifest");
            assert_eq!(snapshot.generations, if manifest { 3 } else { 2 }, "{case}");
            let whole = [0, 8, 16].map(|since| known(&filters, since) == 8);
            let lost = whole.iter().filter(|whole| !**whole).count();
            assert_eq!(lost, usize::from(!manifest), "{case}");
            fs::remove_file(set_aside).expect("removable");
            fs::write(path, sound).expect("writable");
            trials += 1;
        }
    }
    let (_, snapshot) = load(dir.path());
    assert_eq!((snapshot.set_aside, snapshot.covers), (0, COVERS.to_vec()));
    println!("{trials} starts");
}

#[test]
fn file_with_more_entries_than_bits_is_rejected() {
    /// Magic, version, fingerprint and index come before the entries of the first shard.
    const ENTRIES: usize = 8 + 2 + 8 + 8;
    let dir = TempDir::new().expect("temporary directory");
    let files = saved(dir.path());
    for (path, sound) in files.iter().filter(|(path, _)| !path.ends_with("manifest")) {
        let mut body = sound[..sound.len() - 4].to_vec();
        body[ENTRIES..ENTRIES + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let checksum = crc32c::crc32c(&body).to_le_bytes();
        fs::write(path, [&body[..], &checksum].concat()).expect("writable");
    }
    let (_, snapshot) = load(dir.path());
    assert_eq!((snapshot.set_aside, snapshot.generations), (3, 0));
}
