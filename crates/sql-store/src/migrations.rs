//! Migrations: numbered texts of SQL that are applied once each, in order.

use crate::SqlError;
use crate::pool::Pool;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrationType, Migrator};

/// A migration. The statements of one that was released are never changed: every database holds its checksum.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The number; migrations are applied in ascending order.
    pub version: i64,
    /// The name.
    pub name: &'static str,
    /// The statements, in one text for SQLite and PostgreSQL.
    pub sql: &'static str,
    /// The checksum of the released text (SHA-384, hexadecimal), if comments were reworded since.
    pub released_checksum: Option<&'static str>,
}

impl Migration {
    fn to_sqlx(self) -> sqlx::migrate::Migration {
        let sql = self.sql.into_sql_str();
        let mut migration = sqlx::migrate::Migration::new(
            self.version,
            self.name.into(),
            MigrationType::Simple,
            sql,
            false,
        );
        if let Some(checksum) = self.released_checksum {
            migration.checksum = hex_bytes(checksum).into();
        }
        migration
    }
}

fn hex_bytes(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("checksums are hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Applies the migrations that the database does not have.
pub(crate) async fn apply(pool: &Pool, migrations: &[Migration]) -> Result<(), SqlError> {
    let migrator = Migrator::with_migrations(migrations.iter().map(|it| it.to_sqlx()).collect());
    match pool {
        Pool::Sqlite(pool) => migrator.run(pool).await?,
        Pool::Postgres(pool) => migrator.run(pool).await?,
    }
    Ok(())
}
