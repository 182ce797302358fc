//! The migrations of the catalog's tables. The statements of one that was released are never changed.

use sql_store::{Migration, MigrationList};

/// The catalog's migrations. They are applied besides those of other crates in the same database.
pub const MIGRATIONS: MigrationList = MigrationList {
    name: "catalog",
    migrations: &[Migration {
        version: 1,
        name: "catalog",
        sql: include_str!("../migrations/0001_catalog.sql"),
        released_checksum: None,
    }],
};
