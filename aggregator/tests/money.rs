//! Conversions as analysts query them: late reports don't override newer ones, fields that a report leaves out are
//! carried over, and campaigns stay known after the clicks are deleted.
#![allow(missing_docs)]

mod common;

use clickhouse::Client;
use clickhouse_schema::COOKBOOK;
use common::edge::{Edge, click_id_at, event};
use common::engine::Engine;
use common::process::Process;
use common::{client, metric, until, write_settings};
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use quinn::ClientConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use tracking_events::{ClickId, Conversion, Event, Stated, Visit};

use ConversionStatus::{Approved, Chargeback, Hold, Pending, Rejected};

/// The time of the click.
static CLICKED: LazyLock<Micros> = LazyLock::new(|| Micros(Micros::now().0 - 3_600_000_000));

fn click_id() -> ClickId {
    click_id_at(*CLICKED, 1)
}

fn click(node: u16) -> Event<'static> {
    let Event::Click(visit) = event(1, node) else {
        panic!("the first event is a click")
    };
    Event::Click(Visit {
        id: click_id(),
        time: *CLICKED,
        ..visit
    })
}

/// A report of a sale, `minutes` after the click.
fn sale(minutes: u64, status: ConversionStatus, minor: i64) -> Event<'static> {
    Event::Conversion(Conversion {
        time: Micros(CLICKED.0 + minutes * 60_000_000),
        advertiser: "shop",
        click: click_id(),
        kind: ConversionKind::Sale,
        kind_name: "order",
        transaction: "t",
        status,
        payout: Money {
            minor,
            currency: Currency(*b"EUR"),
        },
        dialect: "generic",
        address: [0; 16],
        stated: if minor == 0 {
            Stated::STATUS
        } else {
            Stated::ALL
        },
        signed: None,
        payout_as_sent: "",
    })
}

fn edited(event: Event<'static>, edit: impl FnOnce(&mut Conversion<'static>)) -> Event<'static> {
    let Event::Conversion(mut conversion) = event else {
        panic!("only conversions are changed")
    };
    edit(&mut conversion);
    Event::Conversion(conversion)
}

/// An aggregator with its edges.
struct Deployment {
    directory: tempfile::TempDir,
    engine: Engine,
    aggregator: Process,
    quic: ClientConfig,
}

impl Deployment {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let engine = Engine::start(directory.path());
        let more = "[blocks]\nmax_age = \"30ms\"\n";
        let config = write_settings(directory.path(), &engine.settings(), more);
        let aggregator = Process::start(&config);
        let quic = client(directory.path());
        Self {
            directory,
            engine,
            aggregator,
            quic,
        }
    }

    fn edge(&self, node: u16) -> Edge {
        let spool: &Path = &self.directory.path().join(format!("spool-{node}"));
        Edge::open(spool, node, 1)
    }

    /// Logs an event, and ships until it is inserted.
    async fn report(&self, edge: &mut Edge, event: Event<'static>) {
        edge.append_each(1, |_, _, _| event.clone());
        let address: SocketAddr = self.aggregator.listening;
        edge.ship_all(address, &self.quic).await;
        self.aggregator.evaluated().await;
    }

    async fn ask(&self, sql: &str) -> Vec<String> {
        texts(&self.engine.reader(), sql).await
    }

    /// The rows of the cookbook's query: campaign, affiliate, currency, conversions, approved, revenue.
    async fn by_campaign(&self) -> Vec<String> {
        let query = COOKBOOK
            .iter()
            .find(|it| it.name == "conversions_by_campaign");
        self.ask(query.expect("in the cookbook").sql).await
    }
}

async fn texts(reader: &Client, sql: &str) -> Vec<String> {
    let sql = format!(
        "SELECT concatWithSeparator('|', *) FROM ({})",
        sql.replace('?', "??")
    );
    reader.query(&sql).fetch_all().await.expect(&sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_of_a_disconnected_edge_changes_no_newer_state() {
    let deployment = Deployment::start();
    let (mut connected, mut cut_off) = (deployment.edge(1), deployment.edge(2));
    deployment
        .report(&mut connected, sale(20, Rejected, 500))
        .await;
    deployment
        .report(&mut cut_off, sale(10, Approved, 500))
        .await;
    let current = "SELECT status, payout, revision FROM current_conversions";
    assert_eq!(deployment.ask(current).await, ["rejected|5|1"]);
    let late = "SELECT outcome, status, payout, revision, node FROM conversion_repeats";
    assert_eq!(deployment.ask(late).await, ["late|approved|5|1|2"]);
    // A status without an amount keeps the amount.
    deployment
        .report(&mut connected, sale(30, Approved, 0))
        .await;
    assert_eq!(deployment.ask(current).await, ["approved|5|2"]);
    // An amount that arrives too late for the rejection, and in time for the approval.
    deployment
        .report(&mut cut_off, sale(25, Pending, 700))
        .await;
    assert_eq!(deployment.ask(current).await, ["approved|5|2"]);
    deployment
        .report(&mut cut_off, sale(15, Approved, 900))
        .await;
    deployment.report(&mut cut_off, sale(26, Hold, 800)).await;
    assert_eq!(deployment.ask(current).await, ["approved|8|3"]);
    let row = "SELECT dateDiff('minute', fromUnixTimestamp64Micro(toInt64(CLICK)), time), \
               dateDiff('minute', fromUnixTimestamp64Micro(toInt64(CLICK)), state_time) \
               FROM conversions WHERE revision = 3";
    let row = row.replace("CLICK", &CLICKED.0.to_string());
    assert_eq!(deployment.ask(&row).await, ["26|30"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refund_reduces_the_amount_and_keeps_it_as_sent() {
    let deployment = Deployment::start();
    let mut edge = deployment.edge(1);
    deployment.report(&mut edge, sale(10, Approved, 550)).await;
    let refund = edited(sale(20, Chargeback, 200), |it| {
        it.stated = Stated(Stated::STATUS.0 | Stated::PAYOUT.0);
        it.payout_as_sent = "-1.9999999999999998";
    });
    deployment.report(&mut edge, refund.clone()).await;
    let current = "SELECT transaction, status, payout, revision FROM current_conversions";
    assert_eq!(deployment.ask(current).await, ["t|approved|3.5|2"]);
    assert_eq!(deployment.by_campaign().await, ["unknown||EUR|1|1|3.5"]);
    // The advertiser sends both again, and then a reversal that names only the click.
    deployment.report(&mut edge, sale(30, Approved, 550)).await;
    let again = edited(refund, |it| it.time = Micros(it.time.0 + 1_800_000_000));
    deployment.report(&mut edge, again).await;
    assert_eq!(deployment.ask(current).await, ["t|approved|3.5|2"]);
    let reversal = edited(sale(60, Chargeback, 0), |it| it.transaction = "");
    deployment.report(&mut edge, reversal).await;
    assert_eq!(deployment.ask(current).await, ["t|chargeback|3.5|3"]);
    let sent = "SELECT revision, payout_as_sent FROM conversions ORDER BY revision";
    assert_eq!(
        deployment.ask(sent).await,
        ["1|", "2|-1.9999999999999998", "3|"]
    );
    let repeats = "SELECT status, payout, payout_as_sent FROM conversion_repeats ORDER BY time";
    assert_eq!(
        deployment.ask(repeats).await,
        ["approved|5.5|", "chargeback|2|-1.9999999999999998"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_deleted_from_clickhouse_change_no_state() {
    let deployment = Deployment::start();
    let mut edge = deployment.edge(1);
    deployment.report(&mut edge, sale(10, Approved, 500)).await;
    let delete = "DELETE FROM conversions WHERE true";
    let deleted = deployment.engine.writer().query(delete).execute().await;
    deleted.expect("the aggregator's user may");
    // A repetition is not counted again, and the next report gets the next revision.
    deployment.report(&mut edge, sale(20, Approved, 500)).await;
    deployment.report(&mut edge, sale(30, Rejected, 500)).await;
    let repeats = "SELECT outcome, revision FROM conversion_repeats";
    assert_eq!(deployment.ask(repeats).await, ["repeat|1"]);
    let current = "SELECT status, payout, revision FROM current_conversions";
    assert_eq!(deployment.ask(current).await, ["rejected|5|2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn campaign_outlives_the_click() {
    let deployment = Deployment::start();
    let mut edge = deployment.edge(1);
    deployment.report(&mut edge, sale(10, Approved, 500)).await;
    assert_eq!(deployment.by_campaign().await, ["unknown||EUR|1|1|5"]);
    // The click arrives after its conversion.
    deployment.report(&mut edge, click(1)).await;
    let known = ["campaign-2|affiliate-3|EUR|1|1|5"];
    assert_eq!(deployment.by_campaign().await, known);
    until("attributed", async || {
        let name = "aggregator_attributions_total{outcome=\"attributed\"}";
        metric(deployment.aggregator.admin, name).await == Some(1.0)
    })
    .await;
    let attribution = "SELECT link_id, link, offer, campaign, affiliate, country, device FROM conversion_attribution";
    assert_eq!(
        deployment.ask(attribution).await,
        ["7|spring|offer-1|campaign-2|affiliate-3|NL|phone"]
    );
    // Its time to live has ended.
    let tracker = deployment.engine.writer();
    let gone = tracker.query("TRUNCATE TABLE clicks").execute().await;
    gone.expect("truncated");
    assert_eq!(deployment.ask("SELECT count() FROM clicks").await, ["0"]);
    assert_eq!(deployment.by_campaign().await, known);
    let link = "SELECT link, offer, country, click_known FROM conversions_with_clicks";
    assert_eq!(deployment.ask(link).await, ["spring|offer-1|NL|1"]);
}
