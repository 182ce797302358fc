//! The ClickHouse schema: numbered migrations, their application, and queries for analysts.
//!
//! Tables, views and questions belong here. Writing events never does: that is the aggregator's.
#![forbid(unsafe_code)]

mod cookbook;
mod layout;
mod migrate;
mod migrations;
mod rows;

pub use cookbook::{COOKBOOK, Query};
pub use layout::Layout;
pub use migrate::{MigrateError, Report, is_name, migrate};
pub use migrations::{MIGRATIONS, Migration};
pub use rows::first_row;
