//! The move of a store from SQLite's file to PostgreSQL: every table, in one transaction. A file that was left
//! behind is noticed here, too.

use super::sql::Pool;
use super::{ConversionStoreError, StoreLocation};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Postgres, QueryBuilder, Row as _, SqlitePool, Transaction};
use std::path::Path;

/// Rows of one statement: PostgreSQL takes 65,535 parameters, and a row has a dozen.
const ROWS: i64 = 2_000;

/// Tables of which one has rows once a store was used.
const STATE: [&str; 5] = [
    "conversions",
    "kyc_deliveries",
    "applied_events",
    "outgoing_postbacks",
    "store_epoch",
];

/// Tables that were copied, with their rows.
pub(crate) type Copied = Vec<(String, u64)>;

struct TableColumn {
    name: String,
    is_text: bool,
}

/// Whether the file at `path` is a store that was used.
///
/// # Errors
/// When it can't be read.
pub(crate) async fn holds_state(path: &Path) -> Result<bool, ConversionStoreError> {
    let options = SqliteConnectOptions::new().filename(path);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await?;
    for table in tables(&pool).await? {
        if STATE.contains(&table.as_str()) {
            let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT 1)");
            let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&pool).await?;
            if row.try_get::<i64, _>(0)? > 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Copies the store in the file `from` to PostgreSQL at `to`, which must hold none: all of it or nothing.
///
/// # Errors
/// When either can't be used, or `to` holds a store.
pub(crate) async fn copy(from: &Path, to: &StoreLocation) -> Result<Copied, ConversionStoreError> {
    // Both have the tables of this build then.
    let opened = (
        Pool::open(&StoreLocation::File(from.into())).await?,
        Pool::open(to).await?,
    );
    let (Pool::Sqlite(from), Pool::Postgres(to)) = opened else {
        return Err(ConversionStoreError::Url);
    };
    let mut tx = to.begin().await?;
    for table in STATE {
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *tx).await?;
        let sql = format!("SELECT 1 FROM {table} LIMIT 1");
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut *tx);
        if found.await?.is_some() {
            return Err(ConversionStoreError::Occupied);
        }
    }
    let mut copied = Copied::new();
    for table in tables(&from).await? {
        let rows = copy_table(&from, &mut tx, &table).await?;
        copied.push((table, rows));
    }
    tx.commit().await?;
    // The last one takes the files of the write-ahead log along.
    from.close().await;
    Ok(copied)
}

/// Our tables, without what the migrations note.
async fn tables(pool: &SqlitePool) -> Result<Vec<String>, ConversionStoreError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
               AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' ORDER BY name";
    let rows = sqlx::query(sql).fetch_all(pool).await?;
    let names = rows.iter().map(|row| row.try_get(0));
    Ok(names.collect::<Result<_, _>>()?)
}

async fn columns(pool: &SqlitePool, table: &str) -> Result<Vec<TableColumn>, ConversionStoreError> {
    let sql = "SELECT name, type FROM pragma_table_info($1)";
    let rows = sqlx::query(sql)
        .bind(table.to_owned())
        .fetch_all(pool)
        .await?;
    let column = |row: &SqliteRow| {
        Ok(TableColumn {
            name: row.try_get(0)?,
            is_text: row.try_get::<String, _>(1)? == "TEXT",
        })
    };
    rows.iter().map(column).collect()
}

async fn copy_table(
    from: &SqlitePool,
    to: &mut Transaction<'_, Postgres>,
    table: &str,
) -> Result<u64, ConversionStoreError> {
    let columns = columns(from, table).await?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let names = names.join(", ");
    let select =
        format!("SELECT rowid, {names} FROM {table} WHERE rowid > $1 ORDER BY rowid LIMIT {ROWS}");
    let (mut last, mut copied) = (0_i64, 0);
    loop {
        let page = sqlx::query(AssertSqlSafe(select.clone())).bind(last);
        let page = page.fetch_all(from).await?;
        let Some(end) = page.last() else {
            return Ok(copied);
        };
        last = end.try_get(0)?;
        let mut insert = QueryBuilder::<Postgres>::new(format!("INSERT INTO {table} ({names}) "));
        insert.push_values(&page, |mut values, row| {
            for (column, at) in columns.iter().zip(1_usize..) {
                if column.is_text {
                    values.push_bind(row.get::<Option<String>, _>(at));
                } else {
                    values.push_bind(row.get::<Option<i64>, _>(at));
                }
            }
        });
        copied += insert.build().execute(&mut **to).await?.rows_affected();
    }
}
