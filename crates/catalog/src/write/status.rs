//! Changes of the status.

use super::create::MAX_BULK;
use super::{Writer, changed, check_present};
use crate::change::{Action, NewChange};
use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{Editable, Kind, KindName, Object, ObjectId as _, Revision, Validation};
use crate::model::{DEFAULT_NETWORK, Link};
use crate::objects;
use crate::references::{Lineage, ReferredObjects};
use crate::reservations;
use crate::rows::execute_in;
use crate::status::Status as _;
use domain::{LinkId, Micros};
use sql_store::Statement;
use std::collections::BTreeMap;

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

    /// Archives an object. It gives up its names, which another object may have then, and its secrets. Links that depend
    /// on it are not active any more. A network can be archived once no link uses its domains, and the default network
    /// never.
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

    /// Archives 1 to [`MAX_BULK`] links, all or none, each with the revision that it is expected to have. Pointers of
    /// faults begin with the row.
    ///
    /// # Errors
    /// When any of them can't be archived, with the faults of all, or the database can't be written.
    pub async fn archive_many(
        &mut self,
        links: &[(LinkId, Revision)],
    ) -> Result<Vec<Object<Link>>, CatalogError> {
        if !(1..=MAX_BULK).contains(&links.len()) {
            let message = format!(
                "{} links; 1 to {MAX_BULK} are archived at once",
                links.len()
            );
            return Err(CatalogError::refused(Reason::WrongCount, "", message));
        }
        let ids: Vec<u32> = links.iter().map(|(id, _)| id.0).collect();
        let before = objects::load_many::<Link>(self.tx, self.scope.network(), &ids).await?;
        let mut faults = Faults::default();
        let mut checked = BTreeMap::new();
        for (row, (id, expected)) in links.iter().enumerate() {
            faults.enter_row(row);
            let found = before.get(&id.0);
            let found = found.ok_or_else(|| objects::not_found::<Link>(*id));
            match found.and_then(|link| check_present(link, *expected).map(|()| link)) {
                Ok(link) if checked.insert(id.0, link).is_none() => {}
                Ok(_) => faults.add(Reason::Repeated, "", "an earlier row is the same link"),
                Err(CatalogError::Refused(found)) => faults.append(found),
                Err(error) => return Err(error),
            }
        }
        faults.finish()?;
        objects::archive::<Link>(self.tx, &ids, self.now).await?;
        self.give_up(KindName::Link, &ids).await?;
        let archived = links
            .iter()
            .map(|(id, _)| archived(checked[&id.0], self.now));
        let archived: Vec<_> = archived.collect();
        let change = |after: &Object<Link>| {
            NewChange::of(Action::Archived, checked.get(&after.id.0).copied(), after)
        };
        self.record(archived.iter().map(change).collect()).await?;
        Ok(archived)
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
        if status == K::Status::ARCHIVED {
            self.check_archivable(&before).await?;
            let after = archived(&before, self.now);
            self.give_up(K::NAME, &[id.number()]).await?;
            self.overwrite(&before, &after, Action::Archived).await?;
            return Ok(after);
        }
        let mut after = changed(&before, self.now);
        after.status = status;
        after.status_reason = reason.to_owned();
        self.overwrite(&before, &after, Action::StatusChanged)
            .await?;
        Ok(after)
    }

    /// Checks that an object is not the default network, and that links use none of its domains: another network may
    /// have them afterwards.
    async fn check_archivable<K: Kind>(&mut self, object: &Object<K>) -> Result<(), CatalogError> {
        let mut faults = Faults::default();
        if K::NAME == KindName::Network && object.network == DEFAULT_NETWORK {
            let message = "the default network can't be archived; pause it instead";
            faults.add(Reason::NeedsDefaultNetwork, "", message);
        }
        let names = object.settings.reservations(object.network);
        self.check_released(names, &[], &mut faults).await?;
        faults.finish()
    }

    /// Frees the names of archived objects, and removes their secrets.
    async fn give_up(&mut self, kind: KindName, ids: &[u32]) -> Result<(), CatalogError> {
        reservations::release(self.tx, kind, ids).await?;
        let delete = "DELETE FROM catalog_secrets WHERE kind = $1 AND";
        let delete = Statement::new(delete).bind(kind.name());
        Ok(execute_in(self.tx, delete, "object", ids).await?)
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

fn archived<K: Kind>(object: &Object<K>, now: Micros) -> Object<K> {
    Object {
        status: K::Status::ARCHIVED,
        status_reason: String::new(),
        archived: Some(now),
        ..changed(object, now)
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
