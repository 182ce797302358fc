//! Transactions.

use crate::{Row, SqlError, Statement, TypedRow};
use sqlx::{Postgres, Sqlite};

/// A transaction; it is rolled back unless it is committed.
#[derive(Debug)]
pub struct Transaction(pub(crate) AnyTransaction);

#[derive(Debug)]
pub(crate) enum AnyTransaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// What a transaction that writes sees of others. SQLite's transactions that write come one after the other in any
/// case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it began: rows are locked explicitly.
    ReadCommitted,
    /// As if all transactions came one after the other; one that can't is repeated. For changes that depend on rows
    /// which are only read, such as a transfer that needs the sum of an account's entries: there is no row to lock.
    Serializable,
}

impl Isolation {
    pub(crate) const fn begin_postgres(self) -> &'static str {
        match self {
            Self::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Self::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        }
    }
}

impl Transaction {
    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    /// When the database reports one.
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, SqlError> {
        Ok(match &mut self.0 {
            AnyTransaction::Sqlite(tx) => {
                let done = statement.for_sqlite()?.execute(&mut **tx).await?;
                done.rows_affected()
            }
            AnyTransaction::Postgres(tx) => {
                let done = statement.for_postgres()?.execute(&mut **tx).await?;
                done.rows_affected()
            }
        })
    }

    /// All rows that a statement returns.
    ///
    /// # Errors
    /// When the database reports one, or a column holds an unexpected value.
    pub async fn fetch_all<T: TypedRow>(
        &mut self,
        statement: Statement,
    ) -> Result<Vec<T>, SqlError> {
        let rows: Vec<Row> = match &mut self.0 {
            AnyTransaction::Sqlite(tx) => {
                let rows = statement.for_sqlite()?.fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::from).collect()
            }
            AnyTransaction::Postgres(tx) => {
                let rows = statement.for_postgres()?.fetch_all(&mut **tx).await?;
                rows.into_iter().map(Row::from).collect()
            }
        };
        rows.iter().map(T::from_row).collect()
    }

    /// The first row that a statement returns, if there is one.
    ///
    /// # Errors
    /// When the database reports one, or a column holds an unexpected value.
    pub async fn fetch_optional<T: TypedRow>(
        &mut self,
        statement: Statement,
    ) -> Result<Option<T>, SqlError> {
        let row = self.fetch_row(statement).await?;
        row.as_ref().map(T::from_row).transpose()
    }

    /// Whether a statement returns any row.
    ///
    /// # Errors
    /// When the database reports one.
    pub async fn exists(&mut self, statement: Statement) -> Result<bool, SqlError> {
        Ok(self.fetch_row(statement).await?.is_some())
    }

    async fn fetch_row(&mut self, statement: Statement) -> Result<Option<Row>, SqlError> {
        Ok(match &mut self.0 {
            AnyTransaction::Sqlite(tx) => {
                let row = statement.for_sqlite()?.fetch_optional(&mut **tx).await?;
                row.map(Row::from)
            }
            AnyTransaction::Postgres(tx) => {
                let row = statement.for_postgres()?.fetch_optional(&mut **tx).await?;
                row.map(Row::from)
            }
        })
    }

    /// Makes all changes durable.
    ///
    /// # Errors
    /// When the database reports one. Unless it is a conflict, the changes may have been made.
    pub async fn commit(self) -> Result<(), SqlError> {
        match self.0 {
            AnyTransaction::Sqlite(tx) => tx.commit().await?,
            AnyTransaction::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
