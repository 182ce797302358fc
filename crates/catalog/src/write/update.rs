//! Changes of settings and secrets.

use super::create::check_required_domain;
use super::{Writer, changed};
use crate::change::{Action, NewChange};
use crate::error::{CatalogError, Faults, Reason};
use crate::kind::{
    Editable, HasSecrets, Kind, KindName, Object, ObjectId as _, Reservation, Revision, Validation,
};
use crate::model::Network;
use crate::objects;
use crate::read::check_label;
use crate::references::{Lineage, ReferredObjects, check_fixed};
use crate::reservations::{self, Reserved};
use crate::secret::Secret;
use sql_store::{Statement, Value, typed_row};
use std::collections::BTreeMap;

typed_row! {
    struct LabelledSecret {
        label: String,
        value: String,
    }
}

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
        let (lineage, names) = self.check_update(&before, &mut after).await?;
        if after.settings == before.settings {
            return Ok(before);
        }
        objects::replace(self.tx, &after, lineage).await?;
        self.replace_names(&after, names).await?;
        let mut changes = vec![NewChange::of(Action::Updated, Some(&before), &after)];
        changes.extend(self.drop_secrets(&before, &after).await?);
        self.record(changes).await?;
        Ok(after)
    }

    async fn check_update<K: Editable>(
        &mut self,
        before: &Object<K>,
        after: &mut Object<K>,
    ) -> Result<(Lineage, Vec<Reservation>), CatalogError> {
        let mut faults = Faults::default();
        let network = before.network;
        after.settings.validate(&mut Validation(&mut faults));
        let (references, earlier) = (after.settings.references(), before.settings.references());
        check_fixed(&references, &earlier, &mut faults);
        let referred = ReferredObjects::load(self.tx, references.iter().cloned()).await?;
        let lineage = referred.check(network, &references, &earlier, &mut faults);
        let mut wanted = after.settings.reservations(network);
        wanted.extend(self.path_keys(after, None, &mut faults).await?);
        let domain = after.settings.required_domain().map(Network::domain_key);
        let names = wanted.iter().map(|it| it.key.clone()).chain(domain);
        let mut reserved = Reserved::load(self.tx, names).await?;
        let own = Some((K::NAME, before.id.number()));
        reserved.check(0, &wanted, own, &mut faults);
        check_required_domain(&after.settings, network, &reserved, &mut faults);
        self.check_released(before.settings.reservations(network), &wanted, &mut faults)
            .await?;
        faults.finish()?;
        Ok((lineage, wanted))
    }

    /// The names of the object's path keys: hashes, because they are secrets. `new` replaces a stored one.
    async fn path_keys<K: Kind>(
        &mut self,
        object: &Object<K>,
        new: Option<(&str, Option<&Secret>)>,
        faults: &mut Faults,
    ) -> Result<Vec<Reservation>, CatalogError> {
        let labels = object.settings.path_keys();
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = self.secrets(K::NAME, object.id.number()).await?;
        if let Some((label, secret)) = new {
            values.remove(label);
            values.extend(secret.map(|it| (label.to_owned(), it.clone())));
        }
        let mut names = Vec::new();
        for (index, label) in labels.iter().enumerate() {
            let Some(secret) = values.get(label) else {
                continue;
            };
            let pointer = format!("/path_keys/{index}");
            let message =
                "a path key has only the characters A-Z a-z 0-9 - _ . because it is a part of URLs";
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let fits = secret.expose().bytes().all(is_plain);
            faults.require(fits, Reason::InvalidSecret, &pointer, message);
            let hash = blake3::hash(secret.expose().as_bytes()).to_hex();
            names.push(Reservation {
                pointer,
                key: format!("path_key:{hash}"),
                shown: label.clone(),
                domain: String::new(),
            });
        }
        Ok(names)
    }

    /// All secrets of an object by their labels.
    async fn secrets(
        &mut self,
        kind: KindName,
        id: u32,
    ) -> Result<BTreeMap<String, Secret>, CatalogError> {
        let select = "SELECT label, value FROM catalog_secrets WHERE kind = $1 AND object = $2";
        let select = Statement::new(select).bind(kind.name()).bind(id);
        let rows: Vec<LabelledSecret> = self.tx.fetch_all(select).await?;
        let rows = rows.into_iter();
        let secrets = rows.map(|row| (row.label, Secret::stored(row.value)));
        Ok(secrets.collect())
    }

    /// Checks that no link uses a domain that is given up.
    pub(super) async fn check_released(
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

    async fn replace_names<K: Kind>(
        &mut self,
        object: &Object<K>,
        names: Vec<Reservation>,
    ) -> Result<(), CatalogError> {
        let id = object.id.number();
        reservations::release(self.tx, K::NAME, &[id]).await?;
        let names = names.into_iter().map(|name| (id, name));
        reservations::insert(self.tx, K::NAME, names).await?;
        Ok(())
    }

    /// Removes the secrets that the settings do not name any more: they must not return with their label. Returns the
    /// changes.
    async fn drop_secrets<K: Editable>(
        &mut self,
        before: &Object<K>,
        after: &Object<K>,
    ) -> Result<Vec<NewChange>, CatalogError> {
        if before.settings.secret_labels().is_empty() {
            return Ok(Vec::new());
        }
        let kept = after.settings.secret_labels();
        let mut changes = Vec::new();
        for label in self.secrets(K::NAME, after.id.number()).await?.keys() {
            if !kept.contains(&&**label) {
                self.write_secret(K::NAME, after.id.number(), label, None)
                    .await?;
                changes.push(secret_change(after, label, false));
            }
        }
        Ok(changes)
    }

    /// Sets or removes a secret that the object's settings name. The object's revision stays: it has no secrets. The
    /// change log says that the secret was changed, not what it is.
    ///
    /// # Errors
    /// When the object has another revision than `expected`, is archived or not in the scope, or names no such secret;
    /// when a path key is not plain, or is that of another advertiser; or when the database can't be written.
    pub async fn set_secret<K: HasSecrets>(
        &mut self,
        id: K::Id,
        expected: Revision,
        label: &str,
        secret: Option<&Secret>,
    ) -> Result<(), CatalogError> {
        let object = self.load::<K>(id, expected).await?;
        check_label(&object, label)?;
        let mut faults = Faults::default();
        let new = Some((label, secret));
        let path_keys = self.path_keys(&object, new, &mut faults).await?;
        let keys = path_keys.iter().map(|it| it.key.clone());
        let mut reserved = Reserved::load(self.tx, keys).await?;
        let own = Some((K::NAME, id.number()));
        reserved.check(0, &path_keys, own, &mut faults);
        faults.finish()?;
        self.write_secret(K::NAME, id.number(), label, secret)
            .await?;
        let mut names = object.settings.reservations(object.network);
        names.extend(path_keys);
        self.replace_names(&object, names).await?;
        let change = secret_change(&object, label, secret.is_some());
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

/// The change of a secret, without it.
fn secret_change<K: Kind>(object: &Object<K>, label: &str, is_set: bool) -> NewChange {
    let after = serde_json::json!({ "secret": label, "set": is_set });
    NewChange {
        action: Action::SecretChanged,
        kind: K::NAME,
        object: object.id.number(),
        network: object.network,
        before: String::new(),
        after: after.to_string(),
        affects_links: false,
    }
}
