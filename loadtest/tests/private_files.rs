//! The real programs under the usual umask: files in their data directories are accessible only to their own user.
#![allow(missing_docs)]

mod common;

use common::{click, wait_until};
use loadtest::affiliates::AffiliateTracker;
use loadtest::clickhouse::Analyst;
use loadtest::stack::{Stack, StackOptions};
use rustix::fs::Mode;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const PROGRAMS: [&str; 3] = ["edge-1", "aggregator", "clickhouse"];

fn mode(path: &Path) -> u32 {
    let metadata = fs::symlink_metadata(path).expect("file exists");
    metadata.permissions().mode() & 0o777
}

/// Collects `dir` and every file and directory below it.
fn all_below(dir: &Path, found: &mut Vec<PathBuf>) {
    found.push(dir.into());
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        match fs::symlink_metadata(&path)
            .expect("file exists")
            .file_type()
        {
            kind if kind.is_dir() => all_below(&path, found),
            // Symbolic links have no mode of their own.
            kind if kind.is_symlink() => {}
            _ => found.push(path),
        }
    }
}

#[test]
fn programs_create_only_private_files() {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let root = tempfile::tempdir().expect("temporary directory");
    // Directories with the mode that an operator's `mkdir` gives.
    for program in PROGRAMS {
        let data = root.path().join(program);
        fs::create_dir(&data).expect("created");
        fs::set_permissions(&data, Permissions::from_mode(0o755)).expect("permissions set");
    }
    let tracker = AffiliateTracker::start().expect("free port");
    let options = StackOptions {
        functions: true,
        aggregator_settings: tracker.settings(root.path()).expect("written"),
        ..StackOptions::default()
    };
    let stack = Stack::start_with(root.path(), 1, None, &options, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    click(&stack, "test");
    let log = root.path().join("aggregator.log");
    wait_until("the click in ClickHouse", || {
        analyst
            .counts("test")
            .is_ok_and(|counts| counts.flagged + counts.clicks == 1)
    });
    let store = root.path().join("aggregator/store/store.sqlite");
    wait_until("the store", || store.exists());
    stack.stop().expect("stops");
    let mut found = Vec::new();
    for program in PROGRAMS {
        let before = found.len();
        all_below(&root.path().join(program), &mut found);
        assert!(found.len() > before + 3, "{program} created no files");
    }
    for name in ["secrets.toml", "tls"] {
        found.push(root.path().join(name));
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
