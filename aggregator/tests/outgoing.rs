//! Postbacks to affiliates: every revision is sent in order despite crashes, only to permitted addresses, and also
//! after a late click.
#![allow(missing_docs)]

mod common;

use common::edge::{Edge, click_id_at, event};
use common::engine::Engine;
use common::process::Process;
use common::receiver::{ReceivedPostback, Receiver};
use common::{NODE, client, hmac, metric, page, until, write_private, write_settings};
use data_encoding::BASE64;
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use quinn::ClientConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use tracking_events::{ClickId, Conversion, Event, Stated, Visit};

const KEY: &str = "a key of the affiliate's";
const SALES: u64 = 40;

/// The time of the clicks.
static CLICKED: LazyLock<Micros> = LazyLock::new(Micros::now);

fn click_id(number: u64) -> ClickId {
    click_id_at(*CLICKED, number)
}

fn click(number: u64, node: u16) -> Event<'static> {
    let Event::Click(visit) = event(1, node) else {
        panic!("the first event is a click")
    };
    Event::Click(Visit {
        id: click_id(number),
        time: *CLICKED,
        ..visit
    })
}

/// Settings of an aggregator that sends postbacks to `address`, with short pauses.
fn settings(address: SocketAddr, allowed: &str, directory: &Path) -> String {
    let postbacks = directory.join("postbacks.toml");
    let target = "/pb?tx={transaction_id}&status={status}&sum={payout}&cur={currency}&sub={sub1}\
                  &cid={click_id}&e={event}";
    let text = format!(
        "[[postback]]\ncampaign = \"campaign-2\"\nurl = \"http://{address}{target}\"\nkey = \"{KEY}\"\n"
    );
    write_private(&postbacks, &text);
    format!(
        "[blocks]\nmax_age = \"30ms\"\n[outgoing]\npostbacks = {postbacks:?}\ntimeout = \"2s\"\n\
         first_retry = \"10ms\"\nallowed_networks = [{allowed}]\n"
    )
}

fn sale(click: ClickId, number: u64, status: ConversionStatus) -> Event<'static> {
    let transaction = format!("t{number}");
    Event::Conversion(Conversion {
        time: Micros::now(),
        advertiser: "shop",
        click,
        kind: ConversionKind::Sale,
        kind_name: "order",
        transaction: Box::leak(transaction.into_boxed_str()),
        status,
        payout: Money {
            minor: 1_000 + i64::try_from(number).expect("in range"),
            currency: Currency(*b"EUR"),
        },
        dialect: "generic",
        address: [0; 16],
        stated: Stated::ALL,
        signed: None,
        payout_as_sent: "",
    })
}

/// The click, and then two reports of each sale: pending and approved.
fn click_and_sales(seq: u64, node: u16, _: u8) -> Event<'static> {
    let number = seq.saturating_sub(2) % SALES;
    match seq {
        1 => click(1, node),
        _ if seq <= SALES + 1 => sale(click_id(1), number, ConversionStatus::Pending),
        _ => sale(click_id(1), number, ConversionStatus::Approved),
    }
}

/// The status for a request: some sales are never accepted, some only at the second attempt. These are few, because
/// each consecutive failure makes the pause longer.
fn respond(received: &ReceivedPostback, before: usize) -> u16 {
    let number: u64 = received.parameter("tx")[1..].parse().expect("number");
    match number {
        _ if number.is_multiple_of(5) => 404,
        1 | 21 if before == 0 => 503,
        2 if before == 0 => 429,
        _ => 200,
    }
}

/// Ships the remaining events.
async fn ship(edge: &mut Edge, aggregator: SocketAddr, quic: &ClientConfig) {
    if !edge.is_done() {
        edge.ship(aggregator, quic.clone()).await;
    }
}

async fn list_postbacks(admin: SocketAddr, state: &str) -> Vec<serde_json::Value> {
    let (status, text) = page(admin, &format!("/postbacks?state={state}")).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("JSON list")
}

fn signature_is_right(received: &ReceivedPostback) -> bool {
    let (id, time) = (
        received.header("webhook-id"),
        received.header("webhook-timestamp"),
    );
    let signature = hmac(KEY, &format!("{id}.{time}.{}", received.target));
    received.header("webhook-signature") == format!("v1,{}", BASE64.encode(&signature))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_preserve_delivery_of_every_revision_in_order() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let receiver = Receiver::start(respond);
    let more = settings(receiver.address, "\"127.0.0.0/8\"", directory.path());
    let config = write_settings(directory.path(), &engine.settings(), &more);
    let mut aggregator = Process::start(&config);
    let quic = client(directory.path());
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append_each(2 * SALES + 1, click_and_sales);
    for least in [5, 30] {
        until("some postbacks received", async || {
            ship(&mut edge, aggregator.listening, &quic).await;
            receiver.received().len() >= least
        })
        .await;
        aggregator.kill_and_restart();
    }
    edge.ship_all(aggregator.listening, &quic).await;
    until("all postbacks received", async || {
        let (taken, refused) = (
            list_postbacks(aggregator.admin, "delivered").await.len(),
            list_postbacks(aggregator.admin, "refused").await.len(),
        );
        (taken, refused) == (64, 16)
    })
    .await;
    let received = receiver.received();
    let mut by_id: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for received in &received {
        assert!(signature_is_right(received), "{received:?}");
        by_id
            .entry(received.header("webhook-id"))
            .or_default()
            .insert(&received.target);
    }
    assert_eq!(by_id.len() as u64, 2 * SALES, "one id for each revision");
    assert!(
        by_id.values().all(|targets| targets.len() == 1),
        "a repetition has the same id: {by_id:?}"
    );
    let targets: BTreeSet<&str> = received.iter().map(|it| it.target.as_str()).collect();
    let click = click_id(1);
    for number in 0..SALES {
        let target = |status| {
            format!(
                "/pb?tx=t{number}&status={status}&sum=10.{number:02}&cur=EUR&sub=s1&cid={click}&e=sale"
            )
        };
        assert!(targets.contains(target("pending").as_str()), "{number}");
        assert!(targets.contains(target("approved").as_str()), "{number}");
        let order: Vec<&str> = received
            .iter()
            .filter(|it| it.parameter("tx") == format!("t{number}"))
            .map(|it| it.parameter("status"))
            .collect();
        assert!(
            order.is_sorted_by_key(|status| *status == "approved"),
            "{number}: {order:?}"
        );
    }
    assert!(aggregator.stop().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_refused_unless_allowed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let receiver = Receiver::start(|_, _| 200);
    let more = settings(receiver.address, "", directory.path());
    let config = write_settings(directory.path(), &engine.settings(), &more);
    let aggregator = Process::start(&config);
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    edge.append_each(2, click_and_sales);
    let quic = client(directory.path());
    until("attempted", async || {
        ship(&mut edge, aggregator.listening, &quic).await;
        let due = list_postbacks(aggregator.admin, "due").await;
        let why = |it: &serde_json::Value| it["last_error"].to_string();
        due.iter()
            .any(|it| why(it).contains("127.0.0.1 has no public address"))
    })
    .await;
    assert_eq!(receiver.received(), []);
    let name = "aggregator_postbacks_total{outcome=\"again\"}";
    assert!(metric(aggregator.admin, name).await >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postback_of_early_conversion_is_sent_after_its_click() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let engine = Engine::start(directory.path());
    let receiver = Receiver::start(|_, _| 200);
    let more = settings(receiver.address, "\"127.0.0.0/8\"", directory.path());
    let config = write_settings(directory.path(), &engine.settings(), &more);
    let aggregator = Process::start(&config);
    let mut edge = Edge::open(&directory.path().join("spool"), NODE, 1);
    let quic = client(directory.path());
    let late = click_id(2);
    edge.append_each(1, |_, _, _| sale(late, 1, ConversionStatus::Approved));
    until("waiting", async || {
        ship(&mut edge, aggregator.listening, &quic).await;
        list_postbacks(aggregator.admin, "awaits_click").await.len() == 1
    })
    .await;
    edge.append_each(1, |_, node, _| click(2, node));
    until("postback received", async || {
        ship(&mut edge, aggregator.listening, &quic).await;
        !receiver.received().is_empty()
    })
    .await;
    assert_eq!(receiver.received()[0].parameter("cid"), late.to_string());
    until("delivery recorded", async || {
        list_postbacks(aggregator.admin, "delivered").await.len() == 1
    })
    .await;
}
