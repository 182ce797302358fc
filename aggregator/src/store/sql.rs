//! SQLite and PostgreSQL behind one face: numbers and texts go in and come out, and statements are
//! written so that both understand them.

use super::{ConversionStoreError, StoreLocation};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{PgPool, Postgres, Row as _, SqlSafeStr as _, Sqlite, SqlitePool, Transaction};
use std::borrow::Cow;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

/// A connection must be there, and another process be done with the file, within this.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Each is applied once; one that was released is never changed.
const MIGRATIONS: [(i64, &str, &str); 9] = [
    (1, "store", include_str!("../../migrations/0001_store.sql")),
    (
        2,
        "outgoing",
        include_str!("../../migrations/0002_outgoing.sql"),
    ),
    (
        3,
        "history",
        include_str!("../../migrations/0003_history.sql"),
    ),
    (4, "epoch", include_str!("../../migrations/0004_epoch.sql")),
    (
        5,
        "proofs",
        include_str!("../../migrations/0005_proofs.sql"),
    ),
    (
        6,
        "steady_clock",
        include_str!("../../migrations/0006_steady_clock.sql"),
    ),
    (
        7,
        "sales_of_clicks",
        include_str!("../../migrations/0007_sales_of_clicks.sql"),
    ),
    (
        8,
        "refunds",
        include_str!("../../migrations/0008_refunds.sql"),
    ),
    (
        9,
        "ends_of_postbacks",
        include_str!("../../migrations/0009_ends_of_postbacks.sql"),
    ),
];

/// An open database with our tables.
pub(super) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A transaction; undone unless it is committed.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(i64),
    Text(&'a str),
    /// No number.
    Nothing,
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Pool {
    /// Opens the database, and makes the tables or brings them up to date.
    pub(super) async fn open(place: &StoreLocation) -> Result<Self, ConversionStoreError> {
        let pool = match place {
            StoreLocation::File(path) => Self::Sqlite(
                // What ClickHouse is told must not be forgotten here: every commit is synced.
                one_connection(
                    SqliteConnectOptions::new()
                        .filename(path)
                        .create_if_missing(true)
                        .journal_mode(SqliteJournalMode::Wal)
                        .synchronous(SqliteSynchronous::Full)
                        .busy_timeout(LOCK_TIMEOUT),
                )
                .await?,
            ),
            StoreLocation::Url(url) => {
                let options =
                    PgConnectOptions::from_str(url).map_err(|_| ConversionStoreError::Url)?;
                // Whatever the server's default is: a commit that was answered must survive its crash.
                let options = options
                    .application_name("aggregator")
                    .options([("synchronous_commit", "on")]);
                let pool = PgPoolOptions::new()
                    // One evaluates, one sends postbacks, one asks whether the server answers.
                    .max_connections(3)
                    .acquire_timeout(LOCK_TIMEOUT);
                Self::Postgres(pool.connect_with(options).await?)
            }
        };
        match &pool {
            Self::Sqlite(pool) => migrator().run(pool).await?,
            Self::Postgres(pool) => migrator().run(pool).await?,
        }
        tracing::info!("the store answers and its tables are up to date");
        Ok(pool)
    }

    /// Writes a copy of SQLite's file, without what is deleted in it.
    pub(super) async fn copy_to(&self, to: &Path) -> Result<(), ConversionStoreError> {
        let Self::Sqlite(pool) = self else {
            return Err(ConversionStoreError::NoFile);
        };
        let to = to.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(to).execute(pool).await?;
        Ok(())
    }

    /// Whether the server answers. A file that was opened does.
    pub(super) async fn ping(&self) -> Result<(), ConversionStoreError> {
        if let Self::Postgres(pool) = self {
            sqlx::query("SELECT 1").execute(pool).await?;
        }
        Ok(())
    }

    pub(super) async fn begin(&self) -> Result<Tx, ConversionStoreError> {
        Ok(match self {
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin().await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }
}

/// SQLite has one writer at a time anyway.
async fn one_connection(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(LOCK_TIMEOUT);
    pool.connect_with(options).await
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        let kind = MigrationType::Simple;
        Migration::new(version, name.into(), kind, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
}

impl Tx {
    pub(super) async fn commit(self) -> Result<(), ConversionStoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Runs a statement whose parameters are `$1`, `$2` and so on; gives the number of rows it changed.
    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, ConversionStoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let done = for_sqlite(sql, values).execute(&mut **tx).await?;
                done.rows_affected()
            }
            Self::Postgres(tx) => {
                let done = for_postgres(sql, values).execute(&mut **tx).await?;
                done.rows_affected()
            }
        })
    }

    /// The rows of a question.
    pub(super) async fn fetch_all(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, ConversionStoreError> {
        Ok(match self {
            Self::Sqlite(tx) => {
                let rows = for_sqlite(sql, values).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(tx) => {
                let rows = for_postgres(sql, values).fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }
}

fn for_sqlite(sql: &'static str, values: &[Value<'_>]) -> Query<'static, Sqlite, SqliteArguments> {
    let query = sqlx::query(sql);
    values.iter().fold(query, |query, value| match value {
        Value::Number(number) => query.bind(*number),
        Value::Text(text) => query.bind(storable(text).into_owned()),
        Value::Nothing => query.bind(None::<i64>),
    })
}

fn for_postgres(sql: &'static str, values: &[Value<'_>]) -> Query<'static, Postgres, PgArguments> {
    let query = sqlx::query(sql);
    values.iter().fold(query, |query, value| match value {
        Value::Number(number) => query.bind(*number),
        Value::Text(text) => query.bind(storable(text).into_owned()),
        Value::Nothing => query.bind(None::<i64>),
    })
}

/// PostgreSQL's texts can't hold a NUL byte, and one report must not hold up all others.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

impl Row {
    /// The number in a column, counted from 0.
    pub(super) fn number(&self, column: usize) -> Result<i64, ConversionStoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// The text in a column, counted from 0.
    pub(super) fn text(&self, column: usize) -> Result<String, ConversionStoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }
}
