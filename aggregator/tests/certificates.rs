//! The commands that create an authority and issue certificates.

use event_shipping::tls::{self, IdentityFiles, Role};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn run(directory: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aggregator"))
        .current_dir(directory)
        .args(arguments.split(' '))
        .output()
        .expect("program runs")
}

fn succeed(directory: &Path, arguments: &str) -> String {
    let output = run(directory, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn fail(directory: &Path, arguments: &str) -> String {
    let output = run(directory, arguments);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn issued_certificates_name_their_node() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let dir = directory.path();
    succeed(dir, "create-authority --out tls/authority");
    let printed = succeed(
        dir,
        "issue-edge-certificate --node 7 --days 90 --authority tls/authority --out edge-7",
    );
    let identity =
        tls::load(&IdentityFiles::of(&dir.join("edge-7"), Role::Edge)).expect("readable");
    identity.require_node(7).expect("certificate of the node");
    assert_eq!(identity.certificate().nodes(), [7]);
    let fingerprint = identity.certificate().fingerprint().to_string();
    assert!(printed.contains(&fingerprint), "{printed}");

    // By default, the authority is in a directory next to --out.
    succeed(dir, "issue-aggregator-certificate --out tls/aggregator");
    let files = IdentityFiles::of(&dir.join("tls/aggregator"), Role::Aggregator);
    let aggregator = tls::load(&files).expect("readable");
    let trust = aggregator.trust().expect("usable");
    trust.check(identity.certificate()).expect("trusted");

    let mut names: Vec<_> = std::fs::read_dir(dir.join("edge-7"))
        .expect("directory created")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["ca.pem", "edge.key", "edge.pem"]);
    for (name, mode) in [("edge-7", 0o700), ("edge-7/edge.key", 0o600)] {
        let metadata = std::fs::metadata(dir.join(name)).expect("directory created");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn existing_files_are_never_overwritten() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let dir = directory.path();
    succeed(dir, "create-authority --out authority");
    let key = std::fs::read(dir.join("authority/ca.key")).expect("directory created");
    let printed = fail(dir, "create-authority --out authority");
    assert!(printed.contains("name a new directory"), "{printed}");
    assert_eq!(
        std::fs::read(dir.join("authority/ca.key")).expect("file kept"),
        key
    );
    succeed(dir, "issue-edge-certificate --node 7 --out edge-7");
    let printed = fail(dir, "issue-edge-certificate --node 8 --out edge-7");
    assert!(printed.contains("name a new directory"), "{printed}");
    let mut left: Vec<_> = std::fs::read_dir(dir)
        .expect("readable")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["authority", "edge-7"]);
}

#[test]
fn missing_authority_and_wrong_arguments_are_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let printed = fail(
        directory.path(),
        "issue-edge-certificate --node 7 --out edge-7",
    );
    assert!(printed.contains("aggregator create-authority"), "{printed}");
    let printed = fail(
        directory.path(),
        "issue-edge-certificate --node 0 --out edge-0",
    );
    assert!(printed.contains("--node"), "{printed}");
    let printed = fail(directory.path(), "create-authority --out a --days 4000");
    assert!(printed.contains("1..=3650"), "{printed}");
}
