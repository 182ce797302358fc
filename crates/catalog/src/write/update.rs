//! Changes of settings and secrets.

use super::create::{check_required_domain, names};
use super::{Writer, changed};
use crate::change::{Action, NewChange};
use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{
    Editable, HasSecrets, KindName, Object, ObjectId as _, Reservation, Revision, Validation,
};
use crate::objects;
use crate::read::check_label;
use crate::references::{Lineage, ReferredObjects, check_fixed};
use crate::reservations::{self, Reserved};
use crate::secret::Secret;
use crate::status::Status as _;
use sql_store::{Statement, Value};

impl Writer<'_> {
    /// Replaces the settings of an object. Equal settings are no change. Secrets that the new settings do not name are
    /// removed.
    ///
    /// # Errors
    /// When the object has another revision than `expected`, is archived or is not in the scope; when the settings are
    /// invalid or a name is taken; or when the database can't be written.
    pub async fn update<K: Editable>(
        &mut self,
        id: K::Id,
        expected: Revision,
        settings: K,
    ) -> Result<Object<K>, CatalogError> {
        let before = self.load::<K>(id, expected).await?;
        let mut after = changed(&before, self.now);
        after.settings = settings;
        let lineage = self.check_update(&before, &mut after).await?;
        if after.settings == before.settings {
            return Ok(before);
        }
        objects::replace(self.tx, &after, lineage).await?;
        self.replace_names(&before, &after).await?;
        self.drop_secrets(&before, &after).await?;
        let change = NewChange::of(Action::Updated, Some(&before), &after);
        self.record(vec![change]).await?;
        Ok(after)
    }

    async fn check_update<K: Editable>(
        &mut self,
        before: &Object<K>,
        after: &mut Object<K>,
    ) -> Result<Lineage, CatalogError> {
        let mut faults = Faults::default();
        let network = before.network;
        after.settings.validate(&mut Validation(&mut faults));
        let (references, earlier) = (after.settings.references(), before.settings.references());
        check_fixed(&references, &earlier, &mut faults);
        let referred = ReferredObjects::load(self.tx, references.iter().cloned()).await?;
        let lineage = referred.check(network, &references, &earlier, &mut faults);
        let names = names(&after.settings, network).into_iter();
        let mut reserved = Reserved::load(self.tx, names).await?;
        let wanted = after.settings.reservations(network);
        let own = Some((K::NAME, before.id.number()));
        reserved.check(0, &wanted, own, &mut faults);
        check_required_domain(&after.settings, network, &reserved, &mut faults);
        self.check_released(before.settings.reservations(network), &wanted, &mut faults)
            .await?;
        faults.finish()?;
        Ok(lineage)
    }

    /// Checks that no link uses a domain that is given up.
    async fn check_released(
        &mut self,
        before: Vec<Reservation>,
        after: &[Reservation],
        faults: &mut Faults,
    ) -> Result<(), CatalogError> {
        for released in before {
            let is_kept = after.iter().any(|it| it.key == released.key);
            let Some(domain) = released.key.strip_prefix("domain:") else {
                continue;
            };
            if !is_kept && reservations::is_domain_used(self.tx, domain).await? {
                let message = format!("links use {domain}; archive them before it is removed");
                faults.add(Reason::DomainInUse, "/domains", message);
            }
        }
        Ok(())
    }

    async fn replace_names<K: Editable>(
        &mut self,
        before: &Object<K>,
        after: &Object<K>,
    ) -> Result<(), CatalogError> {
        let wanted = after.settings.reservations(after.network);
        if wanted == before.settings.reservations(before.network) {
            return Ok(());
        }
        let id = after.id.number();
        reservations::release(self.tx, K::NAME, id).await?;
        let names = wanted.into_iter().map(|name| (id, name));
        reservations::insert(self.tx, K::NAME, names).await?;
        Ok(())
    }

    /// Removes the secrets that the settings do not name any more: they must not return with their label.
    async fn drop_secrets<K: Editable>(
        &mut self,
        before: &Object<K>,
        after: &Object<K>,
    ) -> Result<(), CatalogError> {
        let kept = after.settings.secret_labels();
        for label in before.settings.secret_labels() {
            if !kept.contains(&label) {
                self.write_secret(K::NAME, after.id.number(), label, None)
                    .await?;
            }
        }
        Ok(())
    }

    /// Sets or removes a secret that the object's settings name. The object's revision stays: it has no secrets. The
    /// change log says that the secret was changed, not what it is.
    ///
    /// # Errors
    /// When the object is archived or not in the scope, or names no such secret; or when the database can't be written.
    pub async fn set_secret<K: HasSecrets>(
        &mut self,
        id: K::Id,
        label: &str,
        secret: Option<&Secret>,
    ) -> Result<(), CatalogError> {
        let object = objects::load::<K>(self.tx, self.scope.network(), id).await?;
        if object.status == K::Status::ARCHIVED {
            let message = format!("{} {id} is archived; create another one", K::NAME);
            return Err(CatalogError::refused(Reason::Archived, "", message));
        }
        check_label(&object, label)?;
        self.write_secret(K::NAME, id.number(), label, secret)
            .await?;
        let after = serde_json::json!({ "secret": label, "set": secret.is_some() });
        let change = NewChange {
            action: Action::SecretChanged,
            kind: K::NAME,
            object: id.number(),
            network: object.network,
            before: String::new(),
            after: after.to_string(),
        };
        self.record(vec![change]).await
    }

    async fn write_secret(
        &mut self,
        kind: KindName,
        id: u32,
        label: &str,
        secret: Option<&Secret>,
    ) -> Result<(), CatalogError> {
        let delete = "DELETE FROM catalog_secrets WHERE kind = $1 AND object = $2 AND label = $3";
        let delete = Statement::new(delete);
        let delete = delete.bind(kind.name()).bind(id).bind(label);
        self.tx.execute(delete).await?;
        if let Some(secret) = secret {
            let columns: [(&str, Value); 5] = [
                ("kind", kind.name().into()),
                ("object", id.into()),
                ("label", label.into()),
                ("value", secret.expose().into()),
                ("updated", self.now.into()),
            ];
            let insert = Statement::insert("catalog_secrets", columns);
            self.tx.execute(insert).await?;
        }
        Ok(())
    }
}
