//! Connections to a database.

use crate::migrations::{self, Migration};
use crate::transaction::{AnyTransaction, Isolation, Transaction};
use crate::{SqlError, Statement};
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

/// An open database whose tables are up to date.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
}

#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// Opens the database, creates SQLite's file if there is none, and applies missing migrations. Commits are synced
    /// to disk, whatever the server's default is: a committed change survives a power cut.
    ///
    /// # Errors
    /// When the database can't be reached or opened, or is newer than `migrations`.
    pub async fn open(
        location: &Location,
        access: Access,
        migrations: &[Migration],
    ) -> Result<Self, SqlError> {
        let pool = match location {
            Location::File(path) => Pool::Sqlite(open_file(path).await?),
            Location::Url(url) => Pool::Postgres(connect(url, access).await?),
        };
        migrations::apply(&pool, migrations).await?;
        tracing::info!("opened the database, its tables are up to date");
        Ok(Self { pool })
    }

    /// Begins a transaction that is rolled back unless it is committed. In SQLite it locks the file with its first
    /// write; in PostgreSQL each statement sees what was committed before it began (`READ COMMITTED`).
    ///
    /// # Errors
    /// When no connection is available in time.
    pub async fn begin(&self) -> Result<Transaction, SqlError> {
        let begun = match &self.pool {
            Pool::Sqlite(pool) => AnyTransaction::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => AnyTransaction::Postgres(pool.begin().await?),
        };
        Ok(Transaction(begun))
    }

    pub(crate) async fn begin_write(&self, isolation: Isolation) -> Result<Transaction, SqlError> {
        let begun = match &self.pool {
            // The lock is taken at once: a transaction that reads first could not get it after another one wrote.
            Pool::Sqlite(pool) => AnyTransaction::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Pool::Postgres(pool) => {
                AnyTransaction::Postgres(pool.begin_with(isolation.begin_postgres()).await?)
            }
        };
        Ok(Transaction(begun))
    }

    /// Whether PostgreSQL answers. A file that was opened does.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), SqlError> {
        if let Pool::Postgres(pool) = &self.pool {
            sqlx::query("SELECT 1").execute(pool).await?;
        }
        Ok(())
    }

    /// Writes a compacted copy of SQLite's file to `path`, as of one moment, during use.
    ///
    /// # Errors
    /// When `path` exists or can't be written, or the database is not SQLite's.
    pub async fn copy_to(&self, path: &Path) -> Result<(), SqlError> {
        let Pool::Sqlite(pool) = &self.pool else {
            return Err(SqlError::NotAFile);
        };
        let vacuum = Statement::new("VACUUM INTO $1").bind(path.to_string_lossy().into_owned());
        vacuum.for_sqlite()?.execute(pool).await?;
        Ok(())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
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
