//! Looks up clicks by id.

use super::servers::Servers;
use crate::click::ClickFacts;
use crate::error_chain::explain;
use crate::settings;
use crate::sink_error::SinkError;
use clickhouse::query::Query;
use clickhouse::{Client, Row};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracking_events::ClickId;

const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Queries of clicks.
pub(crate) struct Clicks(Servers);

#[derive(Row, Deserialize)]
struct ClickRow {
    id: String,
    link: String,
    offer: String,
    campaign: String,
    affiliate: String,
    country: String,
    device: String,
    source: String,
    external_id: String,
    subs: Vec<String>,
}

/// Copies the campaign, offer and affiliate of clicks, so that they outlive the clicks. Repeating it changes nothing.
const ATTRIBUTE: &str = "INSERT INTO conversion_attribution \
     (click_id, link_id, link, offer, campaign, affiliate, country, device) \
     SELECT id, link_id, link, offer, campaign, affiliate, country, device FROM clicks \
     WHERE link_id IN ? AND time >= fromUnixTimestamp64Milli(toInt64(?)) \
     AND time < fromUnixTimestamp64Milli(toInt64(?)) AND id IN ?";

const ATTRIBUTE_CORRECTED: &str = "INSERT INTO conversion_attribution \
     (click_id, link_id, link, offer, campaign, affiliate, country, device) \
     SELECT id, link_id, link, offer, campaign, affiliate, country, device FROM clicks \
     WHERE link_id IN ? AND bitTest(flags, 10) AND id IN ?";

const ATTRIBUTED: &str = "SELECT DISTINCT click_id FROM conversion_attribution WHERE click_id IN ?";

/// Link and month limit the search to some granules, in which the index of ids finds the rows.
const QUERY: &str = "SELECT id, link, offer, campaign, affiliate, country, device, source, external_id, \
     [sub1, sub2, sub3, sub4, sub5, sub6, sub7, sub8, sub9, sub10] AS subs FROM clicks \
     WHERE link_id IN ? AND time >= fromUnixTimestamp64Milli(toInt64(?)) \
     AND time < fromUnixTimestamp64Milli(toInt64(?)) AND id IN ?";

/// Searches rows whose time differs from the one in their id, because their edge had no time. They are few, so the
/// index of ids is searched in every month.
const QUERY_CORRECTED: &str = "SELECT id, link, offer, campaign, affiliate, country, device, source, external_id, \
     [sub1, sub2, sub3, sub4, sub5, sub6, sub7, sub8, sub9, sub10] AS subs FROM clicks \
     WHERE link_id IN ? AND bitTest(flags, 10) AND id IN ?";

impl Clicks {
    /// Queries of the database that `settings` name.
    ///
    /// # Errors
    /// When the password can't be read.
    pub(crate) fn of(settings: &settings::ClickHouseSettings) -> Result<Self, SinkError> {
        let servers = Servers::of(settings)?;
        Ok(Self(servers.with_database(&settings.database)))
    }

    /// The clicks among `ids` that exist.
    ///
    /// # Errors
    /// When ClickHouse can't respond.
    pub(crate) async fn find(
        &self,
        ids: &[ClickId],
    ) -> Result<BTreeMap<String, ClickFacts>, SinkError> {
        let server = self.0.preferred();
        server.settle(find(server.client, ids).await)
    }

    /// Copies the facts of clicks permanently; returns those of `ids` whose facts exist now.
    ///
    /// # Errors
    /// When ClickHouse can't confirm it. Some facts may have been copied anyway.
    pub(crate) async fn attribute(&self, ids: &[ClickId]) -> Result<BTreeSet<String>, SinkError> {
        let server = self.0.preferred();
        server.settle(attribute(server.client, ids).await)
    }
}

async fn find(client: &Client, ids: &[ClickId]) -> Result<BTreeMap<String, ClickFacts>, SinkError> {
    let Some(query) = about(client, QUERY, ids) else {
        return Ok(BTreeMap::new());
    };
    let mut found = fetch(query).await?;
    let is_missing = |id: &ClickId| !found.contains_key(&id.to_string());
    let missing: Vec<ClickId> = ids.iter().copied().filter(is_missing).collect();
    if !missing.is_empty() {
        found.append(&mut fetch(corrected(client, QUERY_CORRECTED, &missing)).await?);
    }
    Ok(found)
}

async fn attribute(client: &Client, ids: &[ClickId]) -> Result<BTreeSet<String>, SinkError> {
    let Some(copying) = about(client, ATTRIBUTE, ids) else {
        return Ok(BTreeSet::new());
    };
    let mut attributed = copied(client, copying, ids).await?;
    let is_missing = |id: &ClickId| !attributed.contains(&id.to_string());
    let missing: Vec<ClickId> = ids.iter().copied().filter(is_missing).collect();
    if !missing.is_empty() {
        let copying = corrected(client, ATTRIBUTE_CORRECTED, &missing);
        attributed.append(&mut copied(client, copying, &missing).await?);
    }
    Ok(attributed)
}

/// Copies the facts of clicks; returns those of `ids` whose facts exist.
async fn copied(
    client: &Client,
    copying: Query,
    ids: &[ClickId],
) -> Result<BTreeSet<String>, SinkError> {
    let work = async {
        copying.execute().await?;
        let query = client.query(ATTRIBUTED).bind(texts(ids));
        query.fetch_all::<String>().await
    };
    let copied = tokio::time::timeout(QUERY_TIMEOUT, work).await;
    let copied = copied
        .map_err(|_| SinkError::TimedOut(QUERY_TIMEOUT))?
        .map_err(|error| SinkError::ClickHouse(explain(&error)))?;
    Ok(copied.into_iter().collect())
}

/// A statement about clicks with a corrected time: their links and ids.
fn corrected(client: &Client, sql: &str, ids: &[ClickId]) -> Query {
    let links: BTreeSet<u32> = ids.iter().map(|id| id.parts().link.0).collect();
    let query = client.query(sql);
    let query = query.bind(links.into_iter().collect::<Vec<_>>());
    query.bind(texts(ids))
}

/// A statement about clicks: their links, the range of their times, and their ids.
fn about(client: &Client, sql: &str, ids: &[ClickId]) -> Option<Query> {
    let times = || ids.iter().map(|id| id.parts().time.millis());
    let (first, last) = (times().min()?, times().max()?);
    let links: BTreeSet<u32> = ids.iter().map(|id| id.parts().link.0).collect();
    let query = client.query(sql);
    let query = query.bind(links.into_iter().collect::<Vec<_>>());
    let query = query.bind(first).bind(last.saturating_add(1));
    Some(query.bind(texts(ids)))
}

fn texts(ids: &[ClickId]) -> Vec<String> {
    let texts: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
    texts.into_iter().collect()
}

async fn fetch(query: Query) -> Result<BTreeMap<String, ClickFacts>, SinkError> {
    let found = tokio::time::timeout(QUERY_TIMEOUT, query.fetch_all::<ClickRow>()).await;
    let found = found
        .map_err(|_| SinkError::TimedOut(QUERY_TIMEOUT))?
        .map_err(|error| SinkError::ClickHouse(explain(&error)))?;
    Ok(found.into_iter().map(ClickRow::facts).collect())
}

impl ClickRow {
    fn facts(self) -> (String, ClickFacts) {
        let mut subs = self.subs.into_iter();
        let facts = ClickFacts {
            link: self.link,
            offer: self.offer,
            campaign: self.campaign,
            affiliate: self.affiliate,
            country: self.country,
            device: self.device,
            source: self.source,
            external_id: self.external_id,
            subs: std::array::from_fn(|_| subs.next().unwrap_or_default()),
        };
        (self.id, facts)
    }
}
