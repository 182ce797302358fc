//! Reads the catalog and publishes each version of it.

use super::Configuration;
use super::record::{change, resource};
use crate::phase::Phase;
use crate::store;
use catalog::{
    Catalog, CatalogError, ChangeQuery, LinkChanges, MAX_LINKS, Scope, Version, current_version,
    next_date, record_dates, resolved_links, resolved_links_changed,
};
use domain::Micros;
use edge_config::{Change, ConfigVersion, ResourceKey};
use sql_store::{Database, Isolation, Location, Transaction};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use trusted_clock::TrustedClock;

/// How often the catalog's version is read: other processes change it, too.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The limit of each access to the database: a connection may break without an error.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a failure is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The task that publishes the catalog.
pub(crate) struct ConfigFeed {
    location: Location,
    /// Opened with the first check: the aggregator starts without its database.
    catalog: Option<Catalog>,
    published: Option<PublishedVersion>,
    pub(crate) configuration: Configuration,
    clock: Arc<TrustedClock>,
}

/// A version of the catalog that was published.
struct PublishedVersion {
    version: Version,
    /// The change that made the version, as JSON: a database that was restored may have another one of the same number.
    /// `None` for a catalog without any change.
    change: Option<String>,
}

impl ConfigFeed {
    pub(crate) const fn new(
        location: Location,
        configuration: Configuration,
        clock: Arc<TrustedClock>,
    ) -> Self {
        Self {
            location,
            catalog: None,
            published: None,
            configuration,
            clock,
        }
    }

    /// Publishes until the aggregator stops. While the database is away, edges keep their version.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_failure: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                _ = checks.tick() => {}
            }
            if let Err(error) = self.check().await
                && last_failure.is_none_or(|at| at.elapsed() >= LOG_INTERVAL)
            {
                last_failure = Some(Instant::now());
                tracing::error!(%error, "failed to read the catalog; edges keep their version, and changes wait");
            }
        }
    }

    /// Publishes the changes since the last version, if there are any.
    async fn check(&mut self) -> anyhow::Result<()> {
        let now = self.clock.read().trusted();
        let catalog = match &self.catalog {
            Some(catalog) => catalog.clone(),
            None => within(store::open_catalog(&self.location, now.unwrap_or_default())).await?,
        };
        self.catalog = Some(catalog.clone());
        let database = catalog.database();
        let dated = match now {
            Some(now) => within(record_past_dates(database, now)).await,
            None => Ok(()),
        };
        let mut tx = within(database.begin_snapshot()).await?;
        self.publish(&catalog, &mut tx).await?;
        dated
    }

    async fn publish(&mut self, catalog: &Catalog, tx: &mut Transaction) -> anyhow::Result<()> {
        let Some(published) = &self.published else {
            return self.publish_all(catalog, tx).await;
        };
        let since = published.version;
        if change_of(catalog, tx, since).await? != published.change {
            tracing::warn!(
                version = since.0,
                "the catalog has another history than before; reading all of it"
            );
            return self.publish_all(catalog, tx).await;
        }
        if within(current_version(tx)).await? > since {
            self.publish_since(catalog, tx, since).await?;
        }
        self.configuration.confirm_newest();
        Ok(())
    }

    async fn publish_since(
        &mut self,
        catalog: &Catalog,
        tx: &mut Transaction,
        since: Version,
    ) -> anyhow::Result<()> {
        match within(resolved_links_changed(tx, since)).await? {
            LinkChanges::Delta {
                version,
                changed,
                removed,
            } => {
                let removed = removed.iter().map(|id| Change {
                    key: ResourceKey::link(id.0),
                    content: None,
                });
                let changes = changed.iter().map(change).chain(removed).collect();
                let change = change_of(catalog, tx, version).await?;
                self.configuration.publish(version.0, changes);
                self.published = Some(PublishedVersion { version, change });
                Ok(())
            }
            LinkChanges::LoadAll { .. } => self.publish_all(catalog, tx).await,
        }
    }

    async fn publish_all(&mut self, catalog: &Catalog, tx: &mut Transaction) -> anyhow::Result<()> {
        let version = within(current_version(tx)).await?;
        let change = change_of(catalog, tx, version).await?;
        let mut state = ConfigVersion::new(version.0, []);
        let mut last = None;
        loop {
            let links = within(resolved_links(tx, last, MAX_LINKS)).await?;
            for link in &links {
                let (key, content) = resource(link);
                state.insert(key, content);
            }
            last = links.last().map(|link| link.id).or(last);
            if links.len() < MAX_LINKS {
                break;
            }
        }
        tracing::info!(version = version.0, links = state.len(), "read the catalog");
        self.configuration.replace(state).await?;
        self.published = Some(PublishedVersion { version, change });
        Ok(())
    }
}

/// The change that made a version, as JSON.
async fn change_of(
    catalog: &Catalog,
    tx: &mut Transaction,
    version: Version,
) -> anyhow::Result<Option<String>> {
    let query = ChangeQuery {
        after: Version(version.0.saturating_sub(1)),
        limit: 1,
        ..ChangeQuery::default()
    };
    let mut reader = catalog.reader(tx, Scope::Installation);
    let changes = within(reader.changes(&query)).await?;
    let change = changes.iter().find(|change| change.version == version);
    Ok(change.map(serde_json::to_string).transpose()?)
}

/// Limits the time of one access to the database.
async fn within<T, E>(work: impl Future<Output = Result<T, E>>) -> anyhow::Result<T>
where
    anyhow::Error: From<E>,
{
    match timeout(ACCESS_TIMEOUT, work).await {
        Ok(done) => Ok(done?),
        Err(_) => anyhow::bail!("the database did not respond in time"),
    }
}

/// Records dates that have passed: they change states of links.
async fn record_past_dates(database: &Database, now: Micros) -> Result<(), CatalogError> {
    let next = next_date(&mut database.begin().await?).await?;
    if next.is_none_or(|next| next > now) {
        return Ok(());
    }
    let mut attempts = database.attempts(Isolation::ReadCommitted);
    loop {
        let mut tx = attempts.begin().await?;
        let recorded = record_dates(&mut tx, || now).await;
        if let Some(recorded) = attempts.finish(tx, recorded).await {
            return recorded.map(|_| ());
        }
    }
}
