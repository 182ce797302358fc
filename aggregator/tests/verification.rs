//! Reports that an edge invents, changes or repeats beyond its limits are set aside with their reason, counted and
//! alerted; honest reports are evaluated. With real files, store and ClickHouse.

mod common;

use common::edge::Edge;
use common::engine::Engine;
use common::process::Process;
use common::{NODE, client, hmac, metric, page, until, write_private, write_settings};
use data_encoding::HEXLOWER;
use domain::{
    ConversionKind, ConversionStatus, Currency, KycStatus, LaneId, LinkId, Micros, Money, NodeId,
    Seq,
};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tracking_events::{
    ClickId, ClickIdParts, Conversion, Event, KeyId, KeyRing, KycUpdate, MacKey, SignedRequest,
    Stated,
};

const ADVERTISERS: &str = r#"
[signs]
dialect = "generic"
currency = "USD"
offers = ["spring"]
auth = [{ hmac = { key = "a key of the advertiser", over = "query", parameter = "sig" } }]
[times]
dialect = "generic"
currency = "USD"
links = "any"
auth = [{ hmac = { key = "a key of the advertiser", over = "query", parameter = "sig", timestamp = "ts" } }]
[shares]
dialect = "generic"
currency = "USD"
links = [7]
max_payout = { USD = "1000.00" }
auth = [{ secret_path = "a secret that edges know" }]
[other]
dialect = "generic"
currency = "USD"
links = [8]
auth = [{ secret_path = "a secret that edges know" }]
"#;
const HMAC_KEY: &str = "a key of the advertiser";
const KYC_KEY: &str = "a key of the identity service";
const LINKS: &str = r#"
[[link]]
id = 7
slug = "a"
offer = "spring"
campaign = "c"
affiliate = "f"
destination = "https://shop.example/"
[[link]]
id = 8
slug = "b"
offer = "autumn"
campaign = "c"
affiliate = "f"
destination = "https://shop.example/"
"#;

/// The click id keys numbered `ids`; the bytes of each are its number.
fn secrets(ids: &[u8]) -> String {
    let keys = ids.iter().map(|id| {
        let secret = HEXLOWER.encode(&[*id; 32]);
        format!("{id} = \"{secret}\"\n")
    });
    let active = ids[0];
    format!(
        "[click_id]\nactive = {active}\n[click_id.keys]\n{}[visitor]\nsecret = \"{}\"\n",
        keys.collect::<String>(),
        "99".repeat(32)
    )
}

/// Writes the files of `[reports]`, and returns their section of the settings.
fn reports_settings(directory: &Path, more: &str) -> String {
    write_private(&directory.join("advertisers.toml"), ADVERTISERS);
    write_private(
        &directory.join("variables.toml"),
        &format!("kyc_keys = \"{KYC_KEY}\"\n"),
    );
    std::fs::write(directory.join("links.toml"), LINKS).expect("written");
    let at = |name: &str| format!("{:?}", directory.join(name));
    format!(
        "[reports]\nadvertisers = {}\nsecrets = {}\nvariables = {}\nlinks = {}\n{more}",
        at("advertisers.toml"),
        at("secrets.toml"),
        at("variables.toml"),
        at("links.toml")
    )
}

fn click_of(key: u8, byte: u8, link: u32) -> ClickId {
    let id = KeyId::new(key).expect("below 32");
    let ring = KeyRing::new(id, [(id, MacKey::new([byte; 32]))]).expect("key in ring");
    ring.sign(ClickIdParts {
        time: Micros(Micros::now().0 - 3_600_000_000),
        node: NodeId(NODE),
        lane: LaneId(0),
        seq: Seq(1),
        link: LinkId(link),
    })
}

fn click(link: u32) -> ClickId {
    click_of(1, 1, link)
}

fn leak(text: impl Into<String>) -> &'static str {
    Box::leak(text.into().into_boxed_str())
}

fn signature(key: &str, text: &str) -> String {
    HEXLOWER.encode(&hmac(key, text))
}

/// An approved sale of 19.99, as the function reports it for `advertiser`.
fn sale(
    advertiser: &'static str,
    click: ClickId,
    transaction: &'static str,
) -> Conversion<'static> {
    let mut stated = Stated::PAYOUT;
    stated.insert(Stated::STATUS);
    Conversion {
        time: Micros::now(),
        advertiser,
        click,
        kind: ConversionKind::Sale,
        kind_name: "",
        transaction,
        status: ConversionStatus::Approved,
        payout: Money {
            minor: 1_999,
            currency: Currency(*b"USD"),
        },
        dialect: "generic",
        address: [0; 16],
        stated,
        signed: None,
        payout_as_sent: "",
    }
}

/// The same sale with a request that its advertiser signed with `key`.
fn signed(transaction: &'static str, key: &str) -> Conversion<'static> {
    let report = sale("signs", click(7), transaction);
    let query = format!(
        "click_id={}&payout=19.99&status=approved&transaction_id={transaction}",
        report.click
    );
    let query = format!("{query}&sig={}", signature(key, &query));
    Conversion {
        signed: Some(SignedRequest {
            method: "GET",
            path: "/postback/signs",
            query: leak(query),
            headers: Vec::new(),
            body: b"",
        }),
        ..report
    }
}

fn paying(mut report: Conversion<'static>, minor: i64) -> Conversion<'static> {
    report.payout.minor = minor;
    report
}

fn check(delivery: &'static str, key: &str) -> KycUpdate<'static> {
    let now = Micros::now();
    let seconds = now.0 / 1_000_000;
    let (happened, at) = (Micros(1_750_000_000_000_000), "2025-06-15T15:06:40Z");
    let body = format!(
        r#"{{"id":"{delivery}","affiliate_id":"ann","status":"approved","tier":2,"occurred_at":"{at}"}}"#
    );
    let signature = signature(key, &format!("{seconds}.{body}"));
    KycUpdate {
        time: now,
        happened,
        provider: "verifymy",
        delivery,
        affiliate: "ann",
        status: KycStatus::Approved,
        tier: 2,
        signed: Some(SignedRequest {
            method: "POST",
            path: "/api/webhooks/kyc/verifymy",
            query: "",
            headers: vec![
                ("x-verifymy-signature", leak(signature)),
                ("x-verifymy-timestamp", leak(seconds.to_string())),
            ],
            body: leak(body).as_bytes(),
        }),
    }
}

/// Ships events from a new journal.
async fn ship(directory: &Path, aggregator: &Process, events: &[Event<'static>]) {
    let mut edge = Edge::open(&directory.join("spool"), NODE, 1);
    let events = events.to_vec();
    edge.append_each(events.len() as u64, |seq, _, _| {
        events[(seq - 1) as usize].clone()
    });
    let quic = client(directory);
    edge.ship_all(aggregator.listening, &quic).await;
    aggregator.evaluated().await;
}

async fn texts(engine: &Engine, sql: &str) -> Vec<String> {
    engine.reader().query(sql).fetch_all().await.expect(sql)
}

/// The reports of an edge with a stolen certificate, and those of an honest one.
fn reports() -> Vec<Event<'static>> {
    let mut altered_check = check("d-altered", KYC_KEY);
    altered_check.tier = 3;
    let mut unsigned_check = check("d-unsigned", KYC_KEY);
    unsigned_check.signed = None;
    let of_another = Conversion {
        advertiser: "shares",
        ..signed("another", HMAC_KEY)
    };
    let unsigned_signer = Conversion {
        signed: None,
        ..signed("unsigned", HMAC_KEY)
    };
    let conversions = [
        signed("honest-signed", HMAC_KEY),
        sale("shares", click(7), "honest-shared"),
        paying(signed("altered", HMAC_KEY), 9_999_900),
        signed("forged", "another key"),
        of_another,
        unsigned_signer,
        // With advertiser A's secret, it reports 99,999.00 for B's campaign.
        paying(sale("shares", click(8), "foreign"), 9_999_900),
        paying(sale("shares", click(7), "too-much"), 9_999_900),
        sale("shares", click_of(1, 2, 7), "forged-click"),
        sale("unknown", click(7), "unknown"),
        paying(sale("shares", click(7), "negative"), -1),
    ];
    let checks = [
        check("d-honest", KYC_KEY),
        check("d-forged", "another key"),
        altered_check,
        unsigned_check,
    ];
    let conversions = conversions.into_iter().map(Event::Conversion);
    conversions
        .chain(checks.into_iter().map(Event::KycUpdate))
        .collect()
}

use ConversionStatus::{Approved, Rejected};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unproven_reports_are_set_aside_and_alerted() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path();
    let engine = Engine::start(directory);
    write_private(&directory.join("secrets.toml"), &secrets(&[1]));
    let settings = reports_settings(directory, "");
    let config = write_settings(directory, &engine.settings(), &settings);
    let aggregator = Process::start(&config);
    for reason in [
        "not_proven",
        "altered",
        "not_signed",
        "click_key_unknown",
        "unsigned_limit",
        "kyc_not_proven",
        "kyc_altered",
        "kyc_not_signed",
    ] {
        let series = format!("aggregator_reports_unproven_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(aggregator.admin, &series).await, Some(0.0));
    }
    ship(directory, &aggregator, &reports()).await;
    let verified = metric(aggregator.admin, "aggregator_reports_verified").await;
    assert_eq!(verified, Some(1.0));
    let conversions = "SELECT transaction FROM conversions ORDER BY transaction";
    assert_eq!(
        texts(&engine, conversions).await,
        ["honest-shared", "honest-signed"]
    );
    assert_eq!(
        texts(&engine, "SELECT delivery FROM kyc_events").await,
        ["d-honest"]
    );
    let rejected = "SELECT concatWithSeparator('|', toString(reason), reason_name, detail) FROM rejections \
                    WHERE source = 'verification' ORDER BY seq";
    let rejected = texts(&engine, rejected).await;
    let expected = [
        "161|altered|the report differs from its signed request: payout; ",
        "160|not_proven|103 not_authentic: hmac does not hold; ",
        "161|altered|the report differs from its signed request: advertiser; ",
        "162|not_signed|the advertiser signs its reports; ",
        "160|not_proven|121 foreign_click: link 8 is not one of the advertiser's links or offers; ",
        "160|not_proven|124 payout_above_maximum: ",
        "160|not_proven|106 forged_click_id: ",
        "160|not_proven|unknown advertiser; ",
        "160|not_proven|the payout is negative; ",
        "260|kyc_not_proven|202 kyc_bad_signature: ",
        "261|kyc_altered|the identity check differs from its signed webhook: tier",
        "262|kyc_not_signed|",
    ];
    assert_eq!(rejected.len(), expected.len(), "{rejected:#?}");
    for (found, begins) in rejected.iter().zip(expected) {
        assert!(found.starts_with(begins), "{found} instead of {begins}");
        let secrets = [HMAC_KEY, KYC_KEY, "a secret that edges know", "sig="];
        assert!(!secrets.iter().any(|it| found.contains(it)), "{found}");
    }
    // The detail has every field that is needed to report it again.
    let again = format!(
        "click_id={} kind=sale event=\"\" transaction_id=\"foreign\" status=approved payout_minor=9999900 \
         currency=USD",
        click_text(&rejected[4])
    );
    assert!(rejected[4].ends_with(&again), "{}", rejected[4]);
    let name = "aggregator_reports_unproven_total{reason=\"not_proven\"}";
    assert_eq!(metric(aggregator.admin, name).await, Some(6.0));
}

fn click_text(detail: &str) -> &str {
    let (_, rest) = detail.split_once("click_id=").expect("click id");
    &rest[..tracking_events::CLICK_ID_CHARS]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_reports_section_trusts_edges_and_shows_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path();
    let engine = Engine::start(directory);
    let config = write_settings(directory, &engine.settings(), "");
    let aggregator = Process::start(&config);
    ship(directory, &aggregator, &reports()).await;
    let verified = metric(aggregator.admin, "aggregator_reports_verified").await;
    assert_eq!(verified, Some(0.0));
    let count = "SELECT toString(count()) FROM conversions";
    assert_eq!(texts(&engine, count).await, ["11"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsigned_reports_beyond_limits_are_set_aside_once() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path();
    let engine = Engine::start(directory);
    write_private(&directory.join("secrets.toml"), &secrets(&[1]));
    let limits = "unsigned_per_minute = 6\nunsigned_amount_per_day = 60\n";
    let settings = reports_settings(directory, limits);
    let config = write_settings(directory, &engine.settings(), &settings);
    let mut aggregator = Process::start(&config);
    // The limit of one minute. 19.99 three times is within the amount; reversals add nothing to it.
    let time = Micros(Micros::now().0 - 60_000_000);
    let of = |status, transaction: String| {
        let report = sale("shares", click(7), leak(transaction));
        Event::Conversion(Conversion {
            time,
            status,
            ..report
        })
    };
    let mut events: Vec<Event<'static>> = (0..4)
        .map(|number| of(ConversionStatus::Approved, format!("t{number}")))
        .collect();
    events.extend((4..8).map(|number| of(ConversionStatus::Rejected, format!("t{number}"))));
    // A signed report does not count.
    events.push(Event::Conversion(signed("signed", HMAC_KEY)));
    ship(directory, &aggregator, &events).await;
    let expected = ["t3 164", "t7 164"];
    let set_aside = "SELECT concat(extract(detail, 'transaction_id=\"(t.)\"'), ' ', toString(reason)) \
                     FROM rejections ORDER BY seq";
    assert_eq!(texts(&engine, set_aside).await, expected);
    let count = "SELECT toString(count()) FROM conversions";
    assert_eq!(texts(&engine, count).await, ["7"]);
    // Counting continues after a restart.
    aggregator.kill_and_restart();
    let more = [of(ConversionStatus::Approved, "t8".into())];
    let spool = directory.join("second");
    let mut edge = Edge::open(&spool, NODE, 1);
    edge.append_each(1, |_, _, _| more[0].clone());
    edge.ship_all(aggregator.listening, &client(directory))
        .await;
    aggregator.evaluated().await;
    assert_eq!(texts(&engine, count).await, ["7"]);
    let rows = "SELECT toString(count()) FROM rejections WHERE reason = 164";
    assert_eq!(texts(&engine, rows).await, ["3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversions_wait_for_click_keys_then_are_set_aside() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path();
    let engine = Engine::start(directory);
    // The edges have not created the keys yet.
    let settings = reports_settings(directory, "unknown_key_wait = \"3s\"\n");
    let config = write_settings(directory, &engine.settings(), &settings);
    let aggregator = Process::start(&config);
    let mut edge = Edge::open(&directory.join("spool"), NODE, 1);
    edge.append_each(1, |_, _, _| {
        Event::Conversion(sale("shares", click(7), "early"))
    });
    let quic = client(directory);
    until("printed", async || {
        edge.ship(aggregator.listening, quic.clone()).await;
        let (status, why) = page(aggregator.admin, "/readyz").await;
        status == 503 && why.contains("[reports] secrets")
    })
    .await;
    write_private(&directory.join("secrets.toml"), &secrets(&[1]));
    edge.ship_all(aggregator.listening, &quic).await;
    aggregator.evaluated().await;
    let transactions = "SELECT transaction FROM conversions";
    assert_eq!(texts(&engine, transactions).await, ["early"]);
    // A missing key blocks other reports for at most the configured wait.
    edge.append_each(1, |_, _, _| {
        Event::Conversion(sale("shares", click_of(9, 9, 7), "unknown"))
    });
    edge.append_each(1, |_, _, _| {
        Event::Conversion(sale("shares", click(7), "behind"))
    });
    edge.ship_all(aggregator.listening, &quic).await;
    aggregator.evaluated().await;
    let transactions = "SELECT transaction FROM conversions ORDER BY transaction";
    assert_eq!(texts(&engine, transactions).await, ["behind", "early"]);
    let reasons = "SELECT toString(reason) FROM rejections";
    assert_eq!(texts(&engine, reasons).await, ["163"]);
}

/// A report of a status; its signed time makes it valid only once.
fn timed(
    click: ClickId,
    transaction: &'static str,
    status: ConversionStatus,
    seconds: u64,
) -> Conversion<'static> {
    let report = sale("times", click, transaction);
    let query = format!(
        "click_id={}&payout=19.99&status={}&transaction_id={transaction}&ts={seconds}",
        report.click,
        status.as_str()
    );
    let query = format!("{query}&sig={}", signature(HMAC_KEY, &query));
    Conversion {
        status,
        signed: Some(SignedRequest {
            method: "GET",
            path: "/postback/times",
            query: leak(query),
            headers: Vec::new(),
            body: b"",
        }),
        ..report
    }
}

fn reported_at(seconds: u64, report: Conversion<'static>) -> Event<'static> {
    let time = Micros(seconds * 1_000_000);
    Event::Conversion(Conversion { time, ..report })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_signed_report_is_a_repeat() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path();
    let engine = Engine::start(directory);
    write_private(&directory.join("secrets.toml"), &secrets(&[1]));
    let settings = reports_settings(directory, "");
    let config = write_settings(directory, &engine.settings(), &settings);
    let aggregator = Process::start(&config);
    let now = Micros::now().0 / 1_000_000;
    let click = click(7);
    let timed = |transaction, status, seconds| timed(click, transaction, status, seconds);
    let approved = |transaction| timed(transaction, Approved, now - 3);
    let events = [
        reported_at(now - 3, approved("t1")),
        reported_at(now - 2, timed("t1", Rejected, now - 2)),
        // An observer of the approval sends it again, and again after an hour.
        reported_at(now - 1, approved("t1")),
        reported_at(now, timed("t1", Approved, now - 3_600)),
        // The advertiser approves again.
        reported_at(now, timed("t1", Approved, now)),
        // The copy arrives before the original, from an edge that was disconnected.
        reported_at(now - 1, approved("t2")),
        reported_at(now - 2, timed("t2", Rejected, now - 2)),
        reported_at(now - 3, approved("t2")),
    ];
    ship(directory, &aggregator, &events).await;
    let states = |transaction| {
        format!(
            "SELECT concat(toString(revision), ' ', status) FROM conversions \
             WHERE transaction = '{transaction}' ORDER BY revision"
        )
    };
    assert_eq!(
        texts(&engine, &states("t1")).await,
        ["1 approved", "2 rejected", "3 approved"]
    );
    assert_eq!(
        texts(&engine, &states("t2")).await,
        ["1 approved", "2 rejected"]
    );
    let repeats = "SELECT concat(toString(revision), ' ', status) FROM conversion_repeats \
                   WHERE transaction = 't1'";
    assert_eq!(texts(&engine, repeats).await, ["2 approved"]);
    let rejected = "SELECT substring(detail, 1, 18) FROM rejections";
    assert_eq!(texts(&engine, rejected).await, ["127 outside_window"]);
}

#[test]
fn wrong_report_files_are_refused_without_their_values() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let directory = directory.path();
    write_private(&directory.join("secrets.toml"), &secrets(&[1]));
    let section = reports_settings(directory, "");
    let check = |section: &str| {
        let config = write_settings(directory, r#"url = "http://127.0.0.1:9""#, section);
        let mut program = Command::new(env!("CARGO_BIN_EXE_aggregator"));
        let output = program.args(["check", "--config"]).arg(config).output();
        String::from_utf8(output.expect("program runs").stderr).expect("text")
    };
    assert_eq!(check(&section), "");
    let lines = section.lines().filter(|line| !line.starts_with("links"));
    let without_links = lines.collect::<Vec<_>>().join("\n");
    let refused = check(&without_links);
    assert!(
        refused.contains("the advertiser signs converts clicks by offers"),
        "{refused}"
    );
    for (file, text, expected) in [
        (
            "advertisers.toml",
            "[a]\ndialect = \"generic\"\nauth = [{ secret_path = \"S3CRET\" }]\n",
            "auth: secrets",
        ),
        (
            "secrets.toml",
            "[click_id.keys]\n1 = \"S3CRET\"\n",
            "64 hexadecimal digits",
        ),
        (
            "variables.toml",
            "kyc_keys = S3CRET\n",
            "lines of name = \"value\"",
        ),
    ] {
        let path = directory.join(file);
        let before = std::fs::read_to_string(&path).expect("read");
        write_private(&path, text);
        let refused = check(&section);
        let shows = refused.contains(expected) && refused.contains(file);
        assert!(shows && !refused.contains("S3CRET"), "{refused}");
        write_private(&path, &before);
    }
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(directory.join("secrets.toml"), readable).expect("set");
    assert!(check(&section).contains("chmod 600"));
}
