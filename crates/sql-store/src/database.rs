//! An open database: its transactions, and its copy to a file.

use crate::migrations::{self, Migration, MigrationList};
use crate::pool::{Access, Location, Pool};
use crate::transaction::{AnyTransaction, Isolation, Transaction};
use crate::{SqlError, Statement};
use std::path::Path;

const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// An open database whose tables are up to date.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
}

impl Database {
    /// Opens the database, creates SQLite's file if there is none, and applies missing migrations. Commits are synced
    /// to disk under any default of the server: a committed change survives a power loss.
    ///
    /// # Errors
    /// When the database can't be reached or opened, or is newer than `migrations`.
    pub async fn open(
        location: &Location,
        access: Access,
        migrations: &[Migration],
    ) -> Result<Self, SqlError> {
        let database = Self::connect(location, access).await?;
        migrations::apply(&database.pool, None, migrations).await?;
        tracing::info!("opened the database, its tables are up to date");
        Ok(database)
    }

    /// Opens the database, creates SQLite's file if there is none, and leaves its tables as they are.
    ///
    /// # Errors
    /// When the database can't be reached or opened.
    pub async fn connect(location: &Location, access: Access) -> Result<Self, SqlError> {
        let pool = Pool::open(location, access).await?;
        Ok(Self { pool })
    }

    /// Applies the missing migrations of another list.
    ///
    /// # Errors
    /// When the database is newer than the list.
    pub async fn migrate(&self, list: MigrationList) -> Result<(), SqlError> {
        migrations::apply(&self.pool, Some(list.name), list.migrations).await
    }

    /// Begins a transaction that is rolled back unless it is committed. In SQLite it locks the file with its first
    /// write; in PostgreSQL the isolation is the server's default, `READ COMMITTED` unless an operator changed it.
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

    /// Begins a transaction that only reads, and in which all statements see the same state.
    ///
    /// # Errors
    /// When no connection is available in time.
    pub async fn begin_snapshot(&self) -> Result<Transaction, SqlError> {
        let begun = match &self.pool {
            // In WAL mode a transaction sees what was committed before its first read.
            Pool::Sqlite(pool) => AnyTransaction::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => {
                AnyTransaction::Postgres(pool.begin_with(BEGIN_SNAPSHOT).await?)
            }
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

    /// Checks that PostgreSQL responds. For an open file there is nothing to check.
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
