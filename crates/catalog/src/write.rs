//! Writes within a transaction. Everything is checked before anything is written.

mod create;
mod status;
mod terms;
mod update;

pub use create::MAX_BULK;

use crate::change::{self, Author, NewChange, Version};
use crate::error::{CatalogError, Reason};
use crate::head;
use crate::kind::{Kind, Object, Revision};
use crate::model::Network;
use crate::objects;
use crate::read::{Reader, Scope};
use crate::status::{Activity, Status as _};
use domain::{Micros, NetworkId};
use sql_store::Transaction;

/// Writes within a transaction, from [`Catalog::writer`](crate::Catalog::writer). The catalog is locked until the
/// transaction ends.
#[derive(Debug)]
pub struct Writer<'t> {
    tx: &'t mut Transaction,
    scope: Scope,
    author: Author,
    now: Micros,
    version: Version,
}

impl<'t> Writer<'t> {
    pub(crate) async fn begin(
        tx: &'t mut Transaction,
        scope: Scope,
        author: Author,
        clock: impl FnOnce() -> Micros,
    ) -> Result<Self, CatalogError> {
        let head = head::lock(tx, clock).await?;
        if let Scope::Network(network) = scope {
            check_network(tx, network).await?;
        }
        Ok(Self {
            tx,
            scope,
            author,
            now: head.clock,
            version: Version(head.version),
        })
    }

    /// The number of the last change, including those of this transaction.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The time of the changes: that of the catalog's clock.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// Reads within the same transaction and scope.
    pub const fn reader(&mut self) -> Reader<'_> {
        Reader::new(self.tx, self.scope)
    }

    /// The transaction, for rows of the caller's that belong to the change.
    pub const fn transaction(&mut self) -> &mut Transaction {
        self.tx
    }

    /// Records changes.
    async fn record(&mut self, changes: Vec<NewChange>) -> Result<(), CatalogError> {
        let appended = change::append(self.tx, self.version, &self.author, self.now, changes);
        self.version = appended.await?;
        Ok(())
    }

    /// Reads an object that is to be changed, and checks that it may be.
    async fn load<K: Kind>(
        &mut self,
        id: K::Id,
        expected: Revision,
    ) -> Result<Object<K>, CatalogError> {
        let object = objects::load::<K>(self.tx, self.scope.network(), id).await?;
        check_present(&object, expected)?;
        Ok(object)
    }
}

/// Checks that an object has the expected revision, and is not archived.
fn check_present<K: Kind>(object: &Object<K>, expected: Revision) -> Result<(), CatalogError> {
    let (id, found) = (object.id, object.revision);
    if found != expected {
        let message = format!(
            "{} {id} has revision {}, not {}; read it again and repeat the change",
            K::NAME,
            found.0,
            expected.0
        );
        return Err(CatalogError::refused(Reason::RevisionConflict, "", message));
    }
    if object.status == K::Status::ARCHIVED {
        let message = format!("{} {id} is archived; create another one", K::NAME);
        return Err(CatalogError::refused(Reason::Archived, "", message));
    }
    Ok(())
}

/// Checks that a network exists and is in use. Networks are archived under the lock of the head, which is held.
async fn check_network(tx: &mut Transaction, network: NetworkId) -> Result<(), CatalogError> {
    let found = objects::load::<Network>(tx, None, network).await?;
    if found.status != Activity::Archived {
        return Ok(());
    }
    let message = format!("network {network} is archived; nothing is written in it");
    Err(CatalogError::refused(Reason::Archived, "", message))
}

/// The object after one more change.
fn changed<K: Kind>(object: &Object<K>, now: Micros) -> Object<K> {
    Object {
        revision: Revision(object.revision.0 + 1),
        updated: now,
        ..object.clone()
    }
}
