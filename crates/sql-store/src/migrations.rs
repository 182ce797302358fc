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

/// Further migrations for a database that other ones opened, numbered on their own: the crates that share a database
/// need not know each other's numbers.
#[derive(Debug, Clone, Copy)]
pub struct MigrationList {
    /// The name: letters and `_`, unique in the database. Applied migrations are recorded under it.
    pub name: &'static str,
    /// The migrations. Their tables have names that no other list uses.
    pub migrations: &'static [Migration],
}

/// Applies the migrations that the database does not have; `list` is `None` for those that it was opened with.
pub(crate) async fn apply(
    pool: &Pool,
    list: Option<&str>,
    migrations: &[Migration],
) -> Result<(), SqlError> {
    let migrations = migrations.iter().map(|it| it.to_sqlx()).collect();
    let mut migrator = Migrator::with_migrations(migrations);
    if let Some(list) = list {
        // With sqlx's prefix: a move to another database leaves the tables of migrations out.
        migrator.dangerous_set_table_name(format!("_sqlx_migrations_{list}"));
    }
    match pool {
        Pool::Sqlite(pool) => migrator.run(pool).await?,
        Pool::Postgres(pool) => migrator.run(pool).await?,
    }
    Ok(())
}
