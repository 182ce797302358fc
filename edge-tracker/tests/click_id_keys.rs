//! Keys of click ids rotate in two steps while an edge runs, and no postback is lost meanwhile.
#![allow(missing_docs)]

mod harness;

use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use harness::functions::deploy;
use harness::{Edge, Response, write_secret};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tracking_events::{ClickId, ClickIdParts, KeyId, KeyRing, MacKey};

const ADVERTISERS: &str = "[plain]\ndialect = \"generic\"\ncurrency = \"USD\"\n\
     links = \"any\"\n\
     auth = [{ secret_parameter = { name = \"token\", value = \"a-secret-of-16-bytes\" } }]\n";

fn edge() -> Edge {
    let dir = tempfile::tempdir().expect("temporary directory");
    let advertisers = dir.path().join("advertisers.toml");
    let variables = dir.path().join("variables.toml");
    write_secret(&advertisers, ADVERTISERS);
    write_secret(&variables, "kyc_keys = \"a key of some length\"\n");
    write_secret(&secrets_of(dir.path()), &secrets(1, &[1]));
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("written");
    let manifest = deploy(dir.path());
    Edge::start_in(
        dir,
        &format!(
            "[functions]\nmanifest = {manifest:?}\nadvertisers = {advertisers:?}\nvariables = {variables:?}\n"
        ),
    )
}

fn secrets_of(dir: &Path) -> PathBuf {
    dir.join("data/secrets.toml")
}

/// A secrets file in which key N is the digit N, 64 times.
fn secrets(active: u8, keys: &[u8]) -> String {
    let line = |key: &u8| format!("{key} = \"{}\"\n", key.to_string().repeat(64));
    let lines: String = keys.iter().map(line).collect();
    // Earlier builds had another secret here; it is ignored.
    let visitor = format!("[visitor]\nsecret = \"{}\"\n", "0".repeat(64));
    format!("[click_id]\nactive = {active}\n[click_id.keys]\n{lines}{visitor}")
}

/// The id of a click just made.
fn click(edge: &Edge) -> ClickId {
    let response = edge.get("/c/spring?sub1=x");
    let id = response.location().split("cid=").nth(1).expect("click id");
    ClickId::parse(id.split('&').next().expect("click id").as_bytes()).expect("click id")
}

fn key_of(id: &ClickId) -> u8 {
    id.as_bytes()[18] & 31
}

fn postback(edge: &Edge, id: &ClickId) -> Response {
    edge.get(&format!(
        "/postback/plain?token=a-secret-of-16-bytes&click_id={id}&payout=1"
    ))
}

/// The id of a click at another edge, signed with key N.
fn click_elsewhere(key: u8) -> ClickId {
    let id = KeyId::new(key).expect("below 32");
    let mut secret = [0; 32];
    secret.fill(key << 4 | key);
    let ring = KeyRing::new(id, [(id, MacKey::new(secret))]).expect("its key is there");
    ring.sign(ClickIdParts {
        time: Micros::now(),
        node: NodeId(3),
        lane: LaneId(0),
        seq: Seq(1),
        link: LinkId(1),
    })
}

/// Ends the sender also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn key_rotation_with_postbacks_in_flight_loses_none() {
    let edge = edge();
    let file = secrets_of(edge.dir.path());
    let before = click(&edge);
    assert_eq!(key_of(&before), 1);
    let rotated = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let _end = SetOnDrop(&rotated);
        let sender = threads.spawn(|| {
            let mut sent = 0;
            while !rotated.load(Ordering::Relaxed) || sent < 20 {
                let id = click(&edge);
                let response = postback(&edge, &id);
                assert_eq!(
                    response.status,
                    200,
                    "key {}: {}",
                    key_of(&id),
                    response.text()
                );
                sent += 1;
            }
        });
        write_secret(&file, &secrets(1, &[1, 2]));
        edge.await_metric("edge_reloads_total", "secrets\",outcome=\"loaded", 1);
        assert_eq!(key_of(&click(&edge)), 1, "the first step only verifies");
        assert_eq!(postback(&edge, &click_elsewhere(2)).status, 200);
        write_secret(&file, &secrets(2, &[1, 2]));
        edge.await_metric("edge_reloads_total", "secrets\",outcome=\"loaded", 2);
        assert_eq!(key_of(&click(&edge)), 2);
        rotated.store(true, Ordering::Relaxed);
        sender.join().expect("no postback was refused");
    });
    assert_eq!(
        postback(&edge, &before).status,
        200,
        "clicks before the rotation still convert"
    );
}

#[test]
fn unknown_key_is_retried_until_the_edge_has_it() {
    let edge = edge();
    let id = click_elsewhere(3);
    let response = postback(&edge, &id);
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(
        response.text().starts_with("refused: 126 "),
        "{}",
        response.text()
    );
    assert!(response.header("retry-after").is_some());
    write_secret(&secrets_of(edge.dir.path()), &secrets(1, &[1, 3]));
    edge.await_metric("edge_reloads_total", "secrets\",outcome=\"loaded", 1);
    assert_eq!(postback(&edge, &id).status, 200);
}

#[test]
fn wrong_secrets_file_changes_nothing_and_is_logged() {
    let edge = edge();
    let file = secrets_of(edge.dir.path());
    let hidden = "ab".repeat(32);
    let mut refused = 0;
    for wrong in [
        format!("[click_id]\nactive = \"{hidden}\"\n[click_id.keys]\n1 = \"{hidden}\"\n"),
        format!("[click_id]\nactive = 1\nkeys = \"{hidden}\"\n"),
        format!("[click_id]\nactive = 1\n[click_id.keys]\n1 = {hidden}\n"),
        format!("[click_id]\nactive = 1\n[click_id.keys]\n1 = \"{hidden}ab\"\n"),
        format!("[click_id]\nactive = 2\n[click_id.keys]\n1 = \"{hidden}\"\n"),
        format!("[click_id]\nactive = 1\n[click_id.keys]\n77 = \"{hidden}\"\n"),
    ] {
        write_secret(&file, &wrong);
        refused += 1;
        edge.await_metric("edge_reloads_total", "secrets\",outcome=\"refused", refused);
        let id = click(&edge);
        assert_eq!((key_of(&id), postback(&edge, &id).status), (1, 200));
    }
    let log = edge.log();
    assert!(!log.contains(&hidden[..16]), "{log}");
    for line in [2, 3, 4] {
        assert!(
            log.contains(&format!("secrets.toml:{line}: ")),
            "line {line} in {log}"
        );
    }
}
