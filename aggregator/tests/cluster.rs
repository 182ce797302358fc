//! The tables of a ClickHouse cluster on two real engines, each of which is a shard. The engine has no Keeper: servers
//! in front of it execute statements `ON CLUSTER` on both, with ordinary tables for replicated ones. They also lose
//! responses, so that the aggregator sends blocks again, to the other server.

mod common;

use clickhouse::Client;
use clickhouse_embedded::{Credentials, free_port};
use clickhouse_schema::COOKBOOK;
use common::cluster::ClusterServer;
use common::edge::ShippingEdges;
use common::engine::Engine;
use common::process::Process;
use common::{metric, until, write_settings};
use std::fs;
use std::path::{Path, PathBuf};

const EVENTS: u64 = 2_000;
const NODES: [u16; 2] = [1, 2];

/// Two engines with the same users, each of which knows both as the shards of `fleet`.
async fn start_shards(directory: &Path) -> [Engine; 2] {
    let directories = ["first", "second"].map(|name| directory.join(name));
    let mut engines = directories.each_ref().map(|it| Engine::start(it));
    engines.iter_mut().for_each(Engine::kill);
    let data: [PathBuf; 2] = directories.map(|it| it.join("clickhouse"));
    let credentials = data.each_ref().map(|it| Credentials::file(it));
    fs::copy(&credentials[0], &credentials[1]).expect("copied");
    let tracker = Credentials::load(&data[0]).expect("created").tracker;
    let ports = [(); 2].map(|()| free_port().expect("free port"));
    let shard = |port: u16| {
        format!(
            "<shard><replica><host>127.0.0.1</host><port>{port}</port><user>{}</user>\
             <password>{}</password></replica></shard>",
            tracker.user, tracker.password
        )
    };
    let fleet = ports.map(shard).concat();
    for ((data, port), engine) in data.iter().zip(ports).zip(&mut engines) {
        let fleet = format!("<remote_servers><fleet>{fleet}</fleet></remote_servers>");
        write_xml(
            &data.join("config.d"),
            &format!("<tcp_port>{port}</tcp_port>{fleet}"),
        );
        // Opens the native port, as the launcher opens the HTTP port.
        let users = "<users><default><quota>default</quota></default></users>";
        write_xml(&data.join("users.d"), users);
        up(engine).await;
    }
    engines
}

async fn up(engine: &mut Engine) {
    engine.up();
    let opener = Client::default()
        .with_url(engine.url())
        .with_user("default");
    let opened = opener.query("SYSTEM START LISTEN TCP").execute().await;
    opened.expect("native port");
}

fn write_xml(directory: &Path, text: &str) {
    fs::create_dir(directory).expect("created");
    let text = format!("<clickhouse>{text}</clickhouse>");
    fs::write(directory.join("cluster.xml"), text).expect("written");
}

async fn count(reader: &Client, sql: &str) -> u64 {
    reader.query(sql).fetch_one().await.expect(sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_stores_events_once_despite_lost_shards_and_responses() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut engines = start_shards(directory.path()).await;
    let urls = engines.each_ref().map(Engine::url);
    let servers = [
        ClusterServer::start("fleet", urls.clone()).await,
        ClusterServer::start("fleet", [urls[1].clone(), urls[0].clone()]).await,
    ];
    let clickhouse = format!(
        "{}\nother_urls = [\"{}\"]\ncluster = \"fleet\"",
        engines[0].settings_at(&servers[0].url),
        servers[1].url
    );
    let more = "[blocks]\nmax_rows = 250\nmax_age = \"30ms\"";
    let config = write_settings(directory.path(), &clickhouse, more);
    let aggregator = Process::start(&config);
    let edges = ShippingEdges::start(
        directory.path(),
        &NODES,
        1,
        aggregator.listening,
        1,
        |edge| {
            edge.append(EVENTS);
        },
    );
    // While a shard is down, the other one stores its parts of blocks that fail as a whole.
    until("blocks are inserted", async || servers[0].inserts() > 3).await;
    let retries = async || {
        let retries = metric(aggregator.admin, "aggregator_insert_retries_total").await;
        retries.expect("exported")
    };
    engines[1].kill();
    let before = retries().await;
    until("blocks fail", async || retries().await > before + 3.0).await;
    up(&mut engines[1]).await;
    edges.finish().await;
    for server in &servers {
        assert!(server.inserts() > 2, "both servers received blocks");
    }
    let clicks = EVENTS / 4 * 3 * NODES.len() as u64;
    for reader in engines.each_ref().map(Engine::reader) {
        assert_eq!(count(&reader, "SELECT count() FROM clicks").await, clicks);
        let distinct = "SELECT uniqExact(node, lane, journal, seq) FROM clicks";
        assert_eq!(count(&reader, distinct).await, clicks);
        let local = count(&reader, "SELECT count() FROM clicks_local").await;
        assert!((1..clicks).contains(&local), "{local} on this shard");
        let sum = "SELECT sum(counted + bots + prefetches + heads) FROM clicks_by_hour";
        assert_eq!(count(&reader, sum).await, clicks);
        for query in COOKBOOK {
            let sql = query.sql.replace('?', "??");
            reader.query(&sql).execute().await.expect(query.name);
        }
    }
}
