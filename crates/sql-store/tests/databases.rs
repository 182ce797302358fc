//! The guarantees of the interface, on SQLite and on a real PostgreSQL.
#![allow(missing_docs)]

use domain::{ConversionStatus, Currency, Micros, Money};
use sql_store::test_server::TestDatabase;
use sql_store::{
    Access, Database, Isolation, Location, Migration, MigrationList, SqlError, Statement,
    Transaction, typed_row,
};
use std::sync::Arc;
use tokio::sync::Barrier;

const ACCESS: Access = Access {
    application_name: "test",
    max_connections: 8,
};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "sales",
        sql: "CREATE TABLE sales (id TEXT PRIMARY KEY, status TEXT NOT NULL, payout_minor BIGINT NOT NULL, \
              currency TEXT NOT NULL, time BIGINT NOT NULL, paid BIGINT NOT NULL, note BIGINT)",
        released_checksum: None,
    },
    Migration {
        version: 2,
        name: "counters",
        sql: "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL)",
        released_checksum: None,
    },
];
const NOTES: MigrationList = MigrationList {
    name: "notes",
    migrations: &[Migration {
        version: 1,
        name: "notes",
        sql: "CREATE TABLE notes (text TEXT NOT NULL)",
        released_checksum: None,
    }],
};
/// SHA-384 of the second migration's text.
const COUNTERS_CHECKSUM: &str = "cade424d97398328201fd203b078a582a737073f7dcc87b45693cf2eb4eda961a24e5842d4d24b18bc42110b3e2b83c9";

typed_row! {
    #[derive(Debug, PartialEq, Eq)]
    struct Sale {
        id: String,
        status: ConversionStatus,
        payout: Money,
        time: Micros,
        paid: bool,
        note: Option<i64>,
    }
}

async fn open(location: Location) -> Database {
    open_with(location, MIGRATIONS).await.expect("opened")
}

async fn open_with(location: Location, migrations: &[Migration]) -> Result<Database, SqlError> {
    Database::open(&location, ACCESS, migrations).await
}

fn insert(sale: &Sale) -> Statement {
    Statement::insert(
        "sales",
        [
            ("note", sale.note.into()),
            ("id", (&sale.id).into()),
            ("time", sale.time.into()),
            ("status", sale.status.into()),
            ("paid", sale.paid.into()),
            ("currency", sale.payout.currency.into()),
            ("payout_minor", sale.payout.minor.into()),
        ],
    )
}

fn sale(id: &str, status: ConversionStatus, note: Option<i64>) -> Sale {
    Sale {
        id: id.to_owned(),
        status,
        payout: Money {
            minor: i64::MIN,
            currency: Currency(*b"KWD"),
        },
        // Above the maximum of a signed number.
        time: Micros(u64::MAX - 7),
        paid: note.is_some(),
        note,
    }
}

#[tokio::test]
async fn typed_rows_are_read_as_they_were_stored() {
    for test in TestDatabase::both() {
        let database = open(test.location()).await;
        let mut tx = database.begin().await.expect("transaction");
        let sales = [
            sale("'; DROP TABLE sales --", ConversionStatus::Pending, None),
            sale("$1?ü", ConversionStatus::Chargeback, Some(-1)),
            sale("z", ConversionStatus::Pending, Some(0)),
        ];
        for sale in &sales {
            assert_eq!(tx.execute(insert(sale)).await.expect("inserted"), 1);
        }
        tx.commit().await.expect("committed");

        let mut tx = database.begin().await.expect("transaction");
        for status in [None, Some(ConversionStatus::Pending)] {
            let mut select =
                Statement::new("SELECT * FROM sales WHERE time = $1").bind(Micros(u64::MAX - 7));
            if let Some(status) = status {
                select = select.push(" AND status = ").push_bind(status);
            }
            let mut found: Vec<Sale> = tx
                .fetch_all(select.push(" ORDER BY note LIMIT ").push_bind(3_usize))
                .await
                .expect("read");
            found.sort_by_key(|it| it.note);
            let expected: Vec<_> = sales
                .iter()
                .filter(|it| status.is_none_or(|status| it.status == status))
                .collect();
            let mut expected = expected;
            expected.sort_by_key(|it| it.note);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        }
        let none = Statement::new("SELECT * FROM sales WHERE id = $1").bind("missing");
        assert_eq!(tx.fetch_optional::<Sale>(none).await.expect("read"), None);
    }
}

#[tokio::test]
async fn nul_bytes_are_stored_as_replacement_characters() {
    for test in TestDatabase::both() {
        let database = open(test.location()).await;
        let mut tx = database.begin().await.expect("transaction");
        let sale = sale("nul\0nul", ConversionStatus::Pending, None);
        tx.execute(insert(&sale)).await.expect("inserted");
        let select = Statement::new("SELECT * FROM sales");
        let stored: Option<Sale> = tx.fetch_optional(select).await.expect("read");
        assert_eq!(stored.expect("row").id, "nul\u{fffd}nul");
    }
}

#[tokio::test]
async fn unknown_names_are_errors_that_name_the_column() {
    for test in TestDatabase::both() {
        let database = open(test.location()).await;
        let mut tx = database.begin().await.expect("transaction");
        tx.execute(insert(&sale("a", ConversionStatus::Pending, None)))
            .await
            .expect("inserted");
        tx.execute(Statement::new("UPDATE sales SET status = 'paid'"))
            .await
            .expect("updated");
        let read = tx.fetch_all::<Sale>(Statement::new("SELECT * FROM sales"));
        let error = read.await.expect_err("no status").to_string();
        assert!(
            error.contains("status") && error.contains("\"paid\""),
            "{error}"
        );
    }
}

#[tokio::test]
async fn uncommitted_transactions_leave_nothing() {
    for test in TestDatabase::both() {
        let database = open(test.location()).await;
        let mut tx = database.begin().await.expect("transaction");
        tx.execute(insert(&sale("a", ConversionStatus::Pending, None)))
            .await
            .expect("inserted");
        drop(tx);
        let mut attempts = database.attempts(Isolation::Serializable);
        let mut tx = attempts.begin().await.expect("transaction");
        tx.execute(insert(&sale("b", ConversionStatus::Pending, None)))
            .await
            .expect("inserted");
        let failed: Result<(), _> = Err(SqlError::NotAFile);
        let finished = attempts.finish(tx, failed).await;
        assert!(matches!(finished, Some(Err(SqlError::NotAFile))));
        assert_eq!(count(&database, "SELECT COUNT(*) FROM sales").await, 0);
    }
}

#[tokio::test]
async fn migrations_are_applied_once_and_never_changed() {
    for test in TestDatabase::both() {
        open_with(test.location(), &MIGRATIONS[..1])
            .await
            .expect("first");
        // Opened again by the same and by a newer program.
        open_with(test.location(), &MIGRATIONS[..1])
            .await
            .expect("again");
        let database = open(test.location()).await;
        assert_eq!(count(&database, "SELECT COUNT(*) FROM counters").await, 0);
        let error = open_with(test.location(), &MIGRATIONS[..1]).await;
        let error = error.expect_err("older program").to_string();
        assert!(error.contains("upgrade the program"), "{error}");
        let changed = [Migration {
            sql: "CREATE TABLE other (id TEXT)",
            ..MIGRATIONS[0]
        }];
        let reworded = Migration {
            sql: "CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL) -- by name",
            released_checksum: Some(COUNTERS_CHECKSUM),
            ..MIGRATIONS[1]
        };
        let with_comment = open_with(test.location(), &[MIGRATIONS[0], reworded]).await;
        with_comment.expect("a comment is no change");
        let error = open_with(test.location(), &[changed[0], MIGRATIONS[1]]).await;
        assert!(matches!(error, Err(SqlError::Migration(_))), "{error:?}");
    }
}

#[tokio::test]
async fn migration_lists_are_numbered_independently() {
    for test in TestDatabase::both() {
        let database = open(test.location()).await;
        for _ in 0..2 {
            database.migrate(NOTES).await.expect("up to date");
        }
        assert_eq!(count(&database, "SELECT COUNT(*) FROM notes").await, 0);
        // The first list is as it was, and a newer list is found out by its own numbers.
        open(test.location()).await;
        let older = MigrationList {
            migrations: &[],
            ..NOTES
        };
        let error = database.migrate(older).await.expect_err("older program");
        assert!(error.to_string().contains("upgrade the program"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_lose_no_update() {
    const TASKS: i64 = 8;
    for test in TestDatabase::both() {
        let database = open(test.location()).await;
        let mut tx = database.begin().await.expect("transaction");
        let initial = [("name", "n".into()), ("value", 0_i64.into())];
        let initial = Statement::insert("counters", initial);
        tx.execute(initial).await.expect("inserted");
        tx.commit().await.expect("committed");
        let started = Arc::new(Barrier::new(TASKS as usize));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                // Each has connections of its own, as another process has.
                let (location, started) = (test.location(), Arc::clone(&started));
                tokio::spawn(async move {
                    let database = Database::open(&location, ACCESS, MIGRATIONS)
                        .await
                        .expect("opened");
                    started.wait().await;
                    let mut attempts = database.attempts(Isolation::Serializable);
                    loop {
                        let mut tx = attempts.begin().await.expect("transaction");
                        let incremented = increment(&mut tx).await;
                        if let Some(done) = attempts.finish(tx, incremented).await {
                            break done.expect("repeated until it succeeds");
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        assert_eq!(count(&database, "SELECT value FROM counters").await, TASKS);
    }
}

async fn add_one(tx: &mut Transaction, name: &'static str) -> Result<u64, SqlError> {
    let add = "UPDATE counters SET value = value + 1 WHERE name = $1";
    tx.execute(Statement::new(add).bind(name)).await
}

async fn increment(tx: &mut Transaction) -> Result<(), SqlError> {
    let select = Statement::new("SELECT value FROM counters");
    let value: i64 = tx.fetch_optional(select).await?.expect("the row");
    let update = Statement::new("UPDATE counters SET value = $1");
    tx.execute(update.bind(value + 1)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlocked_transactions_both_succeed() {
    let test = TestDatabase::postgres();
    let database = open(test.location()).await;
    let mut tx = database.begin().await.expect("transaction");
    for name in ["a", "b"] {
        let row = [("name", name.into()), ("value", 0_i64.into())];
        tx.execute(Statement::insert("counters", row))
            .await
            .expect("inserted");
    }
    tx.commit().await.expect("committed");
    let locked = Arc::new(Barrier::new(2));
    let tasks = [["a", "b"], ["b", "a"]].map(|[first, second]| {
        let (database, locked) = (database.clone(), Arc::clone(&locked));
        tokio::spawn(async move {
            let mut attempts = database.attempts(Isolation::ReadCommitted);
            for attempt in 1.. {
                let mut tx = attempts.begin().await.expect("transaction");
                let mut added = add_one(&mut tx, first).await;
                if attempt == 1 {
                    locked.wait().await;
                }
                if added.is_ok() {
                    added = add_one(&mut tx, second).await;
                }
                if let Some(done) = attempts.finish(tx, added).await {
                    done.expect("repeated after the deadlock");
                    return attempt;
                }
            }
            unreachable!("attempts end")
        })
    });
    let mut attempts = 0_u32;
    for task in tasks {
        attempts += task.await.expect("no panic");
    }
    assert_eq!(attempts, 3, "one of them was repeated");
    assert_eq!(
        count(&database, "SELECT SUM(value)::BIGINT FROM counters").await,
        4
    );
}

#[tokio::test]
async fn files_are_copied_to_an_empty_postgres_only() {
    let [file, server] = TestDatabase::both();
    let database = open(file.location()).await;
    let mut tx = database.begin().await.expect("transaction");
    let sales = [
        sale("a", ConversionStatus::Pending, None),
        sale("b", ConversionStatus::Hold, Some(1)),
    ];
    for sale in &sales {
        tx.execute(insert(sale)).await.expect("inserted");
    }
    tx.commit().await.expect("committed");
    database.migrate(NOTES).await.expect("up to date");
    database.close().await;
    let Location::File(path) = file.location() else {
        panic!("it is a file");
    };
    assert!(
        sql_store::has_rows(&path, &["sales", "missing"])
            .await
            .expect("read")
    );
    assert!(
        !sql_store::has_rows(&path, &["counters"])
            .await
            .expect("read")
    );
    let copy = async || {
        sql_store::copy_to_postgres(
            &path,
            &server.location(),
            ACCESS,
            MIGRATIONS,
            &[],
            &["sales"],
        )
        .await
    };
    let copied = copy().await.expect("copied");
    let copied: Vec<_> = copied
        .iter()
        .map(|it| (it.name.as_str(), it.rows))
        .collect();
    assert_eq!(copied, [("counters", 0), ("notes", 0), ("sales", 2)]);
    let mut tx = open(server.location())
        .await
        .begin()
        .await
        .expect("transaction");
    let stored: Vec<Sale> = tx
        .fetch_all(Statement::new("SELECT * FROM sales ORDER BY id"))
        .await
        .expect("read");
    assert_eq!(stored, sales);
    // Its locks would block the copy.
    drop(tx);
    assert!(matches!(copy().await, Err(SqlError::Occupied)));
}

async fn count(database: &Database, sql: &'static str) -> i64 {
    let mut tx = database.begin().await.expect("transaction");
    let count = tx.fetch_optional(Statement::new(sql)).await.expect(sql);
    count.expect("row")
}
