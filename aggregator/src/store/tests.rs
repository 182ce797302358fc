//! What the store promises, on SQLite and on PostgreSQL alike.

mod outbox;
mod postgres;

use super::sql::Pool;
use super::{Ledger, LedgerError, Place, judge_one};
use crate::report::{Placed, Verdict};
use event_shipping::LaneKey;
use postgres::Postgres;
use tempfile::TempDir;
use tracking_events::{
    ClickId, Conversion, ConversionKind, ConversionStatus, Event, KycStatus, KycUpdate, Micros,
    Money, Stated,
};

use ConversionStatus::{Approved, Chargeback, Hold, Pending, Rejected};

/// A database that is there until it is dropped.
enum Home {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl Home {
    fn both() -> [Self; 2] {
        let folder = tempfile::tempdir().expect("a folder");
        [Self::Sqlite(folder), Self::Postgres(Postgres::start())]
    }

    fn place(&self) -> Place {
        match self {
            Self::Sqlite(folder) => Place::File(folder.path().join("store.sqlite")),
            Self::Postgres(server) => Place::Url(server.url()),
        }
    }

    /// What an aggregator that has just started uses.
    fn ledger(&self) -> Ledger {
        Ledger::new(self.place(), false)
    }

    /// … and tells affiliates what it judges.
    fn announcing(&self) -> Ledger {
        Ledger::new(self.place(), true)
    }

    /// The texts that a question of one column gives.
    async fn ask(&self, sql: &'static str) -> Vec<String> {
        let pool = Pool::open(&self.place()).await.expect("opened");
        let mut tx = pool.begin().await.expect("begun");
        let lines = tx.ask(sql, &[]).await.expect(sql);
        let texts = lines.iter().map(|line| line.text(0).expect("a text"));
        texts.collect()
    }
}

fn placed(seq: u64, event: Event<'_>) -> Placed<'_> {
    let key = LaneKey {
        node: 1,
        lane: 2,
        // Above what a signed number holds.
        journal: u64::MAX - 7,
    };
    Placed { key, seq, event }
}

fn conversion(transaction: &str, status: ConversionStatus, minor: i64) -> Event<'_> {
    Event::Conversion(Conversion {
        time: Micros(1_800_000_000_000_000),
        advertiser: "adv",
        click: ClickId::parse(&[b'A'; 36]).expect("an id"),
        kind: ConversionKind::Sale,
        kind_name: "",
        transaction,
        status,
        payout: Money {
            minor,
            currency: *b"EUR",
        },
        dialect: "s2s",
        address: [0; 16],
        stated: Stated::ALL,
        signed: None,
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
fn block<'a>(first: u64, events: impl IntoIterator<Item = Event<'a>>) -> Vec<Placed<'a>> {
    let numbered = (first..).zip(events);
    numbered.map(|(seq, event)| placed(seq, event)).collect()
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
async fn what_takes_a_sale_back_finds_it_whatever_its_kind_unless_there_are_several() {
    use ConversionKind::{Custom, Rebill, Sale};
    for home in Home::both() {
        let events = [
            of_kind(conversion("a", Approved, 5), Custom, "deposit"),
            of_kind(conversion("a", Chargeback, 5), Sale, "chargeback"),
            of_kind(conversion("a", Chargeback, 5), Sale, "chargeback"),
            of_kind(conversion("b", Approved, 5), Rebill, ""),
            of_kind(conversion("b", Approved, 7), Custom, "step"),
            // Either may be meant.
            conversion("b", Rejected, 0),
            conversion("c", Approved, 5),
            of_kind(conversion("c", Approved, 9), Rebill, ""),
            // The sale itself is there.
            conversion("c", Rejected, 0),
            // Only what takes back is looked for so.
            of_kind(conversion("a", Pending, 5), Rebill, ""),
        ];
        let reports = block(1, events);
        let verdicts = home.ledger().judge(&reports).await.expect("judged");
        let taken_back = Verdict::TakenBack {
            revision: 2,
            kind: Custom,
            kind_name: "deposit".into(),
        };
        let expected = [
            Verdict::Revision(1),
            taken_back,
            Verdict::Repeat(2),
            Verdict::Revision(1),
            Verdict::Revision(1),
            Verdict::Revision(1),
            Verdict::Revision(1),
            Verdict::Revision(1),
            Verdict::Revision(2),
            Verdict::Revision(1),
        ];
        assert_eq!(verdicts, expected);
        // After a crash the same is said.
        let again = home.ledger().judge(&reports).await.expect("judged");
        assert_eq!(again, expected);
    }
}

#[tokio::test]
async fn conversions_are_new_repeated_revised_or_refused() {
    for home in Home::both() {
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
        let verdicts = home.ledger().judge(&block(1, events)).await;
        let verdicts = verdicts.expect("judged");
        let click = "A".repeat(36);
        let refused = |from, to| {
            let why = format!("{from} can't become {to} (click {click}, sale \"t\")");
            Verdict::BadTransition(why)
        };
        let expected = [
            Verdict::Revision(1),
            Verdict::Repeat(1),
            Verdict::Revision(1),
            Verdict::Revision(2),
            Verdict::Revision(3),
            refused("approved", "pending"),
            Verdict::Revision(4),
            refused("chargeback", "approved"),
            Verdict::Revision(1),
            Verdict::Revision(2),
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
        assert_eq!(home.ask(REVISIONS).await, history);
    }
}

#[tokio::test]
async fn the_advertisers_word_tells_only_custom_conversions_apart() {
    for home in Home::both() {
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
        let verdicts = home.ledger().judge(&block(1, events)).await;
        let (first, repeat) = (Verdict::Revision(1), Verdict::Repeat(1));
        let expected = [first.clone(), repeat, first.clone(), first];
        assert_eq!(verdicts.expect("judged"), expected);
    }
}

#[tokio::test]
async fn a_block_judged_again_gets_the_same_verdicts() {
    for home in Home::both() {
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
        let first = home.ledger().judge(&block(1, events())).await;
        let first = first.expect("judged");
        // Something else happens to the same conversion before the block comes again.
        let later = [conversion("t", Chargeback, 1)];
        let later = home.ledger().judge(&block(7, later)).await;
        assert_eq!(later.expect("judged"), [Verdict::Revision(2)]);
        let (history, people) = (home.ask(REVISIONS).await, home.ask(PEOPLE).await);
        let again = home.ledger().judge(&block(1, events())).await;
        assert_eq!(again.expect("judged again"), first);
        assert_eq!(home.ask(REVISIONS).await, history);
        assert_eq!(home.ask(PEOPLE).await, people);
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_block_leaves_nothing_of_it() {
    for home in Home::both() {
        let events = [
            conversion("t", Approved, 1),
            conversion("t", Approved, 2),
            check("a", 2, KycStatus::Approved, 1),
        ];
        let reports = block(1, events);
        for judged in 0..=reports.len() {
            let pool = Pool::open(&home.place()).await.expect("opened");
            let mut tx = pool.begin().await.expect("begun");
            for report in &reports[..judged] {
                judge_one(&mut tx, report, None).await.expect("judged");
            }
            // Never committed.
            drop(tx);
            assert_eq!(home.ask(REVISIONS).await, [] as [&str; 0]);
            assert_eq!(home.ask(PEOPLE).await, [] as [&str; 0]);
        }
        let verdicts = home.ledger().judge(&reports).await.expect("judged");
        let expected = [Verdict::Revision(1), Verdict::Revision(2), Verdict::Applied];
        assert_eq!(verdicts, expected);
    }
}

const PEOPLE: &str = "SELECT name || ' ' || CAST(tier AS TEXT) || ' ' || kyc_status || ' ' || \
                      COALESCE(CAST(earning_limit AS TEXT), 'no limit') FROM affiliates";

#[tokio::test]
async fn checks_are_settled_by_when_they_happened() {
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
        // A check that has only begun takes nothing away.
        "aff 2 pending 1000000",
        "aff 3 approved no limit",
    ];
    for home in Home::both() {
        let ledger = home.ledger();
        for (number, (event, state)) in (1..).zip(events.iter().zip(states)) {
            let verdicts = ledger.judge(&block(number, [event.clone()])).await;
            assert_eq!(verdicts.expect("judged"), [Verdict::Applied]);
            assert_eq!(home.ask(PEOPLE).await, [state]);
        }
        // Older than all of them, then one that was told before, then the end of it.
        let late = [check("z", 0, Revoked, 0), events[1].clone()];
        let verdicts = ledger.judge(&block(10, late)).await.expect("judged");
        assert_eq!(verdicts, [Verdict::Late, Verdict::Again]);
        assert_eq!(home.ask(PEOPLE).await, [states[3]]);
        let end = [check("e", 5, Revoked, 0)];
        let verdicts = ledger.judge(&block(20, end)).await.expect("judged");
        assert_eq!(verdicts, [Verdict::Applied]);
        assert_eq!(home.ask(PEOPLE).await, ["aff 0 revoked 10000"]);
        let kept = "SELECT delivery FROM kyc_deliveries ORDER BY delivery";
        assert_eq!(home.ask(kept).await, ["a", "b", "c", "d", "e", "z"]);
    }
}

#[tokio::test]
async fn checks_in_any_order_end_alike() {
    use KycStatus::{Approved, Pending, Revoked};
    let events = [
        check("a", 1, Approved, 2),
        check("b", 2, Revoked, 0),
        // Of the same moment: who trusts less prevails.
        check("c", 3, Approved, 1),
        check("d", 3, Pending, 3),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    for (number, order) in orders(&[0, 1, 2, 3]).into_iter().enumerate() {
        let home = Place::File(folder.path().join(number.to_string()));
        let arriving = order.iter().map(|index| events[*index].clone());
        let ledger = Ledger::new(home.clone(), false);
        ledger.judge(&block(1, arriving)).await.expect("judged");
        let pool = Pool::open(&home).await.expect("opened");
        let mut tx = pool.begin().await.expect("begun");
        let lines = tx.ask(PEOPLE, &[]).await.expect("asked");
        let state = lines[0].text(0).expect("a text");
        assert_eq!(state, "aff 1 approved 100000", "{order:?}");
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
async fn a_service_with_a_wrong_clock_does_not_have_the_last_word_for_years() {
    for home in Home::both() {
        let events = [
            check("a", 400_000_000_000_000, KycStatus::Approved, 3),
            check("b", 100_000_000_000_000, KycStatus::Revoked, 0),
        ];
        let verdicts = home.ledger().judge(&block(1, events)).await;
        assert_eq!(
            verdicts.expect("judged"),
            [Verdict::Applied, Verdict::Applied]
        );
        assert_eq!(home.ask(PEOPLE).await, ["aff 0 revoked 10000"]);
    }
}

/// One report that the database can't take would hold up all that come after it.
#[tokio::test]
async fn no_text_stops_the_store() {
    for home in Home::both() {
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
            let verdicts = home
                .ledger()
                .judge(&block(number * 10, [sale, check]))
                .await;
            let expected = [Verdict::Revision(1), Verdict::Applied];
            assert_eq!(verdicts.expect("judged"), expected);
        }
    }
}

#[tokio::test]
async fn clicks_and_refusals_do_not_open_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.sqlite");
    let ledger = Ledger::new(Place::File(path.clone()), false);
    assert_eq!(ledger.judge(&[]).await.expect("nothing to do"), []);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_wrong_is_said_without_the_password() {
    let reports = block(1, [conversion("t", Pending, 1)]);
    for url in [
        "postgres://me:hush@127.0.0.1:1/db",
        "postgres://me:hush@127.0.0.1:port/db",
    ] {
        let error = Ledger::new(Place::Url(url.to_owned()), false)
            .judge(&reports)
            .await;
        let error = error.expect_err("nobody is there");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = Place::File(folder.path().join("missing/store.sqlite"));
    let error = Ledger::new(nowhere, false).judge(&reports).await;
    assert!(matches!(error, Err(LedgerError::Sql(_))), "{error:?}");
}
