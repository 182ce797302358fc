//! The catalog through its public surface, on SQLite and on a real PostgreSQL.
#![allow(missing_docs)]

mod bulk;
mod changes;
mod concurrency;
mod lists;
mod model;
mod moves;
mod property;
mod resolved;
mod scopes;
mod support;
mod terms;
mod validation;
mod writes;
