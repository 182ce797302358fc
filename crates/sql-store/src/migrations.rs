//! Migrations: numbered texts of SQL that are applied once each, in order.

use crate::SqlError;
use crate::pool::Pool;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrationType, Migrator};

/// A migration. One that was released is never changed: its checksum is in every database.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The number; migrations are applied in ascending order.
    pub version: i64,
    /// The name.
    pub name: &'static str,
    /// The statements, in one text for SQLite and PostgreSQL.
    pub sql: &'static str,
}

/// Applies the migrations that the database does not have.
pub(crate) async fn apply(pool: &Pool, migrations: &[Migration]) -> Result<(), SqlError> {
    let migration = |it: &Migration| {
        let sql = it.sql.into_sql_str();
        sqlx::migrate::Migration::new(
            it.version,
            it.name.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    };
    let migrator = Migrator::with_migrations(migrations.iter().map(migration).collect());
    match pool {
        Pool::Sqlite(pool) => migrator.run(pool).await?,
        Pool::Postgres(pool) => migrator.run(pool).await?,
    }
    Ok(())
}
