//! The real disk does what the trait promises.
#![allow(missing_docs)]

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;
use storage::{Disk, File as _, Storage as _, create_dir_all};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

#[test]
fn names_are_created_listed_renamed_and_removed() {
    let dir = directory();
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
    assert!(!Disk.exists(&a).expect("looked up"));
    for path in [&b, &a] {
        drop(Disk.create_new(path).expect("created"));
    }
    assert!(Disk.exists(&a).expect("looked up"));
    let again = Disk.create_new(&a).expect_err("the name is in use");
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        Disk.list(dir.path()).expect("listed"),
        [a.clone(), b.clone()]
    );
    Disk.rename(&a, &b).expect("renamed");
    let expected = std::slice::from_ref(&b);
    assert_eq!(Disk.list(dir.path()).expect("listed"), expected);
    Disk.remove(&b).expect("removed");
    assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    assert!(Disk.remove(&b).is_err() && Disk.sync_dir(&b).is_err());
    Disk.sync_dir(dir.path()).expect("synced");
}

#[test]
fn file_has_its_length_its_bytes_and_its_space() {
    let dir = directory();
    let file = Disk.create(&dir.path().join("file")).expect("created");
    file.write_all_at(b"bytes", 10).expect("written");
    assert_eq!(file.len().expect("read"), 15);
    let mut bytes = [0; 6];
    file.read_exact_at(&mut bytes, 9).expect("read");
    assert_eq!(&bytes, b"\0bytes");
    file.set_len(12).expect("truncated");
    assert_eq!(file.len().expect("read"), 12);
    file.allocate(1 << 20).expect("allocated");
    let metadata = file.metadata().expect("read");
    assert!(metadata.len() == 1 << 20 && metadata.blocks() * 512 >= 1 << 20);
    file.sync().expect("synced");
    let (pipe, _writer) = std::io::pipe().expect("pipe");
    let unsyncable = fs::File::from(OwnedFd::from(pipe));
    assert!(unsyncable.sync().is_err(), "a pipe can't be synced");
}

#[test]
fn lock_is_exclusive_until_it_is_dropped() {
    let dir = directory();
    let path = dir.path().join("lock");
    let lock = Disk.try_lock(&path).expect("no error");
    assert!(lock.is_some());
    assert!(Disk.try_lock(&path).expect("no error").is_none());
    drop(lock);
    assert!(Disk.try_lock(&path).expect("no error").is_some());
}

#[test]
fn clock_moves_and_random_numbers_differ() {
    let first = Disk.now();
    while Disk.now() <= first + Duration::from_micros(1) {}
    let numbers = [(); 3].map(|()| Disk.random().expect("random"));
    assert!(numbers[0] != numbers[1] && numbers[1] != numbers[2]);
}

#[test]
fn directory_that_appears_meanwhile_is_no_error() {
    let dir = directory();
    let path = dir.path().join("directory");
    // It does not exist, and can't be created either.
    std::os::unix::fs::symlink(dir.path().join("absent"), &path).expect("linked");
    create_dir_all(&Disk, &path).expect("as if another process created it");
}

/// The only test here that depends on the working directory.
#[test]
fn directories_are_created_below_the_working_directory() {
    let dir = directory();
    std::env::set_current_dir(dir.path()).expect("changed");
    create_dir_all(&Disk, Path::new("a/b")).expect("created");
    create_dir_all(&Disk, Path::new("a/b")).expect("exists");
    assert!(dir.path().join("a/b").is_dir());
}
