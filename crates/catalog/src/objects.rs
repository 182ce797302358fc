//! Objects in their tables.

use crate::error::{CatalogError, Reason};
use crate::kind::{Kind, KindName, Object, ObjectId as _, Revision};
use crate::references::Lineage;
use crate::rows::{Insertion, execute_in, fetch_in, select};
use crate::status::Status as _;
use domain::{Micros, NetworkId};
use sql_store::{SqlError, Statement, Transaction, typed_row};
use std::collections::{HashMap, HashSet};

typed_row! {
    /// An object as it is stored.
    #[derive(Debug)]
    pub(crate) struct ObjectRow {
        id: u32,
        network: u32,
        status: String,
        status_reason: String,
        revision: u32,
        created: Micros,
        updated: Micros,
        archived: Option<i64>,
        document: String,
    }
}

/// The columns of [`ObjectRow`].
pub(crate) const COLUMNS: &str =
    "id, network, status, status_reason, revision, created, updated, archived, document";

const INSERTED_COLUMNS: &str = "id, network, advertiser, offer, affiliate, campaign, creative, label, status, status_reason, \
     revision, created, updated, archived, starts, ends, document";

impl ObjectRow {
    /// The id of the object.
    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    /// Reads the object.
    pub(crate) fn read<K: Kind>(self) -> Result<Object<K>, CatalogError> {
        let unreadable = |cause| CatalogError::Unreadable {
            kind: K::NAME.name(),
            id: self.id,
            cause,
        };
        let status = K::Status::from_name(&self.status).ok_or_else(|| {
            SqlError::UnexpectedValue(format!("status of {}: {:?}", K::NAME, self.status))
        })?;
        Ok(Object {
            id: K::Id::from_number(self.id),
            network: NetworkId(self.network),
            status,
            revision: Revision(self.revision),
            created: self.created,
            updated: self.updated,
            archived: self.archived.map(|time| Micros(time.cast_unsigned())),
            settings: serde_json::from_str(&self.document).map_err(unreadable)?,
            status_reason: self.status_reason,
        })
    }
}

/// `SELECT` of the objects of a kind.
pub(crate) fn select_objects(kind: KindName) -> Statement {
    select(COLUMNS, kind.table())
}

/// Reads an object; of `network` only, unless that is `None`.
pub(crate) async fn load<K: Kind>(
    tx: &mut Transaction,
    network: Option<NetworkId>,
    id: K::Id,
) -> Result<Object<K>, CatalogError> {
    let statement = select_objects(K::NAME)
        .push(" WHERE id = ")
        .push_bind(id.number());
    let row: Option<ObjectRow> = tx.fetch_optional(statement).await?;
    let own = row.filter(|row| network.is_none_or(|network| network.0 == row.network));
    own.ok_or_else(|| not_found::<K>(id))?.read()
}

/// The refusal of an id that the scope does not have.
pub(crate) fn not_found<K: Kind>(id: K::Id) -> CatalogError {
    let message = format!("there is no {} {id} in the scope", K::NAME);
    CatalogError::refused(Reason::NotFound, "", message)
}

/// Reads those of the objects that exist; of `network` only, unless that is `None`.
pub(crate) async fn load_many<K: Kind>(
    tx: &mut Transaction,
    network: Option<NetworkId>,
    ids: &[u32],
) -> Result<HashMap<u32, Object<K>>, CatalogError> {
    let statement = select_objects(K::NAME).push(" WHERE");
    let rows: Vec<ObjectRow> = fetch_in(tx, statement, "id", ids).await?;
    let own = rows.into_iter();
    let own = own.filter(|row| network.is_none_or(|network| network.0 == row.network));
    own.map(|row| Ok((row.id, row.read()?))).collect()
}

/// Reads objects by their ids, whatever their network. Those that can't be read are left out with a warning.
pub(crate) async fn load_all<K: Kind>(
    tx: &mut Transaction,
    ids: impl IntoIterator<Item = u32>,
) -> Result<HashMap<u32, Object<K>>, CatalogError> {
    let mut ids: Vec<u32> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let statement = select_objects(K::NAME).push(" WHERE");
    let rows: Vec<ObjectRow> = fetch_in(tx, statement, "id", &ids).await?;
    let objects = readable::<K>(rows).map(|object| (object.id.number(), object));
    Ok(objects.collect())
}

/// The objects that can be read: what depends on the others only is left out, not all that a request asks for.
pub(crate) fn readable<K: Kind>(rows: Vec<ObjectRow>) -> impl Iterator<Item = Object<K>> {
    let warn = |error: &CatalogError| tracing::warn!(%error, "left an object out");
    let objects = rows.into_iter().map(ObjectRow::read);
    objects.filter_map(move |object| object.inspect_err(warn).ok())
}

/// The largest id that a request may choose: the ids above leave room for the next ones.
const MAX_CHOSEN_ID: u32 = 4_000_000_000;

/// Which of the ids can't be chosen: those that objects of the kind have, or had, and those out of range.
pub(crate) async fn unusable_ids(
    tx: &mut Transaction,
    kind: KindName,
    ids: &[u32],
) -> Result<HashSet<u32>, SqlError> {
    let select = select("id", kind.table()).push(" WHERE");
    let used: Vec<i64> = fetch_in(tx, select, "id", ids).await?;
    let used = used.into_iter().filter_map(|id| u32::try_from(id).ok());
    let out_of_range = |id: &u32| !(1..=MAX_CHOSEN_ID).contains(id);
    let out_of_range = ids.iter().copied().filter(out_of_range);
    Ok(used.chain(out_of_range).collect())
}

/// The ids of new objects: the chosen ones, which must be usable, and the next ones for the others.
pub(crate) async fn assign_ids(
    tx: &mut Transaction,
    kind: KindName,
    chosen: &[Option<u32>],
) -> Result<Vec<u32>, CatalogError> {
    if let Some(highest) = chosen.iter().flatten().max() {
        let skip = "UPDATE catalog_ids SET last = $1 WHERE kind = $2 AND last < $1";
        let skip = Statement::new(skip).bind(*highest).bind(kind.name());
        tx.execute(skip).await?;
    }
    let count = chosen.iter().filter(|id| id.is_none()).count();
    let mut next = take_ids(tx, kind, count).await?;
    let ids = chosen.iter().map(|id| {
        id.unwrap_or_else(|| {
            next += 1;
            next
        })
    });
    Ok(ids.collect())
}

/// Takes `count` ids of a kind and returns the one before the first.
async fn take_ids(tx: &mut Transaction, kind: KindName, count: usize) -> Result<u32, CatalogError> {
    let take = "UPDATE catalog_ids SET last = last + $1 WHERE kind = $2 RETURNING last";
    let take = Statement::new(take).bind(count).bind(kind.name());
    let last: Option<i64> = tx.fetch_optional(take).await?;
    let last = last.ok_or_else(|| SqlError::UnexpectedValue(format!("catalog_ids: no {kind}")))?;
    let exhausted = |_| CatalogError::IdsExhausted(kind.name());
    let last = u32::try_from(last).map_err(exhausted)?;
    Ok(last - u32::try_from(count).map_err(exhausted)?)
}

/// Inserts new objects with their parents.
pub(crate) async fn insert<K: Kind>(
    tx: &mut Transaction,
    objects: &[Object<K>],
    lineages: &[Lineage],
) -> Result<(), SqlError> {
    let mut insertion = Insertion::new(K::NAME.table(), INSERTED_COLUMNS);
    for (object, lineage) in objects.iter().zip(lineages) {
        let (starts, ends) = object.settings.dates();
        insertion.add([
            object.id.number().into(),
            object.network.0.into(),
            lineage.advertiser.into(),
            lineage.offer.into(),
            lineage.affiliate.into(),
            lineage.campaign.into(),
            lineage.creative.into(),
            object.settings.label().to_lowercase().into(),
            object.status.name().into(),
            (&object.status_reason).into(),
            object.revision.0.into(),
            object.created.into(),
            object.updated.into(),
            nullable(object.archived).into(),
            nullable(starts).into(),
            nullable(ends).into(),
            crate::json::text(&object.settings).into(),
        ]);
    }
    insertion.run(tx).await
}

/// Writes a changed object over the stored one.
pub(crate) async fn replace<K: Kind>(
    tx: &mut Transaction,
    object: &Object<K>,
    lineage: Lineage,
) -> Result<(), SqlError> {
    let (starts, ends) = object.settings.dates();
    let statement = Statement::new("UPDATE ")
        .push(K::NAME.table())
        .push(" SET label = ")
        .push_bind(object.settings.label().to_lowercase())
        .push(", status = ")
        .push_bind(object.status.name())
        .push(", status_reason = ")
        .push_bind(&object.status_reason)
        .push(", revision = ")
        .push_bind(object.revision.0)
        .push(", updated = ")
        .push_bind(object.updated)
        .push(", archived = ")
        .push_bind(nullable(object.archived))
        .push(", starts = ")
        .push_bind(nullable(starts))
        .push(", ends = ")
        .push_bind(nullable(ends))
        .push(", creative = ")
        .push_bind(lineage.creative)
        .push(", document = ")
        .push_bind(crate::json::text(&object.settings))
        .push(" WHERE id = ")
        .push_bind(object.id.number());
    tx.execute(statement).await.map(drop)
}

/// Gives objects of a kind the status of archived ones.
pub(crate) async fn archive<K: Kind>(
    tx: &mut Transaction,
    ids: &[u32],
    now: Micros,
) -> Result<(), SqlError> {
    let update = Statement::new("UPDATE ")
        .push(K::NAME.table())
        .push(" SET status_reason = '', revision = revision + 1, status = ")
        .push_bind(K::Status::ARCHIVED.name())
        .push(", updated = ")
        .push_bind(now)
        .push(", archived = ")
        .push_bind(now)
        .push(" WHERE");
    execute_in(tx, update, "id", ids).await
}

fn nullable(time: Option<Micros>) -> Option<i64> {
    time.map(|time| time.0.cast_signed())
}
