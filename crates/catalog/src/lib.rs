//! The control plane's model: networks and the offers, affiliates, campaigns, links and terms that they own, in SQLite
//! or PostgreSQL.
//!
//! ```no_run
//! use catalog::{Advertiser, Author, Catalog, CatalogError, Scope};
//! use domain::{Micros, NetworkId};
//! use sql_store::{Database, Isolation};
//!
//! # async fn example(database: Database, advertiser: Advertiser) -> Result<(), CatalogError> {
//! let catalog = Catalog::open(database, Micros::now()).await?;
//! let scope = Scope::Network(NetworkId(1));
//! let author = Author::program("example");
//! let mut attempts = catalog.database().attempts(Isolation::ReadCommitted);
//! loop {
//!     let mut tx = attempts.begin().await?;
//!     let created = async {
//!         let mut writer = catalog.writer(&mut tx, scope, author.clone(), Micros::now).await?;
//!         writer.create(advertiser.clone()).await
//!     };
//!     let created = created.await;
//!     if let Some(created) = attempts.finish(tx, created).await {
//!         println!("advertiser {} has revision {}", created?.id, 1);
//!         return Ok(());
//!     }
//! }
//! # }
//! ```
//!
//! Everything is within the caller's transaction: writes ([`Writer`]) and reads ([`Reader`]) of one network, or of all
//! ([`Scope`]). A refused request ([`CatalogError::Refused`]) has changed nothing. A dry run is a transaction that is
//! not committed.
//!
//! Invariant: every change of an object is in the change log with its author, in the order in which changes become
//! visible; what the edges get ([`resolved_links`]) follows from the stored objects and the catalog's clock alone.
#![forbid(unsafe_code)]

mod catalog;
mod change;
mod check;
mod countries;
mod error;
mod head;
mod json;
mod kind;
mod listing;
mod migrations;
mod model;
mod objects;
mod read;
mod references;
mod reservations;
mod resolved;
mod rows;
mod secret;
mod status;
mod urls;
mod write;

pub use catalog::Catalog;
pub use change::{
    Action, Author, AuthorKind, Change, ChangeQuery, MAX_CHANGES, Version, current_version,
};
pub use error::{CatalogError, Fault, Reason, Remedy};
pub use head::{next_date, record_dates};
pub use kind::{Draft, Editable, HasSecrets, Kind, KindName, Object, ObjectId, Revision};
pub use listing::{Cursor, Filter, ListQuery, MAX_PAGE, Page, Sort};
pub use migrations::MIGRATIONS;
pub use model::*;
pub use read::{Reader, Scope, SecretState};
pub use resolved::{
    InactiveCause, LinkChanges, LinkState, MAX_CHANGED_LINKS, MAX_LINKS, Named, ResolvedLink, Why,
    resolved_links, resolved_links_changed,
};
pub use secret::Secret;
pub use status::{Activity, AffiliateStatus, ApplicationStatus, Status, TermsStatus};
pub use write::{MAX_BULK, Writer};
