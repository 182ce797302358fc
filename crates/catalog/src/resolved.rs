//! Links as the edges need them: with everything that follows from their parents and from dates.
//!
//! A full load ([`resolved_links`]) and the changes since a version ([`resolved_links_changed`]) lead to the same table.
//! Both show the catalog as of its clock, which only [`record_dates`](crate::record_dates) and writers move. To read
//! several pages of one version, use one transaction with [`sql_store::Isolation::Serializable`].

mod changed;
mod parents;
mod state;

pub use changed::{LinkChanges, MAX_CHANGED_LINKS, resolved_links_changed};

use crate::error::{CatalogError, check_limit};
use crate::head;
use crate::kind::{KindName, Object};
use crate::model::Link;
use crate::objects::{ObjectRow, select_objects};
use domain::{
    AdvertiserId, AffiliateId, CampaignId, CreativeId, LinkId, Micros, NetworkId, OfferId, TermsId,
};
use parents::Parents;
use serde::{Deserialize, Serialize};
use sql_store::{SqlError, Transaction};
use std::sync::Arc;

/// The most links that are read at once.
pub const MAX_LINKS: usize = 10_000;

/// A link with everything that an edge needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedLink {
    /// The link.
    pub id: LinkId,
    /// The domain in the form of DNS; empty for every domain.
    pub domain: String,
    /// The path after `/c/`.
    pub slug: String,
    /// The redirect target, with macros.
    pub destination: String,
    /// Where visitors are sent while the link is not active, with macros.
    pub fallback: Option<String>,
    /// The redirect's status: 301, 302, 303, 307 or 308.
    pub code: u16,
    /// Whether visitors are sent to the destination.
    pub state: LinkState,
    /// Whether foreign query parameters are passed on.
    pub pass_query: bool,
    /// Whether `click_id` is appended to destinations without that macro.
    pub append_click_id: bool,
    /// The network.
    pub network: Named<NetworkId>,
    /// The advertiser of the offer.
    pub advertiser: Named<AdvertiserId>,
    /// The offer.
    pub offer: Named<OfferId>,
    /// The affiliate of the campaign.
    pub affiliate: Named<AffiliateId>,
    /// The campaign.
    pub campaign: Named<CampaignId>,
    /// The creative that the link is used with.
    pub creative: Option<Named<CreativeId>>,
    /// The terms in force: those of the campaign, otherwise those of the offer.
    pub terms: Option<Named<TermsId>>,
}

/// An object with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named<I> {
    /// Its id.
    pub id: I,
    /// Its name, shared among the links of one load.
    #[serde(with = "crate::json::shared_text")]
    pub name: Arc<str>,
}

/// Whether a link redirects to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It does.
    Active,
    /// Visitors are redirected to the fallback, if there is one.
    Inactive(InactiveCause),
}

/// Why a link is not active: the first cause in the order link, campaign, offer, advertiser, affiliate, application,
/// network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InactiveCause {
    /// The kind of the object.
    pub kind: KindName,
    /// What is the matter with it.
    pub why: Why,
}

/// What keeps an object's links from being active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is paused.
    Paused,
    /// It is archived.
    Archived,
    /// It begins later.
    NotStarted,
    /// It has ended.
    Ended,
    /// It is not approved, or not any more.
    NotApproved,
}

/// Reads links by ascending id, `after` excluded: at most `limit`, 1 to [`MAX_LINKS`]. Fewer than the limit are the last
/// ones. Archived links have no place in the table, nor have those that are damaged, or whose parents are: they are left
/// out with a warning.
///
/// # Errors
/// When the limit is out of range, or the database can't be read.
pub async fn resolved_links(
    tx: &mut Transaction,
    after: Option<LinkId>,
    limit: usize,
) -> Result<Vec<ResolvedLink>, CatalogError> {
    check_limit(limit, MAX_LINKS)?;
    let clock = head::read(tx).await?.clock;
    let mut after = after.map_or(-1, |id| i64::from(id.0));
    let mut links = Vec::new();
    // Again only if damaged links were left out.
    loop {
        let wanted = limit - links.len();
        let rows = stored_links(tx, after, wanted).await?;
        after = rows.last().map_or(after, |row| row.id().into());
        let is_end = rows.len() < wanted;
        links.extend(resolve(tx, rows, clock).await?.links);
        if is_end || links.len() == limit {
            return Ok(links);
        }
    }
}

async fn stored_links(
    tx: &mut Transaction,
    after: i64,
    limit: usize,
) -> Result<Vec<ObjectRow>, SqlError> {
    let select = select_objects(KindName::Link)
        .push(" WHERE archived IS NULL AND id > ")
        .push_bind(after)
        .push(" ORDER BY id LIMIT ")
        .push_bind(limit);
    tx.fetch_all(select).await
}

/// Links that were read.
#[derive(Default)]
struct Resolution {
    links: Vec<ResolvedLink>,
    /// Those that can't be resolved.
    damaged: Vec<LinkId>,
}

/// Resolves links that are not archived. One warning stands for all damaged ones.
async fn resolve(
    tx: &mut Transaction,
    rows: Vec<ObjectRow>,
    clock: Micros,
) -> Result<Resolution, CatalogError> {
    let ids: Vec<LinkId> = rows.iter().map(|row| LinkId(row.id())).collect();
    let read = rows.into_iter().map(ObjectRow::read);
    let read: Vec<Result<Object<Link>, _>> = read.collect();
    let parents = Parents::load(tx, read.iter().flatten(), clock).await?;
    let mut resolution = Resolution::default();
    let mut first_error = None;
    for (id, link) in ids.into_iter().zip(read) {
        match link.and_then(|link| state::resolve(link, &parents, clock)) {
            Ok(link) => resolution.links.push(link),
            Err(error) => {
                resolution.damaged.push(id);
                first_error.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first_error {
        let damaged = &resolution.damaged;
        let (count, first) = (damaged.len(), damaged[0].0);
        tracing::warn!(count, first, %error, "left damaged links out; restore their objects from a backup");
    }
    Ok(resolution)
}
