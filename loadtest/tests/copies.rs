//! Restored and cloned edge directories, with real processes: every answered click is stored exactly once.
#![allow(missing_docs)]

mod common;

use common::{Deployment, RATE};
use loadtest::replay::{self, Outcome};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES: u64 = 300;

struct Copies(Deployment);

impl Copies {
    /// Starts one edge, or two.
    fn start(edges: u16) -> Self {
        Self(Deployment::start(edges, 7, LINES))
    }

    fn replay(&self, run: &str, targets: &[String]) -> Outcome {
        let options = replay::ReplayOptions {
            rate: Some(RATE),
            ..replay::ReplayOptions::new(&self.0.log, targets, run)
        };
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(replay::run(options)).expect("replays")
    }

    fn assert_once(&self, outcome: &Outcome) {
        assert_eq!(
            outcome.answered.len() as u64,
            LINES,
            "{:?}",
            outcome.by_status
        );
        self.0.assert_exactly_once(outcome);
    }

    fn data(&self, edge: u16) -> PathBuf {
        self.0.dir.path().join(format!("edge-{edge}"))
    }
}

fn replace_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(copied.expect("started").success());
}

#[test]
fn restored_edge_directory_stores_each_click_once() {
    let mut copies = Copies::start(1);
    let urls = copies.0.stack.edge_urls.clone();
    let first = copies.replay("first", &urls);
    copies.assert_once(&first);
    copies.0.stack.edges[0].stop().expect("stops");
    let backup = copies.0.dir.path().join("backup");
    replace_dir(&copies.data(1), &backup);

    // Later clicks are in ClickHouse but not in the copy.
    copies.0.stack.edges[0].restart().expect("starts");
    let second = copies.replay("second", &urls);
    copies.assert_once(&second);
    copies.0.stack.edges[0].kill().expect("killed");
    replace_dir(&backup, &copies.data(1));

    copies.0.stack.edges[0].restart().expect("starts");
    let third = copies.replay("third", &urls);
    copies.assert_once(&third);
    copies.assert_once(&first);
    copies.assert_once(&second);
}

#[test]
fn cloned_edge_directory_stores_each_click_once() {
    let mut copies = Copies::start(2);
    let urls = copies.0.stack.edge_urls.clone();
    let first = copies.replay("first", &urls[..1]);
    copies.assert_once(&first);
    for edge in &mut copies.0.stack.edges {
        edge.stop().expect("stops");
    }
    replace_dir(&copies.data(1), &copies.data(2));
    let settings = copies.0.dir.path().join("edge-2.toml");
    let text = fs::read_to_string(&settings).expect("readable");
    let text = text.replace("node = 2", "node = 1");
    // The certificate names its node.
    let text = text.replace("tls/edge-2\"", "tls/edge-1\"");
    fs::write(&settings, text).expect("written");
    for edge in &mut copies.0.stack.edges {
        edge.restart().expect("starts");
    }
    let both = copies.replay("both", &urls);
    copies.assert_once(&both);
    copies.assert_once(&first);
}
