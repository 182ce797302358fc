//! Reads within a transaction.

use crate::change::{self, Change, ChangeQuery};
use crate::check::dns_name;
use crate::error::{CatalogError, Reason};
use crate::head;
use crate::kind::{HasSecrets, Kind, KindName, Object, ObjectId as _};
use crate::listing::{self, ListQuery, Page};
use crate::model::{Campaign, Link, Terms};
use crate::objects::{self, ObjectRow, select_objects};
use crate::reservations;
use crate::rows::select_where;
use crate::secret::Secret;
use domain::{CampaignId, LinkId, Micros, NetworkId};
use serde::Serialize;
use sql_store::{Statement, Transaction, typed_row};

/// The objects that reads and writes have access to. Others do not exist for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of one network.
    Network(NetworkId),
    /// Those of all networks: for administrators of the installation, and for programs.
    Installation,
}

impl Scope {
    /// The only network; none for all.
    #[must_use]
    pub const fn network(self) -> Option<NetworkId> {
        match self {
            Self::Network(network) => Some(network),
            Self::Installation => None,
        }
    }
}

/// Reads within a transaction, from [`Catalog::reader`](crate::Catalog::reader).
#[derive(Debug)]
pub struct Reader<'t> {
    tx: &'t mut Transaction,
    scope: Scope,
}

typed_row! {
    struct SecretRow {
        label: String,
        updated: Micros,
    }
}

/// Whether a secret is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretState {
    /// Its label.
    pub label: String,
    /// When it was set; `None` if it was not.
    #[serde(with = "crate::json::optional_time")]
    pub updated: Option<Micros>,
}

impl<'t> Reader<'t> {
    pub(crate) const fn new(tx: &'t mut Transaction, scope: Scope) -> Self {
        Self { tx, scope }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// When it does not exist in the scope, or the database can't be read.
    pub async fn get<K: Kind>(&mut self, id: K::Id) -> Result<Object<K>, CatalogError> {
        objects::load(self.tx, self.scope.network(), id).await
    }

    /// Reads a page of a list.
    ///
    /// # Errors
    /// When the query is invalid, or the database can't be read.
    pub async fn list<K: Kind>(&mut self, query: &ListQuery<K>) -> Result<Page<K>, CatalogError> {
        listing::list(self.tx, self.scope.network(), query).await
    }

    /// Reads changes in their order.
    ///
    /// # Errors
    /// When the limit is out of range, or the database can't be read.
    pub async fn changes(&mut self, query: &ChangeQuery) -> Result<Vec<Change>, CatalogError> {
        change::list(self.tx, self.scope.network(), query).await
    }

    /// The link that is served for a slug; `domain` is a host name in any case and form, and empty for links of every domain. Archived links are not found.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn find_link(
        &mut self,
        domain: &str,
        slug: &str,
    ) -> Result<Option<Object<Link>>, CatalogError> {
        let domain = match domain {
            "" => Some(String::new()),
            domain => dns_name(domain),
        };
        let Some(domain) = domain else {
            return Ok(None);
        };
        let name = Link::slug_key(&domain, slug);
        let Some(id) = reservations::find(self.tx, KindName::Link, name).await? else {
            return Ok(None);
        };
        let link = objects::load::<Link>(self.tx, None, LinkId(id)).await?;
        let network = self.scope.network();
        Ok(Some(link).filter(|link| network.is_none_or(|network| network == link.network)))
    }

    /// The terms of a campaign at a time: those of the campaign if it has any in force, otherwise those of its offer.
    /// Terms of one owner never overlap, so there is at most one of each. The time must be before the catalog's clock,
    /// which [`record_dates`](crate::record_dates) moves: what it returns is final then, because terms begin and end at
    /// that clock or later.
    ///
    /// # Errors
    /// When the time is not before the catalog's clock, when there is no such campaign in the scope, or when the
    /// database can't be read.
    pub async fn terms_in_force(
        &mut self,
        campaign: CampaignId,
        time: Micros,
    ) -> Result<Option<Object<Terms>>, CatalogError> {
        let offer = self.get::<Campaign>(campaign).await?.settings.offer;
        let clock = head::read(self.tx).await?.clock;
        if time >= clock {
            let message = format!(
                "terms at {} are not final; ask for a time before the catalog's clock, which is at {}",
                crate::json::shown(time),
                crate::json::shown(clock)
            );
            return Err(CatalogError::refused(Reason::NotFinal, "", message));
        }
        for (owner, id) in [
            (" AND campaign <> 0 AND campaign = ", campaign.0),
            (" AND campaign = 0 AND offer = ", offer.0),
        ] {
            let select = in_force(select_objects(KindName::Terms), time);
            let row = tx_row(self.tx, select.push(owner).push_bind(id)).await?;
            if let Some(row) = row {
                return row.read().map(Some);
            }
        }
        Ok(None)
    }

    /// Which secrets an object has of those that its settings name.
    ///
    /// # Errors
    /// When it does not exist in the scope, or the database can't be read.
    pub async fn secret_states<K: HasSecrets>(
        &mut self,
        id: K::Id,
    ) -> Result<Vec<SecretState>, CatalogError> {
        let object = self.get::<K>(id).await?;
        let select = select_where(
            "label, updated",
            "catalog_secrets",
            "object = ",
            id.number(),
        );
        let select = select.push(" AND kind = ").push_bind(K::NAME.name());
        let set: Vec<SecretRow> = self.tx.fetch_all(select).await?;
        let updated = |label: &str| {
            let found = set.iter().find(|row| row.label == label);
            found.map(|row| row.updated)
        };
        let labels = object.settings.secret_labels().into_iter();
        Ok(labels
            .map(|label| SecretState {
                label: label.to_owned(),
                updated: updated(label),
            })
            .collect())
    }

    /// Reads a secret; `None` if it is not set.
    ///
    /// # Errors
    /// When the object does not exist in the scope or names no such secret, or the database can't be read.
    pub async fn secret<K: HasSecrets>(
        &mut self,
        id: K::Id,
        label: &str,
    ) -> Result<Option<Secret>, CatalogError> {
        let object = self.get::<K>(id).await?;
        check_label(&object, label)?;
        let select = select_where("value", "catalog_secrets", "object = ", id.number())
            .push(" AND kind = ")
            .push_bind(K::NAME.name())
            .push(" AND label = ")
            .push_bind(label);
        let value: Option<String> = self.tx.fetch_optional(select).await?;
        Ok(value.map(Secret::stored))
    }
}

/// Checks that an object's settings name a secret.
pub(crate) fn check_label<K: HasSecrets>(
    object: &Object<K>,
    label: &str,
) -> Result<(), CatalogError> {
    let labels = object.settings.secret_labels();
    if labels.contains(&label) {
        return Ok(());
    }
    let message = format!(
        "the {} has no secret {label:?}; its settings name: {}",
        K::NAME,
        labels.join(", ")
    );
    Err(CatalogError::refused(Reason::UnknownSecret, "", message))
}

/// Appends the condition that terms are in force.
pub(crate) fn in_force(select: Statement, time: Micros) -> Statement {
    select
        .push(" WHERE archived IS NULL AND starts <= ")
        .push_bind(time)
        .push(" AND (ends IS NULL OR ends > ")
        .push_bind(time)
        .push(")")
}

async fn tx_row(
    tx: &mut Transaction,
    statement: Statement,
) -> Result<Option<ObjectRow>, CatalogError> {
    Ok(tx.fetch_optional(statement).await?)
}
