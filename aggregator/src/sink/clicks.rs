//! Looking up clicks by their ids.

use super::connection::client;
use super::database::SinkError;
use crate::click::ClickFacts;
use crate::explain::explain;
use crate::settings;
use clickhouse::{Client, Row};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracking_events::ClickId;

const ANSWER: Duration = Duration::from_secs(30);

/// Finds clicks.
#[derive(Clone)]
pub(crate) struct Clicks(Client);

#[derive(Row, Deserialize)]
struct Found {
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

/// The link and the month narrow the search down to some granules, in which the index of ids finds the rest.
const QUERY: &str = "SELECT id, link, offer, campaign, affiliate, country, device, source, external_id, \
     [sub1, sub2, sub3, sub4, sub5, sub6, sub7, sub8, sub9, sub10] AS subs FROM clicks \
     WHERE link_id IN ? AND time >= fromUnixTimestamp64Milli(toInt64(?)) \
     AND time < fromUnixTimestamp64Milli(toInt64(?)) AND id IN ?";

impl Clicks {
    /// Finds clicks in the database that `settings` name.
    ///
    /// # Errors
    /// When the password can't be read.
    pub(crate) fn of(settings: &settings::ClickHouse) -> Result<Self, SinkError> {
        Ok(Self(client(settings)?.with_database(&settings.database)))
    }

    /// Those of `ids` that are there.
    ///
    /// # Errors
    /// When ClickHouse can't say.
    pub(crate) async fn find(
        &self,
        ids: &[ClickId],
    ) -> Result<BTreeMap<String, ClickFacts>, SinkError> {
        let times = || ids.iter().map(|id| id.parts().time.millis());
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            return Ok(BTreeMap::new());
        };
        let links: BTreeSet<u32> = ids.iter().map(|id| id.parts().link.0).collect();
        let texts: BTreeSet<String> = ids.iter().map(ToString::to_string).collect();
        let query = self.0.query(QUERY);
        let query = query.bind(links.into_iter().collect::<Vec<_>>());
        let query = query.bind(first).bind(last.saturating_add(1));
        let query = query.bind(texts.into_iter().collect::<Vec<_>>());
        let found = tokio::time::timeout(ANSWER, query.fetch_all::<Found>()).await;
        let found = found
            .map_err(|_| SinkError::Silent(ANSWER))?
            .map_err(|error| SinkError::ClickHouse(explain(&error)))?;
        Ok(found.into_iter().map(Found::facts).collect())
    }
}

impl Found {
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
