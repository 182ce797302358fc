//! ClickHouse and PostgreSQL over TLS: servers with a certificate of the right authority are used, all others refused,
//! and plain text leaves this machine only if the operator allows it.

mod common;

use aggregator::settings;
use common::authority::Authority;
use common::edge::Edge;
use common::engine::Engine;
use common::reports::{CYCLE, report};
use common::{NODE, PORTS, client, page, until, write_private, write_settings};
use sql_store::test_server::TestServer;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const PASSWORD: &str = "hush: it's a secret";

/// A PostgreSQL server that over TCP refuses plain text and asks for [`PASSWORD`], and its URL without parameters.
fn encrypted_postgres(authority: &Authority) -> (TestServer, String) {
    let _alone = PORTS.lock();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
    let port = free.local_addr().expect("bound").port();
    drop(free);
    let options = [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "ssl=on",
        "ssl_cert_file=server.crt",
        "ssl_key_file=server.key",
    ];
    let server = TestServer::start_with(&options, |data| {
        authority.issue().write(data);
        let access = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), access).expect("written");
    });
    let password = PASSWORD.replace('\'', "''");
    server.execute(&format!("ALTER USER postgres PASSWORD '{password}'"));
    let url = format!("postgres://postgres@localhost:{port}/postgres");
    (server, url)
}

async fn start(directory: &Path, clickhouse: &str, more: &str) -> aggregator::AggregatorHandle {
    let path = write_settings(directory, clickhouse, more);
    let settings = settings::read(&path).expect("valid settings");
    aggregator::start(settings).await.expect("started")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_reach_both_databases_over_tls() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let authority = Authority::new();
    let ca = authority.write(directory.path().join("databases.pem"));
    let engine = Engine::start(directory.path());
    let endpoint = authority.issue().terminate(engine.port()).await;
    let url = format!("https://localhost:{}", endpoint.port());
    let clickhouse = format!("{}\nca_file = {ca:?}", engine.settings_at(&url));
    let (_server, url) = encrypted_postgres(&authority);
    let password = directory.path().join("postgres-password");
    write_private(&password, &format!("{PASSWORD}\n"));
    let store = format!(
        "[store]\nurl = \"{url}?sslmode=verify-full&sslrootcert={}\"\npassword_file = {password:?}\n\
         [blocks]\nmax_age = \"30ms\"",
        ca.display()
    );
    let aggregator = start(directory.path(), &clickhouse, &store).await;
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append_each(CYCLE, report);
    edge.ship_all(aggregator.listening(), &client(directory.path()))
        .await;
    // The edge keeps nothing that the aggregator has on disk; it is evaluated later.
    until("all conversions in ClickHouse", async || {
        let rows = engine.reader().query("SELECT count() FROM conversions");
        rows.fetch_one::<u64>().await.expect("rows") == 2
    })
    .await;
}

/// No engine runs behind ClickHouse's endpoint: a connection ends at the certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_another_authority_are_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (right, wrong) = (Authority::new(), Authority::new());
    let ca = wrong.write(directory.path().join("wrong.pem"));
    let endpoint = right.issue().terminate(9).await;
    let clickhouse = format!("url = \"https://localhost:{}\"", endpoint.port());
    let (_server, url) = encrypted_postgres(&right);
    let store = format!(
        "[store]\nurl = \"{url}?sslmode=verify-full&sslrootcert={}\"",
        ca.display()
    );
    // Without ca_file, the authorities of browsers: our test authority is not among them.
    for clickhouse in [format!("{clickhouse}\nca_file = {ca:?}"), clickhouse] {
        let aggregator = start(directory.path(), &clickhouse, &store).await;
        let mut why = String::new();
        until("both refused", async || {
            let (status, text) = page(aggregator.admin(), "/readyz").await;
            why = text;
            status == 503 && why.matches("invalid peer certificate").count() == 2
        })
        .await;
        let lines: Vec<&str> = why.lines().collect();
        assert!(
            lines[0].starts_with("not ready: ClickHouse: ")
                && lines[1].starts_with("not ready: reports wait for the store: "),
            "{why}"
        );
        aggregator.stop().await;
    }
}

#[test]
fn plain_text_over_a_network_must_be_allowed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let read = |clickhouse: &str, more: &str| {
        let path = write_settings(directory.path(), clickhouse, more);
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("permissions set");
        settings::read(&path)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let here = r#"url = "http://127.0.0.1:8123""#;
    for url in [
        "http://10.0.0.7:8123",
        "http://clickhouse.example:8123",
        "http://[fd00::7]:8123",
    ] {
        let url = format!("url = \"{url}\"");
        let error = read(&url, "").expect_err("plain text");
        assert!(
            error.contains("clickhouse.allow_plaintext = true"),
            "{error}"
        );
        assert_eq!(read(&format!("{url}\nallow_plaintext = true"), ""), Ok(()));
    }
    for url in [
        "http://[::1]:8123",
        "http://localhost:8123",
        "https://clickhouse.example:8443",
    ] {
        assert_eq!(read(&format!("url = \"{url}\""), ""), Ok(()), "{url}");
    }
    let store = "[store]\nurl = \"postgres://me:hush@db.example/tracking";
    let error = read(here, &format!("{store}?sslmode=require\"")).expect_err("unchecked");
    assert!(
        error.contains("store.allow_plaintext = true") && !error.contains("hush"),
        "{error}"
    );
    assert_eq!(
        read(here, &format!("{store}\"\nallow_plaintext = true")),
        Ok(())
    );
    assert_eq!(
        read(here, &format!("{store}?sslmode=verify-full\"")),
        Ok(())
    );
}

#[test]
fn every_server_of_a_cluster_is_checked() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let read = |more: &str| {
        let clickhouse = format!("url = \"https://ch-1.example:8443\"\n{more}");
        let path = write_settings(directory.path(), &clickhouse, "");
        settings::read(&path)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let others = r#"other_urls = ["https://ch-2.example:8443"]"#;
    assert_eq!(read(&format!("cluster = \"fleet\"\n{others}")), Ok(()));
    let exposed = r#"other_urls = ["http://ch-2.example:8123"]"#;
    for (settings, reason) in [
        (others.to_owned(), "other_urls needs cluster"),
        (format!("cluster = \"fleet\"\n{exposed}"), "allow_plaintext"),
        (
            "cluster = \"fleet 1\"".to_owned(),
            "\"fleet 1\" is no cluster's name",
        ),
    ] {
        let error = read(&settings).expect_err(&settings);
        assert!(error.contains(reason), "{settings}: {error}");
    }
}

#[test]
fn urls_with_passwords_are_never_shown() {
    let directory = tempfile::tempdir().expect("temporary directory");
    for url in [
        "http://me:hush@127.0.0.1:8123",
        "https://db.example/?user=me&password=hush",
        "ftp://me:hush@db.example",
        "hush",
    ] {
        let path = write_settings(directory.path(), &format!("url = \"{url}\""), "");
        let error = settings::read(&path).expect_err("refused").to_string();
        assert!(
            error.contains("[clickhouse] url") && !error.contains("hush"),
            "{error}"
        );
    }
}
