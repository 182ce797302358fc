//! The files after saves, crashes and damage.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn directory() -> TempDir {
    TempDir::new().expect("temporary directory")
}

fn covers(seq: u64) -> Vec<(u8, u64)> {
    vec![(0, seq), (3, seq + 1)]
}

fn load(dir: &Path, hours: u64) -> (Filters, Snapshot) {
    Filters::load(&settings(), dir, at(hours)).expect("valid settings")
}

/// Filters with visitor `n` at each hour `n` of a day, saved.
fn saved_day(dir: &Path) -> Filters {
    let filters = filters();
    for hour in 0..24 {
        visit(&filters, hour, at(hour));
    }
    filters.save(dir, &covers(24)).expect("saved");
    filters
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("directory listing")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    files
}

fn known(filters: &Filters, hours: u64) -> Vec<u64> {
    (0..24)
        .filter(|number| visit(filters, *number, at(hours)))
        .collect()
}

#[test]
fn saved_filters_are_loaded_and_only_changes_saved_again() {
    let dir = directory();
    saved_day(dir.path());
    let (filters, snapshot) = load(dir.path(), 23);
    let expected = Snapshot {
        covers: covers(24),
        generations: 6,
        entries: 24,
        set_aside: 0,
    };
    assert_eq!(snapshot, expected);
    assert_eq!(
        filters
            .save(dir.path(), &covers(25))
            .expect("saved")
            .generations,
        0
    );
    visit(&filters, 99, at(23));
    assert_eq!(
        filters
            .save(dir.path(), &covers(26))
            .expect("saved")
            .generations,
        1
    );
    assert_eq!(load(dir.path(), 23).1.covers, covers(26));
    assert_eq!(known(&filters, 23), (0..24).collect::<Vec<_>>());
    assert!(visit(&load(dir.path(), 23).0, 99, at(23)));
}

#[test]
fn missing_snapshot_loads_empty_filters() {
    let dir = directory();
    let (filters, snapshot) = load(&dir.path().join("absent"), 0);
    assert_eq!(snapshot, Snapshot::default());
    assert!(!visit(&filters, 1, at(0)));
}

#[test]
fn expired_generations_are_not_loaded() {
    let dir = directory();
    saved_day(dir.path());
    let (filters, snapshot) = load(dir.path(), 41);
    assert_eq!((snapshot.generations, snapshot.covers), (2, covers(24)));
    assert_eq!(known(&filters, 41), (16..24).collect::<Vec<_>>());
    let (_, snapshot) = load(dir.path(), 1000);
    assert_eq!((snapshot.generations, snapshot.covers), (0, covers(24)));
}

#[test]
fn number_of_files_is_bounded() {
    let dir = directory();
    let filters = filters();
    for hour in 0..200 {
        visit(&filters, hour, at(hour));
        filters.save(dir.path(), &covers(hour)).expect("saved");
    }
    assert_eq!(files(dir.path()).len(), 7 + 1);
    assert_eq!(load(dir.path(), 199).1.generations, 7);
}

#[test]
fn crash_between_files_loses_no_covered_visit() {
    let (before, after) = (directory(), directory());
    let filters = saved_day(before.path());
    for file in files(before.path()) {
        let name = file.file_name().expect("file name");
        fs::copy(&file, after.path().join(name)).expect("copied");
    }
    for hour in 24..30 {
        visit(&filters, hour, at(hour));
    }
    let changed = filters
        .save(after.path(), &covers(30))
        .expect("saved")
        .generations;
    assert!(changed >= 2, "{changed}");
    // Generations come first and the manifest last; a partial temporary file may exist.
    let mut names: Vec<_> = files(after.path());
    names.sort_by_key(|file| file.ends_with("manifest"));
    fs::write(before.path().join("generation-00.tmp"), b"half").expect("written");
    for (step, file) in names.iter().enumerate() {
        let name = file.file_name().expect("file name");
        fs::copy(file, before.path().join(name)).expect("copied");
        let (loaded, snapshot) = load(before.path(), 29);
        let done = step + 1 == names.len();
        assert_eq!(
            snapshot.covers,
            covers(if done { 30 } else { 24 }),
            "step {step}"
        );
        assert_eq!(snapshot.set_aside, 0);
        assert_eq!(
            known(&loaded, 29),
            (4..24).collect::<Vec<_>>(),
            "step {step}"
        );
    }
}

#[test]
fn damaged_file_is_set_aside_and_all_events_replayed() {
    let damage: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes[40] ^= 1,
        |bytes| bytes.extend_from_slice(b"more"),
        |bytes| *bytes = b"a foreign file".to_vec(),
    ];
    for harm in damage {
        for victim in 0..7 {
            let dir = directory();
            saved_day(dir.path());
            let path = &files(dir.path())[victim];
            let mut bytes = fs::read(path).expect("read");
            harm(&mut bytes);
            fs::write(path, bytes).expect("written");
            let (filters, snapshot) = load(dir.path(), 23);
            assert_eq!(
                (snapshot.set_aside, &snapshot.covers),
                (1, &vec![]),
                "{path:?}"
            );
            assert!(path.with_extension("corrupt").exists() && !path.exists());
            let lost = if path.ends_with("manifest") { 0 } else { 4 };
            assert_eq!(known(&filters, 23).len(), 24 - lost);
            filters.save(dir.path(), &covers(30)).expect("saved");
            assert_eq!(load(dir.path(), 23).1.covers, covers(30));
        }
    }
}

#[test]
fn missing_generation_is_detected() {
    let dir = directory();
    saved_day(dir.path());
    fs::remove_file(&files(dir.path())[2]).expect("removed");
    let (_, snapshot) = load(dir.path(), 23);
    assert_eq!(
        (snapshot.generations, snapshot.set_aside, snapshot.covers),
        (5, 0, vec![])
    );
}

#[test]
fn files_of_other_settings_are_set_aside() {
    let dir = directory();
    saved_day(dir.path());
    let other = UniqueSettings {
        expected_visits: 1000,
        ..settings()
    };
    let (filters, snapshot) = Filters::load(&other, dir.path(), at(23)).expect("valid settings");
    assert_eq!(
        snapshot,
        Snapshot {
            set_aside: 7,
            ..Snapshot::default()
        }
    );
    assert!(!visit(&filters, 1, at(23)));
    filters.save(dir.path(), &covers(1)).expect("saved");
    let again = Filters::load(&other, dir.path(), at(23))
        .expect("valid settings")
        .1;
    assert_eq!(
        (again.generations, again.set_aside, again.covers),
        (1, 0, covers(1))
    );
}

#[test]
fn failed_save_is_made_up_by_the_next() {
    let dir = directory();
    let filters = saved_day(dir.path());
    visit(&filters, 99, at(23));
    // A directory in the place of the temporary file can't be written.
    let slot = at(23).0 / (4 * HOUR) % 7;
    let blocker = dir.path().join(format!("generation-{slot:02}.tmp"));
    fs::create_dir(&blocker).expect("directory created");
    filters
        .save(dir.path(), &covers(99))
        .expect_err("the disk refuses");
    assert_eq!(load(dir.path(), 23).1.covers, covers(24));
    fs::remove_dir(&blocker).expect("removed");
    assert_eq!(
        filters
            .save(dir.path(), &covers(99))
            .expect("saved")
            .generations,
        1
    );
    assert!(visit(&load(dir.path(), 23).0, 99, at(23)));
}

#[test]
fn save_during_visits_contains_all_covered_visits() {
    let dir = directory();
    let filters = filters();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..20_000 {
                visit(&filters, number, at(1));
                done.store(number + 1, Ordering::Release);
            }
        });
        while done.load(Ordering::Acquire) < 20_000 {
            let covered = done.load(Ordering::Acquire);
            filters.save(dir.path(), &covers(covered)).expect("saved");
            let (loaded, snapshot) = load(dir.path(), 1);
            assert_eq!(snapshot.covers, covers(covered));
            assert!((0..covered).all(|number| visit(&loaded, number, at(1))));
        }
    });
}
