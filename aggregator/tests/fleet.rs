//! Time and visitor salt that an aggregator shares with its edges: the present ones, and none while its clock is
//! certainly wrong.

mod common;

use common::{ClientConnection, client, page, until, without_clickhouse, write_settings};
use domain::Micros;
use event_shipping::{VisitorSalt, Welcome};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

async fn welcome(address: SocketAddr, directory: &Path) -> Welcome {
    ClientConnection::welcomed(address, client(directory))
        .await
        .1
}

async fn welcome_of_a_new_start(directory: &Path) -> Welcome {
    let settings = without_clickhouse(directory, "[visitor]\nperiod = \"1h\"");
    let running = aggregator::start(settings).await.expect("started");
    let welcome = welcome(running.listening(), directory).await;
    running.stop().await;
    welcome
}

fn salt(welcome: &Welcome) -> VisitorSalt {
    welcome.visitor_salt.expect("salt")
}

#[tokio::test]
async fn welcomes_carry_time_and_the_same_salt_after_a_restart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let before = Micros::now().0;
    let first = welcome_of_a_new_start(directory.path()).await;
    assert!((before..=Micros::now().0).contains(&first.time_micros));
    let second = welcome_of_a_new_start(directory.path()).await;
    let (first, second) = (salt(&first), salt(&second));
    let hour = Micros::now().0 / first.period_micros;
    assert_eq!(first.period_micros, 3_600_000_000);
    assert!(second.period <= hour && first.period <= second.period);
    // At the change of the hour both have advanced.
    assert!(first.period != second.period || first == second);
    let file = directory.path().join("data/visitor-salt");
    let mode = std::fs::metadata(file).expect("file exists").permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
}

struct FakedProcess(Child);

impl Drop for FakedProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn aggregator_with_an_impossible_clock_is_not_ready() {
    if !Path::new(LIBRARY).is_file() {
        eprintln!("skipped: libfaketime is needed; install it: apt-get install faketime");
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = write_settings(directory.path(), r#"url = "http://127.0.0.1:9""#, "");
    let clock = directory.path().join("clock");
    std::fs::write(&clock, "-900000000\n").expect("written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_aggregator"))
        .args(["serve", "--config"])
        .arg(&config)
        .env("LD_PRELOAD", LIBRARY)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_RESET", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    let _child = FakedProcess(child);
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("readable");
    let printed: serde_json::Value = serde_json::from_str(&line).expect("one line of JSON");
    let address = |name: &str| printed[name].as_str().and_then(|text| text.parse().ok());
    let (listening, admin): (SocketAddr, SocketAddr) = (
        address("listening").expect("valid address"),
        address("admin").expect("valid address"),
    );

    let (status, why) = page(admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("clock: the system clock shows 199"), "{why}");
    let shared = welcome(listening, directory.path()).await;
    assert_eq!((shared.time_micros, shared.visitor_salt), (0, None));

    let aside = clock.with_extension("tmp");
    std::fs::write(&aside, "+0\n").expect("written");
    std::fs::rename(aside, &clock).expect("renamed");
    until("clock trusted", async || {
        !page(admin, "/readyz").await.1.contains("clock:")
    })
    .await;
    until("there is a salt", async || {
        let shared = welcome(listening, directory.path()).await;
        shared.time_micros > 0 && shared.visitor_salt.is_some()
    })
    .await;
}
