//! The links that changed since a version, because they or anything that they depend on did.

use super::{Resolution, ResolvedLink, resolve};
use crate::change::Version;
use crate::error::CatalogError;
use crate::head;
use crate::kind::KindName;
use crate::objects::{ObjectRow, select_objects};
use crate::rows::{fetch_ids_in, fetch_in};
use domain::LinkId;
use serde::{Deserialize, Serialize};
use sql_store::{SqlError, Statement, Transaction, typed_row};
use std::collections::{BTreeMap, BTreeSet};

/// The most links of one delta.
pub const MAX_CHANGED_LINKS: usize = 100_000;
/// The most changes that a delta is computed from.
const MAX_CHANGES: usize = 100_000;

/// What is to be done to a table of links of an earlier version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkChanges {
    /// Some links differ.
    Delta {
        /// The version that the table has then.
        version: Version,
        /// New links and new states of links, by ascending id.
        changed: Vec<ResolvedLink>,
        /// Archived and damaged links, by ascending id; they may be missing in the table.
        removed: Vec<LinkId>,
    },
    /// More than [`MAX_CHANGED_LINKS`] may differ, or the version is not one of this catalog: load all links.
    LoadAll {
        /// The present version.
        version: Version,
    },
}

typed_row! {
    struct ChangedRow {
        kind: String,
        object: u32,
    }
}

/// Reads the links that changed after the version `since`. In PostgreSQL, under `READ COMMITTED`, the links may be newer
/// than the version that is returned; the next delta repeats them.
///
/// # Errors
/// When the database can't be read.
pub async fn resolved_links_changed(
    tx: &mut Transaction,
    since: Version,
) -> Result<LinkChanges, CatalogError> {
    let head = head::read(tx).await?;
    let version = Version(head.version);
    let load_all = LinkChanges::LoadAll { version };
    if since > version {
        return Ok(load_all);
    }
    let Some(objects) = changed_objects(tx, since, version).await? else {
        return Ok(load_all);
    };
    let Some(rows) = affected_links(tx, &objects).await? else {
        return Ok(load_all);
    };
    let Resolution { links, damaged } = resolve(tx, rows, head.clock).await?;
    let mut changed = links;
    changed.sort_by_key(|link| link.id);
    let mut removed = archived_links(tx, &objects).await?;
    removed.extend(damaged);
    removed.sort_unstable();
    Ok(LinkChanges::Delta {
        version,
        changed,
        removed,
    })
}

type ObjectsByKind = BTreeMap<KindName, Vec<u32>>;

/// The objects that were changed in a way that matters to links; `None` for too many.
async fn changed_objects(
    tx: &mut Transaction,
    since: Version,
    until: Version,
) -> Result<Option<ObjectsByKind>, CatalogError> {
    let select = "SELECT DISTINCT kind, object FROM catalog_changes WHERE version > $1 AND version <= $2 AND affects_links = 1 \
                  ORDER BY kind, object LIMIT $3";
    let select = Statement::new(select)
        .bind(since.0)
        .bind(until.0)
        .bind(MAX_CHANGES + 1);
    let rows: Vec<ChangedRow> = tx.fetch_all(select).await?;
    if rows.len() > MAX_CHANGES {
        return Ok(None);
    }
    let mut objects = ObjectsByKind::new();
    for row in rows {
        let kind = KindName::from_name(&row.kind)
            .ok_or_else(|| SqlError::UnexpectedValue(format!("kind {:?}", row.kind)))?;
        objects.entry(kind).or_default().push(row.object);
    }
    Ok(Some(objects))
}

/// The links that are not archived and depend on objects of each kind, with the column of the objects' ids.
const DEPENDENTS: [(KindName, &str, &str); 10] = [
    (KindName::Network, LINKS, "network"),
    (KindName::Advertiser, LINKS, "advertiser"),
    (KindName::Offer, LINKS, "offer"),
    (KindName::Affiliate, LINKS, "affiliate"),
    (KindName::Campaign, LINKS, "campaign"),
    (KindName::Creative, LINKS, "creative"),
    (KindName::Link, LINKS, "id"),
    (
        KindName::Application,
        LINKS_OF_APPLICATIONS,
        "application.id",
    ),
    (KindName::Terms, LINKS_OF_CAMPAIGN_TERMS, "terms.id"),
    (KindName::Terms, LINKS_OF_OFFER_TERMS, "terms.id"),
];
const LINKS: &str = "SELECT id FROM catalog_links WHERE archived IS NULL AND";
const LINKS_OF_APPLICATIONS: &str = "SELECT link.id FROM catalog_applications application \
     JOIN catalog_links link ON link.affiliate = application.affiliate AND link.offer = application.offer \
     WHERE link.archived IS NULL AND";
const LINKS_OF_CAMPAIGN_TERMS: &str = "SELECT link.id FROM catalog_terms terms \
     JOIN catalog_links link ON link.campaign = terms.campaign WHERE link.archived IS NULL AND";
const LINKS_OF_OFFER_TERMS: &str = "SELECT link.id FROM catalog_terms terms \
     JOIN catalog_links link ON link.offer = terms.offer WHERE terms.campaign = 0 AND link.archived IS NULL AND";

/// The links that are not archived and depend on changed objects; `None` for too many.
async fn affected_links(
    tx: &mut Transaction,
    objects: &ObjectsByKind,
) -> Result<Option<Vec<ObjectRow>>, CatalogError> {
    let mut ids = BTreeSet::new();
    for (kind, select, column) in DEPENDENTS {
        let Some(objects) = objects.get(&kind) else {
            continue;
        };
        let select = Statement::new(select);
        let found = fetch_ids_in(tx, select, column, objects, MAX_CHANGED_LINKS).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        ids.extend(found);
    }
    if ids.len() > MAX_CHANGED_LINKS {
        return Ok(None);
    }
    let ids: Vec<i64> = ids.into_iter().collect();
    let select = select_objects(KindName::Link).push(" WHERE");
    Ok(Some(fetch_in(tx, select, "id", &ids).await?))
}

/// The changed links that are archived by now.
async fn archived_links(
    tx: &mut Transaction,
    objects: &ObjectsByKind,
) -> Result<Vec<LinkId>, CatalogError> {
    let links = objects.get(&KindName::Link).map(Vec::as_slice);
    let select = Statement::new("SELECT id FROM catalog_links WHERE archived IS NOT NULL AND");
    let ids: Vec<i64> = fetch_in(tx, select, "id", links.unwrap_or_default()).await?;
    let ids = ids.into_iter().map(u32::try_from);
    let ids = ids.collect::<Result<Vec<u32>, _>>();
    let ids = ids.map_err(|error| SqlError::UnexpectedValue(format!("id: {error}")))?;
    Ok(ids.into_iter().map(LinkId).collect())
}
