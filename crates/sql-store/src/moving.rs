//! The move of a database from SQLite's file to PostgreSQL: every table, in one transaction.

use crate::SqlError;
use crate::database::Database;
use crate::migrations::{Migration, MigrationList};
use crate::pool::{Access, Location, Pool};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, PgPool, Postgres, QueryBuilder, Row as _, SqlitePool, Transaction};
use std::path::Path;

/// Rows per statement: PostgreSQL accepts 65,535 parameters, and a row has about a dozen.
const ROWS_PER_STATEMENT: i64 = 2_000;

/// A table that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name.
    pub name: String,
    /// The number of its rows.
    pub rows: u64,
}

struct Column {
    name: String,
    is_text: bool,
}

/// Whether any of these tables exists in SQLite's file at `path` and has a row.
///
/// # Errors
/// When the file can't be read.
pub async fn has_rows(path: &Path, of: &[&str]) -> Result<bool, SqlError> {
    let options = SqliteConnectOptions::new().filename(path);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await?;
    let found = any_has_rows(&pool, of).await;
    // Until it is closed, it may still remove files beside `path`.
    pool.close().await;
    found
}

async fn any_has_rows(pool: &SqlitePool, of: &[&str]) -> Result<bool, SqlError> {
    for table in tables(pool).await? {
        if of.contains(&table.as_str()) && has_row(pool, &table).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies SQLite's file to PostgreSQL, whose tables `must_be_empty` must have no rows: all of it or nothing. Both are
/// brought up to date with `migrations` and the lists first. A table that was created by another list is an error.
///
/// # Errors
/// When either can't be used, or PostgreSQL has rows.
pub async fn copy_to_postgres(
    file: &Path,
    url: &Location,
    access: Access,
    migrations: &[Migration],
    lists: &[MigrationList],
    must_be_empty: &[&str],
) -> Result<Vec<CopiedTable>, SqlError> {
    let file = Location::File(file.into());
    let from = Database::open(&file, access, migrations).await?;
    let to = Database::open(url, access, migrations).await?;
    for list in lists {
        from.migrate(*list).await?;
        to.migrate(*list).await?;
    }
    let (Pool::Sqlite(pool), Pool::Postgres(target)) = (from.pool(), to.pool()) else {
        return Err(SqlError::Url);
    };
    let mut tx = lock_empty(target, must_be_empty).await?;
    let mut copied = Vec::new();
    for name in tables(pool).await? {
        let rows = copy_table(pool, &mut tx, &name).await?;
        copied.push(CopiedTable { name, rows });
    }
    tx.commit().await?;
    // The last connection removes the files of the write-ahead log.
    from.close().await;
    Ok(copied)
}

async fn has_row(pool: &SqlitePool, table: &str) -> Result<bool, SqlError> {
    let sql = format!("SELECT 1 FROM {table} LIMIT 1");
    let found = sqlx::query(AssertSqlSafe(sql)).fetch_optional(pool).await?;
    Ok(found.is_some())
}

async fn lock_empty(
    pool: &PgPool,
    tables: &[&str],
) -> Result<Transaction<'static, Postgres>, SqlError> {
    let mut tx = pool.begin().await?;
    for table in tables {
        let lock = format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(AssertSqlSafe(lock)).execute(&mut *tx).await?;
        let sql = format!("SELECT 1 FROM {table} LIMIT 1");
        let found = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut *tx);
        if found.await?.is_some() {
            return Err(SqlError::Occupied);
        }
    }
    Ok(tx)
}

/// The tables of the program, without that of the migrations.
async fn tables(pool: &SqlitePool) -> Result<Vec<String>, SqlError> {
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
               AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' ORDER BY name";
    Ok(sqlx::query_scalar(sql).fetch_all(pool).await?)
}

async fn columns(pool: &SqlitePool, table: &str) -> Result<Vec<Column>, SqlError> {
    let sql = "SELECT name, type FROM pragma_table_info($1)";
    let columns: Vec<(String, String)> = sqlx::query_as(sql)
        .bind(table.to_owned())
        .fetch_all(pool)
        .await?;
    let column = |(name, of): (String, String)| {
        let is_text = of == "TEXT";
        Column { name, is_text }
    };
    Ok(columns.into_iter().map(column).collect())
}

async fn copy_table(
    from: &SqlitePool,
    to: &mut Transaction<'_, Postgres>,
    table: &str,
) -> Result<u64, SqlError> {
    let columns = columns(from, table).await?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let names = names.join(", ");
    let select = format!(
        "SELECT rowid, {names} FROM {table} WHERE rowid > $1 ORDER BY rowid LIMIT {ROWS_PER_STATEMENT}"
    );
    let (mut last, mut copied) = (0_i64, 0);
    loop {
        let page = sqlx::query(AssertSqlSafe(select.clone())).bind(last);
        let page = page.fetch_all(from).await?;
        let Some(end) = page.last() else {
            return Ok(copied);
        };
        last = end.try_get(0)?;
        copied += insert_page(to, table, &columns, &page).await?;
    }
}

async fn insert_page(
    to: &mut Transaction<'_, Postgres>,
    table: &str,
    columns: &[Column],
    page: &[SqliteRow],
) -> Result<u64, SqlError> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut insert =
        QueryBuilder::<Postgres>::new(format!("INSERT INTO {table} ({}) ", names.join(", ")));
    insert.push_values(page, |mut values, row| {
        for Column { name, is_text } in columns {
            if *is_text {
                values.push_bind(row.get::<Option<String>, _>(name.as_str()));
            } else {
                values.push_bind(row.get::<Option<i64>, _>(name.as_str()));
            }
        }
    });
    Ok(insert.build().execute(&mut **to).await?.rows_affected())
}
