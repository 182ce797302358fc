//! An edge with the deployed functions and an advertiser of each dialect.

use super::functions::deploy_with;
use super::{Edge, write_secret};
use std::process::{Command, Stdio};

pub const ADVERTISERS: &str = r#"
[plain]
links = "any"
dialect = "generic"
currency = "USD"
auth = [{ secret_parameter = { name = "token", value = "plain-secret-of-bytes" } }]
[vol]
links = "any"
dialect = "voluum"
currency = "USD"
auth = [{ secret_path = "voluum-secret-of-bytes" }]
[kei]
links = "any"
dialect = "keitaro"
currency = "USD"
auth = [{ secret_path = "keitaro-key-of-bytes" }]
path_keys = ["keitaro-key-of-bytes"]
[eve]
links = "any"
dialect = "everflow"
currency = "USD"
auth = [{ secret_parameter = { name = "verification_token", value = "everflow-secret-of-bytes" } }]
path_keys = ["321"]
[tun]
links = "any"
dialect = "tune"
currency = "USD"
auth = [{ addresses = ["127.0.0.0/8"] }]
[aff]
links = "any"
dialect = "affise"
currency = "EUR"
auth = [{ secret_parameter = { name = "secure", value = "affise-secret-of-bytes" } }]
[bin]
links = "any"
dialect = "binom"
currency = "USD"
auth = [{ secret_path = "binom-secret-of-bytes" }]
[red]
links = "any"
dialect = "redtrack"
currency = "USD"
auth = [{ secret_path = "redtrack-secret-of-bytes" }]
[cak]
links = "any"
dialect = "cake"
currency = "USD"
auth = [{ secret_path = "cake-secret-of-bytes" }]
[sig]
links = "any"
dialect = "generic"
auth = [{ hmac = { key = "a key of some length", over = "query", parameter = "sig" } }]
[far]
links = "any"
dialect = "generic"
currency = "USD"
auth = [{ addresses = ["203.0.113.0/24"] }]
[own]
dialect = "generic"
currency = "USD"
offers = ["offer-1"]
max_payout = { USD = "500.00" }
auth = [{ secret_path = "own-secret-of-bytes" }]
[another]
dialect = "generic"
currency = "USD"
links = [2]
auth = [{ secret_path = "another-secret-of-bytes" }]
[nothing]
dialect = "generic"
auth = [{ secret_path = "nothing-secret-of-bytes" }]
"#;

/// All that must not be said.
pub const SECRETS: &[&str] = &[
    "plain-secret-of-bytes",
    "voluum-secret-of-bytes",
    "keitaro-key-of-bytes",
    "everflow-secret-of-bytes",
    "affise-secret-of-bytes",
    "binom-secret-of-bytes",
    "redtrack-secret-of-bytes",
    "cake-secret-of-bytes",
    "a key of some length",
    KYC_KEY,
    "an older key of some length",
    "a newer key of some length",
];

pub const KYC_KEY: &str = "a key of at least sixteen bytes";

pub fn edge() -> Edge {
    edge_with(&["", ""])
}

/// An edge with `spin.toml` in which the first text is replaced by the second.
pub fn edge_with(replaced: &[&str; 2]) -> Edge {
    edge_of(replaced, "", "")
}

/// As [`edge_with`], with more lines in `[http]` and in `[functions]`.
pub fn edge_of(replaced: &[&str; 2], http: &str, more: &str) -> Edge {
    let dir = tempfile::tempdir().expect("temporary directory");
    let advertisers = dir.path().join("advertisers.toml");
    let variables = dir.path().join("variables.toml");
    write_secret(&advertisers, ADVERTISERS);
    write_secret(
        &variables,
        &format!("kyc_keys = \"an older key of some length,{KYC_KEY}\"\n"),
    );
    std::fs::write(dir.path().join("links.toml"), super::LINKS).expect("written");
    let manifest = deploy_with(dir.path(), replaced);
    let functions = format!(
        "{http}[functions]\nmanifest = {manifest:?}\nadvertisers = {advertisers:?}\nvariables = {variables:?}\n{more}"
    );
    Edge::start_in(dir, &functions)
}

/// The id of a click just made.
pub fn click(edge: &Edge) -> String {
    let response = edge.get("/c/spring?sub1=x");
    let id = response.location().split("cid=").nth(1).expect("click id");
    id.split('&').next().expect("click id").to_owned()
}

pub fn said(edge: &Edge, target: &str) -> (u16, String) {
    let response = edge.get(target);
    (response.status, response.text())
}

pub fn hmac(key: &str, text: &str) -> String {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", key, "-r"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let mut input = openssl.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("written");
    drop(input);
    let output = openssl.wait_with_output().expect("ended").stdout;
    let output = String::from_utf8(output).expect("text");
    output.split(' ').next().expect("digest").to_owned()
}
