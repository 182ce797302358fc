//! The real programs, started with the umask that most systems have: what they create in their data
//! directories is accessible to their own user only.
#![allow(missing_docs)]

mod common;

use common::{await_condition, click};
use loadtest::affiliates::Tracker;
use loadtest::clickhouse::Analyst;
use loadtest::stack::{Stack, Wiring};
use rustix::fs::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const PROGRAMS: [&str; 3] = ["edge-1", "aggregator", "clickhouse"];

fn mode(path: &Path) -> u32 {
    let metadata = fs::symlink_metadata(path).expect("there");
    metadata.permissions().mode() & 0o777
}

/// Every file and directory below `dir`, and `dir` itself.
fn all_below(dir: &Path, found: &mut Vec<PathBuf>) {
    found.push(dir.into());
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        match fs::symlink_metadata(&path).expect("there").file_type() {
            kind if kind.is_dir() => all_below(&path, found),
            // The mode of a symbolic link has no meaning.
            kind if kind.is_symlink() => {}
            _ => found.push(path),
        }
    }
}

#[test]
fn programs_create_only_private_files() {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let folder = tempfile::tempdir().expect("a directory");
    // As an operator may have made them.
    for program in PROGRAMS {
        let dir = folder.path().join(program);
        fs::create_dir(&dir).expect("made");
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("settable");
    }
    let tracker = Tracker::start().expect("a port");
    let wiring = Wiring {
        functions: true,
        aggregator_settings: tracker.settings(folder.path()).expect("written"),
        ..Wiring::default()
    };
    let stack = Stack::start_wired(folder.path(), 1, None, &wiring, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    click(&stack, "test");
    let log = folder.path().join("aggregator.log");
    await_condition("the click in ClickHouse", || {
        analyst
            .counts("test")
            .is_ok_and(|counts| counts.flagged + counts.clicks == 1)
    });
    let store = folder.path().join("aggregator/store/store.sqlite");
    await_condition("the store", || store.exists());
    stack.stop().expect("stops");
    let mut found = Vec::new();
    for program in PROGRAMS {
        let before = found.len();
        all_below(&folder.path().join(program), &mut found);
        assert!(found.len() > before + 3, "{program} made nothing");
    }
    for name in ["secrets.toml", "tls"] {
        found.push(folder.path().join(name));
    }
    let exposed: Vec<_> = found
        .iter()
        .filter(|path| mode(path) & 0o077 != 0)
        .collect();
    assert!(exposed.is_empty(), "accessible to others: {exposed:#?}");
    let log = fs::read_to_string(log).expect("readable");
    assert!(
        log.contains("other users could access the data directory"),
        "{log}"
    );
}
