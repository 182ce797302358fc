//! Restored and cloned edge directories, with real processes: every answered click is stored exactly once.
#![allow(missing_docs)]

use loadtest::clickhouse::Analyst;
use loadtest::replay::{self, Outcome};
use loadtest::stack::Stack;
use loadtest::{links, traffic, verify};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const LINES: u64 = 300;
/// Debug builds on two busy cores still answer this many.
const RATE: f64 = 500.0;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);

struct Copies {
    stack: Stack,
    analyst: Analyst,
    log: PathBuf,
    // Dropped last, after the processes that use it.
    dir: tempfile::TempDir,
}

impl Copies {
    /// Starts one edge, or two.
    fn start(edges: u16) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("sample.log");
        let mut file = fs::File::create(&log).expect("file created");
        traffic::write(7, LINES, &mut file).expect("written");
        let stack = Stack::start(dir.path(), edges, None, |_| {}).expect("starts");
        let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
        Self {
            stack,
            analyst,
            log,
            dir,
        }
    }

    fn replay(&self, run: &str, targets: &[String]) -> Outcome {
        let options = replay::Options {
            log: self.log.clone(),
            targets: targets.to_vec(),
            slugs: links::sample_slugs(),
            rate: Some(RATE),
            connections: 4,
            limit: None,
            repeat: 1,
            run: run.into(),
            progress: false,
            stop: Arc::default(),
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
        let comparison =
            verify::verify(&self.analyst, outcome, 0, ARRIVAL_TIMEOUT).expect("comparable");
        assert_eq!(
            (
                comparison.missing,
                comparison.duplicated,
                comparison.wrong_ids
            ),
            (0, 0, 0),
            "{}: {comparison:?}",
            outcome.run
        );
    }

    fn data(&self, edge: u16) -> PathBuf {
        self.dir.path().join(format!("edge-{edge}"))
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
    let urls = copies.stack.edge_urls.clone();
    let first = copies.replay("first", &urls);
    copies.assert_once(&first);
    copies.stack.edges[0].stop().expect("stops");
    let backup = copies.dir.path().join("backup");
    replace_dir(&copies.data(1), &backup);

    // Later clicks are in ClickHouse but not in the copy.
    copies.stack.edges[0].restart().expect("starts");
    let second = copies.replay("second", &urls);
    copies.assert_once(&second);
    copies.stack.edges[0].kill().expect("killed");
    replace_dir(&backup, &copies.data(1));

    copies.stack.edges[0].restart().expect("starts");
    let third = copies.replay("third", &urls);
    copies.assert_once(&third);
    copies.assert_once(&first);
    copies.assert_once(&second);
}

#[test]
fn cloned_edge_directory_stores_each_click_once() {
    let mut copies = Copies::start(2);
    let urls = copies.stack.edge_urls.clone();
    let first = copies.replay("first", &urls[..1]);
    copies.assert_once(&first);
    for edge in &mut copies.stack.edges {
        edge.stop().expect("stops");
    }
    replace_dir(&copies.data(1), &copies.data(2));
    let settings = copies.dir.path().join("edge-2.toml");
    let text = fs::read_to_string(&settings).expect("readable");
    let text = text.replace("node = 2", "node = 1");
    // The certificate names its node.
    let text = text.replace("tls/edge-2\"", "tls/edge-1\"");
    fs::write(&settings, text).expect("written");
    for edge in &mut copies.stack.edges {
        edge.restart().expect("starts");
    }
    let both = copies.replay("both", &urls);
    copies.assert_once(&both);
    copies.assert_once(&first);
}
