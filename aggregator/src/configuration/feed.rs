//! Reads the catalog and publishes each version of it.

use super::Configuration;
use super::record::{change, resource};
use crate::phase::Phase;
use crate::store;
use catalog::{
    Catalog, CatalogError, LinkChanges, MAX_LINKS, Version, next_date, record_dates,
    resolved_links, resolved_links_changed, version,
};
use domain::Micros;
use edge_config::{Change, ConfigVersion, ResourceKey};
use sql_store::{Database, Isolation, Location, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use trusted_clock::TrustedClock;

/// How often the catalog's version is read: other processes change it, too.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The limit of one check; a connection may break without an error.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a failure is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The task that publishes the catalog.
pub(crate) struct ConfigFeed {
    location: Location,
    catalog: OnceCell<Catalog>,
    pub(crate) configuration: Configuration,
    clock: Arc<TrustedClock>,
}

impl ConfigFeed {
    /// The catalog is opened with the first check: the aggregator starts without its database.
    pub(crate) fn new(
        location: Location,
        configuration: Configuration,
        clock: Arc<TrustedClock>,
    ) -> Self {
        Self {
            location,
            catalog: OnceCell::new(),
            configuration,
            clock,
        }
    }

    /// Publishes until the aggregator stops. While the database is away, edges keep their version.
    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_failure: Option<std::time::Instant> = None;
        loop {
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                _ = checks.tick() => {}
            }
            let checked = match timeout(CHECK_TIMEOUT, self.check()).await {
                Ok(checked) => checked.map_err(|error| error.to_string()),
                Err(_) => Err("no response in time".to_owned()),
            };
            if let Err(error) = checked
                && last_failure.is_none_or(|at| at.elapsed() >= LOG_INTERVAL)
            {
                last_failure = Some(std::time::Instant::now());
                tracing::error!(%error, "failed to read the catalog; edges keep their version, and changes wait");
            }
        }
    }

    /// Publishes the changes since the last version, if there are any.
    async fn check(&self) -> Result<(), CatalogError> {
        let now = self.clock.read().trusted();
        let open = || store::open_catalog(&self.location, now.unwrap_or_default());
        let database = self.catalog.get_or_try_init(open).await?.database();
        if let Some(now) = now {
            record_past_dates(database, now).await?;
        }
        let mut tx = database.begin_snapshot().await?;
        match self.configuration.published() {
            Some(published) if version(&mut tx).await?.0 == published => Ok(()),
            Some(published) => self.publish_since(&mut tx, Version(published)).await,
            None => self.publish_all(&mut tx).await,
        }
    }

    async fn publish_since(
        &self,
        tx: &mut Transaction,
        since: Version,
    ) -> Result<(), CatalogError> {
        match resolved_links_changed(tx, since).await? {
            LinkChanges::Delta {
                version,
                changed,
                removed,
            } => {
                let removed = removed.iter().map(|id| Change {
                    key: ResourceKey::link(id.0),
                    content: None,
                });
                let changes = changed.iter().map(change).chain(removed);
                self.configuration.publish(version.0, changes.collect());
                Ok(())
            }
            LinkChanges::LoadAll { .. } => self.publish_all(tx).await,
        }
    }

    async fn publish_all(&self, tx: &mut Transaction) -> Result<(), CatalogError> {
        let version = version(tx).await?;
        let (mut resources, mut last) = (Vec::new(), None);
        loop {
            let links = resolved_links(tx, last, MAX_LINKS).await?;
            resources.extend(links.iter().map(resource));
            last = links.last().map(|link| link.id).or(last);
            if links.len() < MAX_LINKS {
                break;
            }
        }
        tracing::info!(
            version = version.0,
            links = resources.len(),
            "read the catalog"
        );
        self.configuration
            .replace(ConfigVersion::new(version.0, resources));
        Ok(())
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
        let recorded = record_dates(&mut tx, now).await;
        if let Some(recorded) = attempts.finish(tx, recorded).await {
            return recorded.map(|_| ());
        }
    }
}
