//! The guarantees of the store, on SQLite and on PostgreSQL.

mod clicks;
mod history;
mod outbox;
mod places;
mod proofs;
mod rebuilds;
mod refunds;
mod steady;

use super::evaluation::Evaluator;
use super::{ACCESS, ConversionStore, ConversionStoreError, MIGRATIONS};
use crate::report::{EventHash, LocatedEvent, Verdict};
use domain::{ConversionKind, ConversionStatus, Currency, KycStatus, Micros, Money};
use event_shipping::LaneKey;
use sql_store::test_server::TestDatabase;
use sql_store::{Database, Location, Statement, Transaction};
use tracking_events::{ClickId, Conversion, Event, KycUpdate, Stated, encode};

use ConversionStatus::{Approved, Chargeback, Hold, Pending, Rejected};

/// What the tests of the store do with a database.
trait StoreDatabase {
    /// The store of an aggregator that has just started.
    fn store(&self) -> ConversionStore;

    /// The same, and it notifies affiliates.
    fn notifying_store(&self) -> ConversionStore;

    async fn run(&self, sql: &'static str);

    /// The texts of a query with one column.
    async fn fetch_all(&self, sql: &'static str) -> Vec<String>;
}

impl StoreDatabase for TestDatabase {
    fn store(&self) -> ConversionStore {
        ConversionStore::new(self.location(), false)
    }

    /// The same, and it notifies affiliates.
    fn notifying_store(&self) -> ConversionStore {
        ConversionStore::new(self.location(), true)
    }

    async fn run(&self, sql: &'static str) {
        let mut tx = begin(&self.location()).await;
        tx.execute(Statement::new(sql)).await.expect(sql);
        tx.commit().await.expect("committed");
    }

    async fn fetch_all(&self, sql: &'static str) -> Vec<String> {
        texts(&mut begin(&self.location()).await, Statement::new(sql)).await
    }
}

/// Begins a transaction on connections of its own.
async fn begin(location: &Location) -> Transaction {
    let database = Database::open(location, ACCESS, MIGRATIONS).await;
    database
        .expect("opened")
        .begin()
        .await
        .expect("transaction")
}

async fn texts(tx: &mut Transaction, select: Statement) -> Vec<String> {
    tx.fetch_all(select).await.expect("read")
}

/// The verdicts on reports as texts.
async fn verdict_texts(store: &ConversionStore, reports: &[LocatedEvent<'_>]) -> Vec<String> {
    let verdicts = store.verdicts(reports).await.expect("evaluated");
    verdicts.iter().map(verdict_text).collect()
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Revised(revisions) => {
            let each = revisions.iter().map(|it| {
                let name = if it.kind == ConversionKind::Custom {
                    &it.kind_name
                } else {
                    it.kind.as_str()
                };
                let withdrawn = if it.withdrawn { " withdrawn" } else { "" };
                let (number, status) = (it.revision, it.status.as_str());
                format!("{number} {name} {status} {}{withdrawn}", it.payout.minor)
            });
            each.collect::<Vec<_>>().join(", ")
        }
        Verdict::Unchanged(it) if it.is_late => format!("late after {}", it.revision),
        Verdict::Unchanged(it) => format!("repeat of {}", it.revision),
        Verdict::BadTransition(why) => format!("refused: {why}"),
        Verdict::TooManyReports(_) => "too many".to_owned(),
        Verdict::Applied => "applied".to_owned(),
        Verdict::Late => "late".to_owned(),
        Verdict::Duplicate => "again".to_owned(),
        Verdict::Unproven(unproven) => format!("unproven: {}", unproven.reason.name()),
        Verdict::Noted => "noted".to_owned(),
    }
}

const LANE: LaneKey = LaneKey {
    node: 1,
    lane: 2,
    // Above the maximum of a signed number.
    journal: u64::MAX - 7,
};

fn located(key: LaneKey, seq: u64, event: Event<'_>) -> LocatedEvent<'_> {
    let mut bytes = vec![0; 1 << 18];
    let length = encode(&event, &mut bytes).expect("it fits");
    LocatedEvent {
        key,
        seq,
        hash: EventHash::of(&bytes[..length]),
        event,
    }
}

fn conversion(transaction: &str, status: ConversionStatus, minor: i64) -> Event<'_> {
    Event::Conversion(Conversion {
        time: Micros(1_750_000_000_000_000),
        advertiser: "adv",
        click: ClickId::parse(&[b'-'; 36]).expect("click id"),
        kind: ConversionKind::Sale,
        kind_name: "",
        transaction,
        status,
        payout: Money {
            minor,
            currency: Currency(*b"EUR"),
        },
        dialect: "s2s",
        address: [0; 16],
        stated: Stated::ALL,
        signed: None,
        payout_as_sent: "",
    })
}

fn check(delivery: &str, happened: u64, status: KycStatus, tier: u8) -> Event<'_> {
    Event::KycUpdate(KycUpdate {
        time: Micros(1_800_000_000_000_000),
        happened: Micros(1_700_000_000_000_000 + happened),
        provider: "verifymy",
        delivery,
        affiliate: "aff",
        status,
        tier,
        signed: None,
    })
}

/// The events, at sequences from `first`.
fn block<'a>(first: u64, events: impl IntoIterator<Item = Event<'a>>) -> Vec<LocatedEvent<'a>> {
    let numbered = (first..).zip(events);
    numbered
        .map(|(seq, event)| located(LANE, seq, event))
        .collect()
}

const REVISIONS: &str = "SELECT transaction_id || ' ' || CAST(r.revision AS TEXT) || ' ' || r.status || ' ' || \
     CAST(r.payout_minor AS TEXT) FROM conversion_revisions r \
     JOIN conversions c ON c.identity = r.identity ORDER BY 1";

fn of_kind<'a>(event: Event<'a>, kind: ConversionKind, kind_name: &'a str) -> Event<'a> {
    let Event::Conversion(conversion) = event else {
        panic!("only conversions have one")
    };
    Event::Conversion(Conversion {
        kind,
        kind_name,
        ..conversion
    })
}

#[tokio::test]
async fn reversal_matches_single_conversion_of_any_kind() {
    use ConversionKind::{Custom, Rebill, Sale};
    for home in TestDatabase::both() {
        let events = [
            of_kind(conversion("a", Approved, 5), Custom, "deposit"),
            of_kind(conversion("a", Chargeback, 5), Sale, "chargeback"),
            of_kind(conversion("a", Chargeback, 5), Sale, "chargeback"),
            of_kind(conversion("b", Approved, 5), Rebill, ""),
            of_kind(conversion("b", Approved, 7), Custom, "step"),
            // It could be about either.
            conversion("b", Rejected, 0),
            conversion("c", Approved, 5),
            of_kind(conversion("c", Approved, 9), Rebill, ""),
            // The sale itself is there.
            conversion("c", Rejected, 0),
            // Only reversals match a conversion of another kind.
            of_kind(conversion("a", Pending, 5), Rebill, ""),
        ];
        let reports = block(1, events);
        let expected = [
            "1 deposit approved 5",
            "2 deposit chargeback 5",
            "repeat of 2",
            "1 rebill approved 5",
            "1 step approved 7",
            "1 sale rejected 0",
            "1 sale approved 5",
            "1 rebill approved 9",
            "2 sale rejected 0",
            "1 rebill pending 5",
        ];
        assert_eq!(verdict_texts(&home.store(), &reports).await, expected);
        // After a crash the verdicts are the same.
        assert_eq!(verdict_texts(&home.store(), &reports).await, expected);
    }
}

#[tokio::test]
async fn conversions_are_new_repeated_revised_or_refused() {
    for home in TestDatabase::both() {
        let events = [
            conversion("t", Pending, 100),
            conversion("t", Pending, 100),
            conversion("u", Approved, 5),
            conversion("t", Pending, 120),
            conversion("t", Approved, 120),
            conversion("t", Pending, 120),
            conversion("t", Chargeback, 120),
            conversion("t", Approved, 120),
            conversion("", Rejected, 0),
            conversion("", Hold, 0),
        ];
        let verdicts = verdict_texts(&home.store(), &block(1, events)).await;
        let click = "-".repeat(36);
        let refused =
            |from, to| format!("refused: {from} can't become {to} (click {click}, sale \"t\")");
        let expected = [
            "1 sale pending 100".to_owned(),
            "repeat of 1".to_owned(),
            "1 sale approved 5".to_owned(),
            "2 sale pending 120".to_owned(),
            "3 sale approved 120".to_owned(),
            refused("approved", "pending"),
            "4 sale chargeback 120".to_owned(),
            refused("chargeback", "approved"),
            "1 sale rejected 0".to_owned(),
            "2 sale hold 0".to_owned(),
        ];
        assert_eq!(verdicts, expected);
        let history = [
            " 1 rejected 0",
            " 2 hold 0",
            "t 1 pending 100",
            "t 2 pending 120",
            "t 3 approved 120",
            "t 4 chargeback 120",
            "u 1 approved 5",
        ];
        assert_eq!(home.fetch_all(REVISIONS).await, history);
    }
}

#[tokio::test]
async fn only_custom_conversions_are_distinguished_by_name() {
    for home in TestDatabase::both() {
        let named = |kind, kind_name| match conversion("t", Pending, 1) {
            Event::Conversion(report) => Event::Conversion(Conversion {
                kind,
                kind_name,
                ..report
            }),
            other => other,
        };
        let events = [
            named(ConversionKind::Sale, "order"),
            named(ConversionKind::Sale, "purchase"),
            named(ConversionKind::Custom, "quiz"),
            named(ConversionKind::Custom, "call"),
        ];
        let expected = [
            "1 sale pending 1",
            "repeat of 1",
            "1 quiz pending 1",
            "1 call pending 1",
        ];
        assert_eq!(
            verdict_texts(&home.store(), &block(1, events)).await,
            expected
        );
    }
}

#[tokio::test]
async fn repeated_block_gets_the_same_verdicts() {
    for home in TestDatabase::both() {
        let events = || {
            [
                conversion("t", Approved, 1),
                conversion("t", Approved, 1),
                conversion("t", Pending, 1),
                check("a", 2, KycStatus::Approved, 1),
                check("b", 1, KycStatus::Rejected, 0),
                check("a", 2, KycStatus::Approved, 1),
            ]
        };
        let first = home.store().verdicts(&block(1, events())).await;
        let first = first.expect("evaluated");
        // The conversion changes before the block is repeated.
        let later = [conversion("t", Chargeback, 1)];
        let later = verdict_texts(&home.store(), &block(7, later)).await;
        assert_eq!(later, ["2 sale chargeback 1"]);
        let (history, people) = (
            home.fetch_all(REVISIONS).await,
            home.fetch_all(AFFILIATES).await,
        );
        let again = home.store().verdicts(&block(1, events())).await;
        assert_eq!(again.expect("evaluated again"), first);
        assert_eq!(home.fetch_all(REVISIONS).await, history);
        assert_eq!(home.fetch_all(AFFILIATES).await, people);
    }
}

#[tokio::test]
async fn crash_within_a_block_leaves_nothing_of_it() {
    for home in TestDatabase::both() {
        let events = [
            conversion("t", Approved, 1),
            conversion("t", Approved, 2),
            check("a", 2, KycStatus::Approved, 1),
        ];
        let reports = block(1, events);
        for count in 0..=reports.len() {
            let mut tx = begin(&home.location()).await;
            let mut evaluator = Evaluator::new(None, None);
            for report in &reports[..count] {
                let verdict = evaluator.evaluate(&mut tx, report).await;
                verdict.expect("evaluated");
            }
            // Never committed.
            drop(tx);
            assert_eq!(home.fetch_all(REVISIONS).await, [] as [&str; 0]);
            assert_eq!(home.fetch_all(AFFILIATES).await, [] as [&str; 0]);
        }
        let expected = ["1 sale approved 1", "2 sale approved 2", "applied"];
        assert_eq!(verdict_texts(&home.store(), &reports).await, expected);
    }
}

const AFFILIATES: &str = "SELECT name || ' ' || CAST(tier AS TEXT) || ' ' || kyc_status || ' ' || \
                      COALESCE(CAST(earning_limit AS TEXT), 'no limit') FROM affiliates";

#[tokio::test]
async fn checks_are_ordered_by_the_time_they_happened() {
    use KycStatus::{Approved, Pending, Revoked};
    let events = [
        check("a", 1, Pending, 0),
        check("b", 2, Approved, 2),
        check("c", 3, Pending, 3),
        check("d", 4, Approved, 3),
    ];
    let states = [
        "aff 0 pending 10000",
        "aff 2 approved 1000000",
        // A pending check lowers no tier.
        "aff 2 pending 1000000",
        "aff 3 approved no limit",
    ];
    for home in TestDatabase::both() {
        let store = home.store();
        for (number, (event, state)) in (1..).zip(events.iter().zip(states)) {
            let verdicts = store.verdicts(&block(number, [event.clone()])).await;
            assert_eq!(verdicts.expect("evaluated"), [Verdict::Applied]);
            assert_eq!(home.fetch_all(AFFILIATES).await, [state]);
        }
        // Older than all of them, then a repetition, then a revocation.
        let late = [check("z", 0, Revoked, 0), events[1].clone()];
        let verdicts = store.verdicts(&block(10, late)).await.expect("evaluated");
        assert_eq!(verdicts, [Verdict::Late, Verdict::Duplicate]);
        assert_eq!(home.fetch_all(AFFILIATES).await, [states[3]]);
        let end = [check("e", 5, Revoked, 0)];
        let verdicts = store.verdicts(&block(20, end)).await.expect("evaluated");
        assert_eq!(verdicts, [Verdict::Applied]);
        assert_eq!(home.fetch_all(AFFILIATES).await, ["aff 0 revoked 10000"]);
        let kept = "SELECT delivery FROM kyc_deliveries ORDER BY delivery";
        assert_eq!(home.fetch_all(kept).await, ["a", "b", "c", "d", "e", "z"]);
    }
}

#[tokio::test]
async fn checks_in_any_order_have_the_same_result() {
    use KycStatus::{Approved, Pending, Revoked};
    let events = [
        check("a", 1, Approved, 2),
        check("b", 2, Revoked, 0),
        // At the same moment: the check that trusts less prevails.
        check("c", 3, Approved, 1),
        check("d", 3, Pending, 3),
    ];
    let directory = tempfile::tempdir().expect("temporary directory");
    for (number, order) in orders(&[0, 1, 2, 3]).into_iter().enumerate() {
        let home = Location::File(directory.path().join(number.to_string()));
        let arriving = order.iter().map(|index| events[*index].clone());
        let store = ConversionStore::new(home.clone(), false);
        store
            .verdicts(&block(1, arriving))
            .await
            .expect("evaluated");
        let states = texts(&mut begin(&home).await, Statement::new(AFFILIATES)).await;
        assert_eq!(states, ["aff 1 approved 100000"], "{order:?}");
    }
}

fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let first = |at: usize| {
        let mut rest = of.to_vec();
        let first = rest.remove(at);
        let tails = orders(&rest).into_iter();
        tails.map(move |tail| [vec![first], tail].concat())
    };
    (0..of.len()).flat_map(first).collect()
}

#[tokio::test]
async fn identity_message_from_the_future_is_superseded() {
    for home in TestDatabase::both() {
        let events = [
            check("a", 400_000_000_000_000, KycStatus::Approved, 3),
            check("b", 100_000_000_000_000, KycStatus::Revoked, 0),
        ];
        let verdicts = home.store().verdicts(&block(1, events)).await;
        assert_eq!(
            verdicts.expect("evaluated"),
            [Verdict::Applied, Verdict::Applied]
        );
        assert_eq!(home.fetch_all(AFFILIATES).await, ["aff 0 revoked 10000"]);
    }
}

/// A report that the database can't store would block all later ones.
#[tokio::test]
async fn hostile_texts_are_stored() {
    for home in TestDatabase::both() {
        let long = "ü\u{1}".repeat(5_000);
        for (number, text) in (1..).zip(["nul\0nul", "'; DROP TABLE x --", "$1?", &long]) {
            let sale = match conversion(text, Pending, i64::MIN) {
                Event::Conversion(report) => Event::Conversion(Conversion {
                    advertiser: text,
                    kind_name: text,
                    payout: Money::default(),
                    ..report
                }),
                other => other,
            };
            let check = match check(text, u64::MAX >> 12, KycStatus::Approved, 3) {
                Event::KycUpdate(update) => Event::KycUpdate(KycUpdate {
                    provider: text,
                    affiliate: text,
                    ..update
                }),
                other => other,
            };
            let reports = block(number * 10, [sale, check]);
            let expected = ["1 sale pending 0", "applied"];
            assert_eq!(verdict_texts(&home.store(), &reports).await, expected);
        }
    }
}

#[tokio::test]
async fn blocks_without_reports_do_not_open_the_store() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("store.sqlite");
    let store = ConversionStore::new(Location::File(path.clone()), false);
    assert_eq!(store.verdicts(&[]).await.expect("nothing to do"), []);
    assert!(!path.exists());
}

#[tokio::test]
async fn errors_do_not_contain_the_password() {
    let reports = block(1, [conversion("t", Pending, 1)]);
    for url in [
        "postgres://me:hush@127.0.0.1:1/db",
        "postgres://me:hush@127.0.0.1:port/db",
    ] {
        let error = ConversionStore::new(Location::Url(url.to_owned()), false)
            .verdicts(&reports)
            .await;
        let error = error.expect_err("no server is there");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let nowhere = Location::File(directory.path().join("missing/store.sqlite"));
    let error = ConversionStore::new(nowhere, false)
        .verdicts(&reports)
        .await;
    assert!(
        matches!(error, Err(ConversionStoreError::Sql(_))),
        "{error:?}"
    );
}
