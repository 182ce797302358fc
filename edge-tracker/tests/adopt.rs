//! `edge-tracker adopt` with real processes: the journal of a lost edge is shipped under that edge's identity, once, by
//! the settings of another edge.
#![allow(missing_docs)]

mod harness;

use harness::aggregator::StoringAggregator;
use harness::drain::{fails, succeeds};
use harness::{Edge, LINKS};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tracking_events::{Event, Flags};

/// A killed edge of node 7 with events that were not acknowledged, and the settings of node 8 on another host.
struct Orphan {
    aggregator: StoringAggregator,
    lost: tempfile::TempDir,
    other: tempfile::TempDir,
}

const CLICKS: usize = 40;

impl Orphan {
    fn new() -> Self {
        let lost = tempfile::tempdir().expect("temporary directory");
        let aggregator = StoringAggregator::start(&lost.path().join("data"));
        aggregator.acknowledge(false);
        let edge = Edge::shipping_to(lost, &aggregator.address.to_string());
        for _ in 0..CLICKS {
            assert_eq!(edge.get("/c/spring?sub1=x").status, 302);
        }
        let lost = edge.kill9();
        aggregator.acknowledge(true);
        let other = tempfile::tempdir().expect("temporary directory");
        let settings = fs::read_to_string(lost.path().join("edge.toml")).expect("read");
        let settings = settings.replace("node = 7", "node = 8").replace(
            &lost.path().display().to_string(),
            &other.path().display().to_string(),
        );
        fs::write(other.path().join("edge.toml"), settings).expect("written");
        fs::write(other.path().join("links.toml"), LINKS).expect("written");
        Self {
            aggregator,
            lost,
            other,
        }
    }

    fn config(&self) -> PathBuf {
        self.other.path().join("edge.toml")
    }

    fn data(&self) -> PathBuf {
        self.lost.path().join("data")
    }

    fn adopt(&self) -> String {
        succeeds("adopt", &self.config(), &["--data-dir", text(&self.data())])
    }

    /// Fails with `code`, and names `said`.
    fn refuses(&self, dir: &Path, more: &[&str], code: i32, said: &[&str]) {
        let arguments = [&["--data-dir", text(dir)], more].concat();
        let error = fails("adopt", &self.config(), &arguments, code);
        for said in said {
            assert!(error.contains(said), "{said:?} is not in {error:?}");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn orphan_is_shipped_once_under_its_own_identity() {
    let orphan = Orphan::new();
    let said = orphan.adopt();
    assert!(
        said.contains("holds no event that is not in ClickHouse"),
        "{said}"
    );
    assert_eq!(orphan.aggregator.clicks(), CLICKS);
    assert_eq!(orphan.aggregator.nodes(), [7]);
    // Again it is harmless.
    orphan.adopt();
    assert_eq!(orphan.aggregator.clicks(), CLICKS);
}

#[test]
fn adopted_directory_serves_its_edge_again() {
    let orphan = Orphan::new();
    orphan.adopt();
    let Orphan {
        aggregator, lost, ..
    } = orphan;
    let edge = Edge::from_settings(lost);
    assert_eq!(edge.get("/c/spring?sub1=x").status, 302);
    succeeds(
        "drain",
        &edge.dir.path().join("edge.toml"),
        &["--delay", "0s"],
    );
    let repeated = aggregator.events(|event| match event {
        Event::Click(visit) => Some(visit.flags.any(Flags::REPEATED)),
        _ => None,
    });
    // The visit is not unique: the filters did not lose the adopted ones.
    assert_eq!((repeated.len(), repeated.last()), (CLICKS + 1, Some(&true)));
}

#[test]
fn directory_without_format_is_adopted_by_the_configured_node() {
    let orphan = Orphan::new();
    fs::remove_file(orphan.data().join("format.toml")).expect("removed");
    let own = orphan.lost.path().join("edge.toml");
    succeeds("adopt", &own, &["--data-dir", text(&orphan.data())]);
    assert_eq!(orphan.aggregator.clicks(), CLICKS);
    assert_eq!(orphan.aggregator.nodes(), [7]);
}

#[test]
fn unusable_directories_and_certificates_are_refused() {
    let orphan = Orphan::new();
    let (data, scratch) = (orphan.data(), orphan.other.path().join("scratch"));
    fs::create_dir_all(&scratch).expect("created");
    let absent = scratch.join("absent");
    orphan.refuses(&absent, &[], 1, &["absent", "No such file"]);
    orphan.refuses(
        &scratch,
        &[],
        1,
        &["is not the data directory of an edge", "spool.id"],
    );
    orphan.refuses(&orphan.config(), &[], 1, &["is not a directory"]);
    let journal = data.join("journal");
    orphan.refuses(
        &journal,
        &[],
        1,
        &["is a journal itself; name the directory above it"],
    );

    let other_tls = scratch.join("tls");
    let other = event_shipping::tls::Subject::Edge(vec![8]);
    event_shipping::tls::load_or_create(&other_tls, &other).expect("issued");
    let with_other = ["--tls-dir", text(&other_tls)];
    orphan.refuses(
        &data,
        &with_other,
        1,
        &["the journal is one of node 7", "8"],
    );

    let format = data.join("format.toml");
    let sound = fs::read_to_string(&format).expect("read");
    fs::write(&format, sound.replace("format = 1", "format = 2")).expect("written");
    orphan.refuses(&data, &[], 1, &["has format 2", "a later version wrote it"]);
    fs::write(&format, sound.replace("\"edge\"", "\"aggregator\"")).expect("written");
    orphan.refuses(&data, &[], 1, &["another kind: aggregator, not edge"]);
    fs::write(&format, &sound).expect("written");

    // A file that can't be read even by root.
    let checkpoint = journal.join("lane-0/checkpoint");
    // It was written if a batch was sealed before the kill.
    let _ = fs::remove_file(&checkpoint);
    symlink(&checkpoint, &checkpoint).expect("linked");
    orphan.refuses(&data, &[], 1, &["lane-0", "symbolic links"]);
    fs::remove_file(&checkpoint).expect("found");
    // Nothing was changed: it can still be adopted.
    orphan.adopt();
    assert_eq!(orphan.aggregator.clicks(), CLICKS);
}

#[test]
fn directory_in_use_is_refused() {
    let orphan = Orphan::new();
    let lock = event_journal::open(&event_journal::Options {
        dir: orphan.data().join("journal"),
        lanes: 0,
        format_version: tracking_events::FORMAT_VERSION,
        segment_bytes: 1 << 20,
        max_bytes: 1 << 30,
        sync_interval: std::time::Duration::from_secs(1),
    });
    let lock = lock.expect("the only one");
    orphan.refuses(&orphan.data(), &[], 4, &["has the journal of", "open"]);
    fails("drain", &orphan.lost.path().join("edge.toml"), &[], 4);
    drop(lock);
    let Orphan {
        aggregator,
        lost,
        other,
    } = orphan;
    let edge = Edge::from_settings(lost);
    let data = edge.dir.path().join("data");
    let config = other.path().join("edge.toml");
    let error = fails("adopt", &config, &["--data-dir", text(&data)], 4);
    assert!(error.contains("a running edge is drained"), "{error}");
    assert_eq!(edge.get("/c/spring").status, 302, "it still serves");
    drop(aggregator);
}

#[test]
fn edge_refuses_directories_of_other_nodes_and_later_versions() {
    let orphan = Orphan::new();
    let config = orphan.lost.path().join("edge.toml");
    let settings = fs::read_to_string(&config).expect("read");
    fs::write(&config, settings.replace("node = 7", "node = 9")).expect("written");
    for command in ["check", "serve"] {
        let error = fails(command, &config, &[], 1);
        assert!(
            error.contains("belongs to node 7, not to node 9"),
            "{error}"
        );
    }
    fs::write(&config, settings).expect("written");
    let format = orphan.data().join("format.toml");
    let text = fs::read_to_string(&format).expect("read");
    fs::write(&format, text.replace("format = 1", "format = 9")).expect("written");
    let error = fails("serve", &config, &[], 1);
    assert!(error.contains("has format 9"), "{error}");
}
