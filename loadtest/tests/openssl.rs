//! The documented commands for certificates of an own authority, run with the real openssl: an edge ships with its
//! certificate, and no longer does so once it is revoked.
#![allow(missing_docs)]

mod common;

use common::{click, wait_until};
use loadtest::clickhouse::Analyst;
use loadtest::stack::Stack;
use loadtest::verify;
use std::path::Path;
use std::process::Command;

/// The code block of docs/operations.md with this start.
fn documented(begins: &str) -> &'static str {
    let text = include_str!("../../docs/operations.md");
    let mut blocks = text.split("```sh\n").skip(1);
    let block = blocks
        .find(|block| block.starts_with(begins))
        .expect("block");
    block.split_once("```").expect("closing fence").0
}

fn run(dir: &Path, commands: &str) {
    let mut shell = Command::new("sh");
    let output = shell.args(["-eu", "-c", commands]).current_dir(dir);
    let output = output.output().expect("shell");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{errors}; cargo xtask test installs openssl"
    );
}

#[test]
fn documented_openssl_certificates_connect_and_are_revoked() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let tls = directory.path().join("tls");
    std::fs::create_dir(&tls).expect("created");
    // The first edge of a stack is node 1.
    let commands = documented("umask 077").replace("node=7", "node=1");
    run(&tls, &commands);
    for (from, to) in [("aggregator-tls", "aggregator"), ("edge-1-tls", "edge-1")] {
        std::fs::rename(tls.join(from), tls.join(to)).expect("renamed");
    }

    let stack = Stack::start(directory.path(), 1, None, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    click(&stack, "openssl");
    wait_until("the click in ClickHouse", || {
        let counts = analyst.counts("openssl");
        counts.is_ok_and(|counts| counts.flagged + counts.clicks == 1)
    });

    let revoke = documented("openssl x509 -noout -fingerprint");
    let revoke = revoke
        .replace("edge-7-tls", "edge-1")
        .replace("aggregator-tls", "aggregator");
    run(&tls, &revoke);
    wait_until("the edge is refused", || {
        let admin = &stack.aggregator_admin_url;
        let refused = "aggregator_refused_total";
        let count = verify::labelled_counter(admin, refused, "reason=\"revoked\"");
        count.is_ok_and(|count| count > 0.0)
    });
    stack.stop().expect("stops");
}
