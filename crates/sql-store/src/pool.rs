//! The connections of a database.

use crate::SqlError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

/// The limit for a connection, and for the lock of SQLite's file that another process holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The place of a database.
#[derive(Clone)]
pub enum Location {
    /// SQLite's file.
    File(PathBuf),
    /// PostgreSQL's URL, with its password.
    Url(String),
}

/// How a program uses its database.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The program's name in PostgreSQL's views and logs.
    pub application_name: &'static str,
    /// Connections to PostgreSQL at the same time. SQLite has one, because it has one writer.
    pub max_connections: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// Connects. Commits are synced to disk under any default of the server.
    pub(crate) async fn open(location: &Location, access: Access) -> Result<Self, SqlError> {
        Ok(match location {
            Location::File(path) => Self::Sqlite(open_file(path).await?),
            Location::Url(url) => Self::Postgres(connect(url, access).await?),
        })
    }
}

async fn open_file(path: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(LOCK_TIMEOUT);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(LOCK_TIMEOUT);
    pool.connect_with(options).await
}

async fn connect(url: &str, access: Access) -> Result<PgPool, SqlError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| SqlError::Url)?;
    let options = options
        .application_name(access.application_name)
        .options([("synchronous_commit", "on")]);
    let pool = PgPoolOptions::new()
        .max_connections(access.max_connections)
        .acquire_timeout(LOCK_TIMEOUT);
    Ok(pool.connect_with(options).await?)
}
