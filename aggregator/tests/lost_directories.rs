//! Directories that are lost, deleted, restored from an older copy, or return after another aggregator took over: no
//! report is lost or stored twice, and no conversion returns to an earlier state.

mod common;

use clickhouse::Client;
use common::edge::Edge;
use common::engine::Engine;
use common::process::Process;
use common::reports::{CYCLE, OUTCOMES, conversion, refund, report};
use common::{client, metric, until, write_settings};
use domain::ConversionStatus;
use sql_store::test_server::TestServer;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

/// The limit for a refused start to end.
const REFUSED_START_TIMEOUT: Duration = Duration::from_secs(60);

/// The evaluated reports of a cycle.
const EVALUATED_PER_CYCLE: f64 = 7.0;

struct World {
    directory: TempDir,
    engine: Engine,
    config: PathBuf,
    edge: Edge,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// An aggregator with additional settings.
    fn with(more: &str) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let engine = Engine::start(directory.path());
        let config = write_settings(directory.path(), &engine.settings(), more);
        let edge = Edge::open(&directory.path().join("spool"), 21, 1);
        Self {
            directory,
            engine,
            config,
            edge,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ships until all events are inserted and evaluated.
    async fn ship(&mut self, aggregator: &Process) {
        let quic = client(self.directory.path());
        self.edge.ship_all(aggregator.listening, &quic).await;
        aggregator.evaluated().await;
    }

    /// Ships events to an aggregator without ClickHouse, until `pending` reports wait there.
    async fn ship_pending(&mut self, aggregator: &Process, pending: f64) {
        self.ship_until(aggregator, "aggregator_pending_reports", |reports| {
            reports == pending
        })
        .await;
    }

    /// Ships until a metric meets a condition.
    async fn ship_until(&mut self, aggregator: &Process, name: &str, wanted: impl Fn(f64) -> bool) {
        let quic = client(self.directory.path());
        until("received", async || {
            self.edge.ship(aggregator.listening, quic.clone()).await;
            metric(aggregator.admin, name).await.is_some_and(&wanted)
        })
        .await;
    }

    /// The number of rows of clicks and impressions.
    async fn visits(&self) -> u64 {
        self.count("clicks").await + self.count("impressions").await
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let reader: Client = self.engine.reader();
        reader.query(sql).fetch_all().await.expect(sql)
    }

    async fn count(&self, table: &str) -> u64 {
        let sql = format!("SELECT count() FROM {table}");
        let reader = self.engine.reader();
        reader.query(&sql).fetch_one().await.expect("number")
    }

    /// Asserts that every table has the rows of this many cycles, once.
    async fn has_cycles(&self, cycles: u64, more_conversions: u64) {
        for (table, rows) in OUTCOMES {
            let more = if table == "conversions" {
                more_conversions
            } else {
                0
            };
            assert_eq!(self.count(table).await, cycles * rows + more, "{table}");
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
        command.args(arguments).arg("--config").arg(&self.config);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.output().expect("program runs")
    }

    /// The output of a start that is refused.
    async fn refused(&self) -> String {
        let mut serve = tokio::process::Command::from(self.command(&["serve"]));
        let ended =
            tokio::time::timeout(REFUSED_START_TIMEOUT, serve.kill_on_drop(true).output()).await;
        let output = ended.expect("start is refused");
        let output = output.expect("program runs");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// The status and revision of each conversion, and whether it has several epochs.
const CONVERSION_STATES: &str = "SELECT concatWithSeparator('|', transaction, status, toString(revision)) \
     FROM current_conversions ORDER BY transaction";

fn remove(path: &Path) {
    std::fs::remove_dir_all(path).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_store_is_refused_until_rebuilt() {
    let world = World::new();
    let lost = world.path("data/store/store.sqlite");
    refused_until_rebuilt(world, || std::fs::remove_file(lost).expect("removed")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_postgresql_store_is_refused_until_rebuilt() {
    let server = TestServer::start();
    let world = World::with(&format!("[store]\nurl = \"{}\"\n", server.url()));
    let lose = || server.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    refused_until_rebuilt(world, lose).await;
}

async fn refused_until_rebuilt(mut world: World, lose: impl FnOnce()) {
    let mut aggregator = Process::start(&world.config);
    world.edge.append_each(CYCLE, report);
    world.ship(&aggregator).await;
    assert!(aggregator.stop().success());
    lose();

    let refusal = world.refused().await;
    assert!(refusal.contains("aggregator rebuild-store"), "{refusal}");
    assert!(refusal.contains("2 revisions of conversions"), "{refusal}");
    let rebuilt = world.run(&["rebuild-store"]);
    assert!(rebuilt.status.success(), "{rebuilt:?}");

    // The conversion continues from its state, and repetitions are recognised.
    aggregator.restart();
    let again = |_, _, _| conversion("21-0-0", ConversionStatus::Approved);
    world.edge.append_each(1, again);
    let back = |_, _, _| conversion("21-0-0", ConversionStatus::Chargeback);
    world.edge.append_each(1, back);
    world.ship(&aggregator).await;
    assert_eq!(
        world.texts(CONVERSION_STATES).await,
        ["21-0-0|chargeback|3"]
    );
    assert_eq!(world.count("conversion_repeats").await, 2);
    let epochs = "SELECT toString(uniqExact(epoch)) FROM conversions WHERE epoch > 0";
    assert_eq!(world.texts(epochs).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_backup_restored_loses_and_doubles_nothing() {
    let mut world = World::new();
    let mut aggregator = Process::start(&world.config);
    world.edge.append_each(CYCLE, report);
    world.ship(&aggregator).await;
    let copy = world.path("copy");
    let to = copy.to_str().expect("text");
    let output = world.run(&["backup", "--to", to]);
    assert!(output.status.success(), "{output:?}");
    let copied = std::fs::read_to_string(copy.join("files.json")).expect("listed");
    let salt = world.path("data/visitor-salt");
    assert!(
        salt.exists() && !copied.contains("visitor-salt"),
        "{copied}"
    );

    // A later sale, and the reversal of the first one; the copy has neither.
    world.edge.append_each(CYCLE, report);
    let back = |_, _, _| conversion("21-0-0", ConversionStatus::Chargeback);
    world.edge.append_each(1, back);
    world.ship(&aggregator).await;
    assert!(aggregator.stop().success());
    let output = world.run(&["restore", "--from", to]);
    assert!(!output.status.success(), "a store is there: {output:?}");
    remove(&world.path("data/store"));
    // The refused start leaves an empty store, and its error names this command.
    let refusal = world.refused().await;
    assert!(refusal.contains("aggregator restore"), "{refusal}");
    let output = world.run(&["restore", "--from", to]);
    assert!(output.status.success(), "{output:?}");

    aggregator.restart();
    let standing = ["21-0-0|chargeback|3", "21-0-1|approved|2"];
    assert_eq!(world.texts(CONVERSION_STATES).await, standing);
    let later = |_, _, _| conversion("21-0-1", ConversionStatus::Chargeback);
    world.edge.append_each(1, later);
    // The advertiser repeats reports that the copy lacks.
    world.edge.append_each(1, back);
    world.ship(&aggregator).await;
    let standing = ["21-0-0|chargeback|3", "21-0-1|chargeback|3"];
    assert_eq!(world.texts(CONVERSION_STATES).await, standing);
    assert_eq!(world.count("conversions").await, 2 * 2 + 2);
    assert_eq!(world.count("conversion_repeats").await, 2 + 1);
    let revisions =
        "SELECT toString(count() - uniqExact(transaction, epoch, revision)) FROM conversions";
    assert_eq!(world.texts(revisions).await, ["0"]);
}

/// The store is rebuilt from ClickHouse alone, and restored from a copy without the refund.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_refunds_survive_lost_and_restored_stores() {
    for has_copy in [false, true] {
        let mut world = World::new();
        let mut aggregator = Process::start(&world.config);
        let sale = |_, _, _| conversion("t", ConversionStatus::Approved);
        let refunded = |_, _, _| refund("t", 500);
        world.edge.append_each(1, sale);
        world.ship(&aggregator).await;
        let copy = world.path("copy");
        let to = copy.to_str().expect("text");
        assert!(world.run(&["backup", "--to", to]).status.success());
        world.edge.append_each(1, refunded);
        world.ship(&aggregator).await;
        assert!(aggregator.stop().success());
        remove(&world.path("data/store"));
        let made_again = match has_copy {
            true => world.run(&["restore", "--from", to]),
            false => world.run(&["rebuild-store"]),
        };
        assert!(made_again.status.success(), "{made_again:?}");

        aggregator.restart();
        world.edge.append_each(1, refunded);
        world.edge.append_each(1, sale);
        world.ship(&aggregator).await;
        let current = "SELECT concatWithSeparator('|', status, toString(payout), toString(refunded_minor)) \
                       FROM current_conversions";
        assert_eq!(world.texts(current).await, ["approved|14.99|500"]);
        assert_eq!(world.count("conversion_repeats").await, 2);
        // A refund of another amount is a different one.
        world.edge.append_each(1, |_, _, _| refund("t", 499));
        world.ship(&aggregator).await;
        assert_eq!(world.texts(current).await, ["approved|10|999"]);
        assert_eq!(world.count("conversion_repeats").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_spool_loses_and_doubles_no_report() {
    let mut world = World::new();
    let mut aggregator = Process::start(&world.config);
    world.edge.append_each(CYCLE, report);
    world.ship(&aggregator).await;
    // Reports are stored and evaluated, but ClickHouse has none of them, and edges got no acknowledgement.
    world.engine.kill();
    world.edge.append_each(CYCLE, report);
    world.ship_pending(&aggregator, EVALUATED_PER_CYCLE).await;
    aggregator.kill();
    remove(&world.path("data/spool"));
    world.engine.up();
    aggregator.restart();
    world.ship(&aggregator).await;
    world.has_cycles(2, 0).await;
}

/// Edges learn the inserted sequences, and keep a limited number of batches without acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_spool_doubles_only_clicks_not_acknowledged() {
    const EVENTS: u64 = 5_000;
    let mut world = World::new();
    let mut aggregator = Process::start(&world.config);
    world.edge.append(EVENTS);
    world.ship(&aggregator).await;
    // More than an edge sends without an acknowledgement; ClickHouse has it before the acknowledgement.
    world.engine.kill();
    world.edge.append(EVENTS);
    world
        .ship_until(&aggregator, "aggregator_pending_bytes", |bytes| bytes > 0.0)
        .await;
    world.engine.up();
    until("inserted", async || {
        metric(aggregator.admin, "aggregator_pending_bytes").await == Some(0.0)
    })
    .await;
    let unacknowledged = world.visits().await - EVENTS;
    assert!((1..EVENTS).contains(&unacknowledged), "{unacknowledged}");
    aggregator.kill();
    remove(&world.path("data/spool"));
    aggregator.restart();
    world.ship(&aggregator).await;
    assert_eq!(world.visits().await, 2 * EVENTS + unacknowledged);
    let doubled = "SELECT concatWithSeparator('-', toString(min(seq)), toString(max(seq))) FROM \
         (SELECT seq FROM clicks UNION ALL SELECT seq FROM impressions) \
         WHERE seq IN (SELECT seq FROM clicks GROUP BY seq HAVING count() > 1) OR \
         seq IN (SELECT seq FROM impressions GROUP BY seq HAVING count() > 1)";
    let expected = format!("{}-{}", EVENTS + 1, EVENTS + unacknowledged);
    assert_eq!(world.texts(doubled).await, [expected]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returning_old_spool_inserts_nothing() {
    let mut world = World::new();
    let mut aggregator = Process::start(&world.config);
    world.edge.append_each(CYCLE, report);
    world.ship(&aggregator).await;
    // Blocks that were never inserted stay in the spool, and the machine becomes unreachable.
    world.engine.kill();
    world.edge.append_each(CYCLE, report);
    world.ship_pending(&aggregator, EVALUATED_PER_CYCLE).await;
    aggregator.kill();
    let (spool, away) = (world.path("data/spool"), world.path("away"));
    std::fs::rename(&spool, &away).expect("renamed");
    // The successor gets all events again.
    world.engine.up();
    aggregator.restart();
    world.ship(&aggregator).await;
    assert!(aggregator.stop().success());
    // The old machine returns.
    remove(&spool);
    std::fs::rename(&away, &spool).expect("renamed");
    let refusal = world.refused().await;
    assert!(
        refusal.contains("another spool has taken over"),
        "{refusal}"
    );
    world.has_cycles(2, 0).await;
    // The remedy that the refusal names:
    remove(&spool);
    aggregator.restart();
    world.edge.append_each(CYCLE, report);
    world.ship(&aggregator).await;
    world.has_cycles(3, 0).await;
}
