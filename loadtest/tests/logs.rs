//! The real programs with `log.format = "json"`: every line is an object, and no secret is in any.
#![allow(missing_docs)]

mod common;

use common::{click, wait_until};
use loadtest::clickhouse::Analyst;
use loadtest::stack::{Stack, StackOptions};
use serde_json::Value;
use std::fs;
use std::path::Path;

const JSON: &str = "[log]\nformat = \"json\"\n";
/// Of the demo's advertisers and identity service.
const SECRETS: [&str; 3] = [
    "demo-secret-of-voluum",
    "demo-secret-of-keitaro",
    "demo key of the identity service",
];

fn lines(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    text.lines().map(parse).collect()
}

fn assert_complete(line: &Value) {
    for key in ["timestamp", "level", "target", "message"] {
        // The SQL library's events have a statement instead of a message.
        let is_optional = key == "message" && line["target"] == "sqlx::query";
        assert!(
            is_optional || line[key].is_string(),
            "{key} is absent in {line}"
        );
    }
}

/// Secrets in a file of settings: every value in quotes that is long enough to be one.
fn values(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("readable");
    let quoted = text.split('"').skip(1).step_by(2);
    quoted
        .filter(|it| it.len() >= 16)
        .map(str::to_owned)
        .collect()
}

#[test]
fn json_log_lines_are_objects_without_secrets() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = StackOptions {
        functions: true,
        edge_settings: JSON.into(),
        aggregator_settings: JSON.into(),
        environment: vec![("RUST_LOG".into(), "debug".into())],
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir.path(), 1, None, &options, |_| {}).expect("starts");
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials).expect("readable");
    click(&stack, "private-source-of-a-visitor");
    // A sender with the right secret and a wrong click id, and a file with an error beside a secret.
    let postback = format!("{}/postback/{}?cid=forged", stack.edge_urls[0], SECRETS[0]);
    assert!(ureq::get(postback).call().is_err());
    let advertisers = dir.path().join("advertisers.toml");
    let valid = fs::read_to_string(&advertisers).expect("readable");
    fs::write(&advertisers, format!("{valid}\n[broken]\noffers = 1\n")).expect("written");
    let log = |name: &str| fs::read_to_string(dir.path().join(name)).expect("log");
    wait_until("the refusal in the log", || {
        log("edge-1.log").contains("\"WARN\"")
    });
    wait_until("the click in ClickHouse", || {
        let counts = analyst.counts("private-source-of-a-visitor");
        counts.is_ok_and(|counts| counts.flagged + counts.clicks == 1)
    });
    let second = stack.edges[0].run_command(&["serve"]);
    let second = second
        .expect_err("one process for each directory")
        .to_string();
    let (_, second) = second.split_once(": ").expect("its standard error");
    let mut secrets: Vec<String> = SECRETS.map(str::to_owned).into();
    secrets.push("private-source-of-a-visitor".into());
    secrets.extend(values(&dir.path().join("secrets.toml")));
    secrets.extend(values(&stack.credentials));
    stack.stop().expect("stops");
    for (text, program) in [
        (log("edge-1.log"), "edge"),
        (log("aggregator.log"), "aggregator"),
        (second.to_owned(), "second edge"),
    ] {
        let lines = lines(&text);
        assert!(!lines.is_empty(), "{program} logged nothing");
        lines.iter().for_each(assert_complete);
        let found: Vec<&String> = secrets.iter().filter(|it| text.contains(*it)).collect();
        assert!(found.is_empty(), "{program} logged {found:?}");
    }
    let last = lines(second).pop().expect("the error");
    assert_eq!(
        (&last["level"], &last["program"]),
        (&"ERROR".into(), &"edge-tracker".into())
    );
    assert!(
        last["error"].as_str().is_some_and(|it| !it.is_empty()),
        "{last}"
    );
}
