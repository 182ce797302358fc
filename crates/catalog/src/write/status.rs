//! Changes of the status.

use super::{Writer, changed};
use crate::change::{Action, NewChange};
use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{Editable, Kind, KindName, Object, ObjectId as _, Revision, Validation};
use crate::objects;
use crate::references::{Lineage, ReferredObjects};
use crate::reservations;
use crate::status::Status as _;
use sql_store::Statement;

const MAX_REASON_CHARS: usize = 500;

impl Writer<'_> {
    /// Changes the status of an object. `reason` is needed where [`Status::needs_reason`](crate::Status::needs_reason)
    /// says so.
    ///
    /// # Errors
    /// When the object has another revision than `expected`, is archived or is not in the scope; when the status can't
    /// follow; or when the database can't be written.
    pub async fn set_status<K: Editable>(
        &mut self,
        id: K::Id,
        expected: Revision,
        status: K::Status,
        reason: &str,
    ) -> Result<Object<K>, CatalogError> {
        self.change_status(id, expected, status, reason).await
    }

    /// Archives an object. It gives up its name, which another object may have then, and its secrets; a network keeps its
    /// name and domains. Links that depend on it are not active any more.
    ///
    /// # Errors
    /// As [`set_status`](Self::set_status).
    pub async fn archive<K: Editable>(
        &mut self,
        id: K::Id,
        expected: Revision,
    ) -> Result<Object<K>, CatalogError> {
        self.change_status(id, expected, K::Status::ARCHIVED, "")
            .await
    }

    pub(super) async fn change_status<K: Kind>(
        &mut self,
        id: K::Id,
        expected: Revision,
        status: K::Status,
        reason: &str,
    ) -> Result<Object<K>, CatalogError> {
        let before = self.load::<K>(id, expected).await?;
        check_transition::<K>(before.status, status, reason)?;
        let mut after = changed(&before, self.now);
        after.status = status;
        after.status_reason = reason.to_owned();
        let mut action = Action::StatusChanged;
        if status == K::Status::ARCHIVED {
            action = Action::Archived;
            after.archived = Some(self.now);
            self.give_up(K::NAME, id.number()).await?;
        }
        self.overwrite(&before, &after, action).await?;
        Ok(after)
    }

    /// Frees the names of an archived object, and removes its secrets.
    async fn give_up(&mut self, kind: KindName, id: u32) -> Result<(), CatalogError> {
        if kind != KindName::Network {
            reservations::release(self.tx, kind, id).await?;
        }
        let delete = "DELETE FROM catalog_secrets WHERE kind = $1 AND object = $2";
        let delete = Statement::new(delete).bind(kind.name()).bind(id);
        self.tx.execute(delete).await?;
        Ok(())
    }

    /// Writes a changed object whose settings name the same objects.
    pub(super) async fn overwrite<K: Kind>(
        &mut self,
        before: &Object<K>,
        after: &Object<K>,
        action: Action,
    ) -> Result<(), CatalogError> {
        let lineage = self.lineage(after).await?;
        objects::replace(self.tx, after, lineage).await?;
        self.record(vec![NewChange::of(action, Some(before), after)])
            .await
    }

    async fn lineage<K: Kind>(&mut self, object: &Object<K>) -> Result<Lineage, CatalogError> {
        let references = object.settings.references();
        let referred = ReferredObjects::load(self.tx, references.iter().cloned()).await?;
        // They were checked when they were written.
        let mut ignored = Faults::default();
        Ok(referred.check(object.network, &references, &references, &mut ignored))
    }
}

fn check_transition<K: Kind>(
    from: K::Status,
    to: K::Status,
    reason: &str,
) -> Result<(), CatalogError> {
    let mut faults = Faults::default();
    if !from.next().contains(&to) {
        let possible: Vec<&str> = from.next().iter().map(|it| it.name()).collect();
        let message = format!(
            "the {} is {from} and can't become {to}; possible: {}",
            K::NAME,
            possible.join(", ")
        );
        faults.add(Reason::StatusNotPossible, "/status", message);
    }
    if to.needs_reason() && reason.trim().is_empty() {
        let message = format!("a change to {to} needs a reason");
        faults.add(Reason::ReasonMissing, "/status_reason", message);
    }
    Validation(&mut faults).text("/status_reason", reason, MAX_REASON_CHARS);
    faults.finish()
}
