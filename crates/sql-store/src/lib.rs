//! SQLite and PostgreSQL behind one interface: connections, migrations, transactions and typed rows.
//!
//! A program chooses SQLite by a file and PostgreSQL by a URL ([`Location`]). Statements have one text for both, with
//! parameters `$1`, `$2` and so on, integers (`BIGINT`) and texts (`TEXT`). Rows are structs ([`typed_row!`]).
//!
//! ```no_run
//! use domain::{ConversionStatus, Micros};
//! use sql_store::{Access, Database, Location, Migration, SqlError, Statement};
//!
//! const MIGRATIONS: &[Migration] = &[Migration {
//!     version: 1,
//!     name: "sales",
//!     sql: "CREATE TABLE sales (id TEXT PRIMARY KEY, status TEXT NOT NULL, time BIGINT NOT NULL)",
//!     released_checksum: None,
//! }];
//!
//! sql_store::typed_row! {
//!     struct Sale {
//!         id: String,
//!         status: ConversionStatus,
//!         time: Micros,
//!     }
//! }
//!
//! # async fn example() -> Result<(), SqlError> {
//! let access = Access { application_name: "example", max_connections: 3 };
//! let database = Database::open(&Location::File("sales.sqlite".into()), access, MIGRATIONS).await?;
//! let mut tx = database.begin().await?;
//! let insert = Statement::insert(
//!     "sales",
//!     [
//!         ("id", "a".into()),
//!         ("status", ConversionStatus::Pending.into()),
//!         ("time", Micros::now().into()),
//!     ],
//! );
//! tx.execute(insert).await?;
//! let select = Statement::new("SELECT id, status, time FROM sales WHERE status = $1");
//! let pending: Vec<Sale> = tx.fetch_all(select.bind(ConversionStatus::Pending)).await?;
//! tx.commit().await?;
//! # let _ = pending.iter().map(|it| (&it.id, it.status, it.time));
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: no table is known here. A program names its tables, migrations and rows itself.
#![forbid(unsafe_code)]

mod database;
mod error;
mod migrations;
mod moving;
mod pool;
mod retry;
mod row;
mod statement;
#[cfg(feature = "test-server")]
pub mod test_server;
mod transaction;
pub mod url;

pub use database::Database;
pub use error::SqlError;
pub use migrations::{Migration, MigrationList};
pub use moving::{CopiedTable, copy_to_postgres, has_rows};
pub use pool::{Access, Location};
pub use retry::{IsConflict, TransactionAttempts};
pub use row::{Field, Row, TypedRow};
pub use statement::{Statement, Value};
pub use transaction::{Isolation, Transaction};
