//! Background work of a node: reloads files, saves filters, reports metrics.

use crate::click_path::EdgeState;
use crate::functions::{Api, Functions, token};
use crate::metrics::{Metrics, raise_to};
use crate::server::backlog;
use crate::settings::LinksSettings;
use crate::shipper::ShippingProgress;
use crate::visitor::geo::RefreshResult;
use crate::{links, secrets};
use daemon::files::WatchedFiles;
use event_journal::JournalStats;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

const SAVE_FILTERS_INTERVAL: Duration = Duration::from_secs(60);
/// Used while the journal needs room, because it keeps events that the saved filters lack.
const URGENT_SAVE_FILTERS_INTERVAL: Duration = Duration::from_secs(3);
const CHECK_GEO_INTERVAL: Duration = Duration::from_secs(5);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The task of a node's background work.
pub(super) struct MaintenanceTask {
    pub(super) shared: Arc<EdgeState>,
    pub(super) metrics: Metrics,
    pub(super) progress: Arc<ShippingProgress>,
    pub(super) journal: Arc<JournalStats>,
    pub(super) links: LinksSettings,
    pub(super) links_watch: WatchedFiles,
    pub(super) secrets_file: PathBuf,
    pub(super) secrets_watch: WatchedFiles,
    pub(super) api_token: Option<ApiToken>,
    pub(super) filters_dir: PathBuf,
    pub(super) unsynced: UnsyncedAge,
}

/// The age of the oldest event that may not be durable, and when it was measured.
pub(super) struct UnsyncedAge {
    measured: Instant,
    age: Duration,
}

impl Default for UnsyncedAge {
    fn default() -> Self {
        Self {
            measured: Instant::now(),
            age: Duration::ZERO,
        }
    }
}

impl UnsyncedAge {
    /// Measures the age; it grows with time once a sync failed, since nothing becomes durable any more.
    fn update(&mut self, window_micros: u64, now: Instant) -> Duration {
        self.age = match window_micros {
            u64::MAX => self.age + now.saturating_duration_since(self.measured),
            micros => Duration::from_micros(micros),
        };
        self.measured = now;
        self.age
    }
}

/// The token file of the internal API.
pub(super) struct ApiToken {
    pub(super) api: Api,
    pub(super) file: PathBuf,
    pub(super) watch: WatchedFiles,
}

impl MaintenanceTask {
    /// Works until `stop` turns true, then saves the filters a last time.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.report();
        let mut save = ticks(SAVE_FILTERS_INTERVAL);
        let mut urgent = ticks(URGENT_SAVE_FILTERS_INTERVAL);
        let mut geo = ticks(CHECK_GEO_INTERVAL);
        let mut links = ticks(self.links.check_every.get().0);
        let mut report = ticks(REPORT_INTERVAL);
        while !*stop.borrow() {
            tokio::select! {
                _ = save.tick() => self.save_filters().await,
                _ = urgent.tick(), if self.journal.is_nearly_full() => self.save_filters().await,
                _ = geo.tick() => self.refresh_geo().await,
                _ = links.tick() => {
                    self.reload_links().await;
                    self.reload_functions().await;
                    self.refresh_agents().await;
                }
                _ = report.tick() => {
                    self.reload_secrets().await;
                    self.reload_api_token();
                    self.report();
                }
                _ = stop.changed() => {}
            }
        }
        self.save_filters().await;
    }

    /// A journal that needs room does not wait for filters that can't be saved: they may need the same room. Without
    /// room clicks are lost; without saved filters a crash makes some visits count as unique again.
    async fn save_filters(&self) {
        let (shared, dir, progress) = (
            self.shared.clone(),
            self.filters_dir.clone(),
            self.progress.clone(),
        );
        let journal = self.journal.clone();
        let saved = spawn_blocking(move || {
            let marks = progress.sealed();
            let saved = shared.filters.save(&dir, &marks);
            let waits = saved.is_err() && !journal.is_nearly_full();
            if !waits {
                progress.covered(&marks);
            }
            (saved, waits)
        });
        match saved.await {
            Ok((Ok(_), _)) => return,
            Ok((Err(error), true)) => {
                tracing::error!(%error, "failed to save the filters, retrying within a minute; the journal is kept until then");
            }
            Ok((Err(error), false)) => {
                tracing::error!(%error, "failed to save the filters, and the journal needs room; after a crash visits count as unique again");
            }
            Err(error) => tracing::error!(%error, "failed to save the filters"),
        }
        self.metrics.background.filter_save_failures.inc();
    }

    async fn refresh_geo(&self) {
        let shared = self.shared.clone();
        match spawn_blocking(move || shared.geo.refresh()).await {
            Ok(RefreshResult { loaded, refused }) => {
                self.count_reload("geo", "loaded", loaded as u64);
                self.count_reload("geo", "refused", refused as u64);
            }
            Err(error) => tracing::error!(%error, "failed to read the geo files"),
        }
    }

    /// Invalid files are rejected and the active rules are kept, until a file changes again.
    async fn refresh_agents(&self) {
        let shared = self.shared.clone();
        match spawn_blocking(move || shared.agents.refresh()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::info!("agent rules reloaded");
                self.count_reload("agents", "loaded", 1);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "rejected the agent rules, keeping the active ones");
                self.count_reload("agents", "refused", 1);
            }
            Err(error) => tracing::error!(%error, "failed to read the agent rules"),
        }
    }

    /// An invalid or missing file is rejected and the active links are kept, until the file changes again.
    async fn reload_links(&mut self) {
        let Some(file) = self.links.file.clone() else {
            return;
        };
        if !self.links_watch.changed() {
            return;
        }
        let shared = self.shared.clone();
        let load = move || -> anyhow::Result<links::Table> {
            let table = links::load(&file)?;
            table.keeps_ids_of(&shared.links.load())?;
            if let Some(functions) = &shared.functions {
                functions.use_links(table.clone());
            }
            Ok(table)
        };
        match spawn_blocking(load).await {
            Ok(Ok(table)) => {
                tracing::info!(links = table.len(), "links reloaded");
                self.shared.links.store(table);
                self.count_reload("links", "loaded", 1);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "rejected the links file, keeping the active links");
                self.count_reload("links", "refused", 1);
            }
            Err(error) => tracing::error!(%error, "failed to read the links file"),
        }
    }

    /// Functions get the keys before anything is signed with them. An invalid file changes nothing.
    async fn reload_secrets(&mut self) {
        if !self.secrets_watch.changed() || !self.secrets_file.exists() {
            return;
        }
        let (file, shared) = (self.secrets_file.clone(), self.shared.clone());
        let reload = move || -> anyhow::Result<()> {
            let secrets = secrets::load(&file)?;
            if let Some(functions) = &shared.functions {
                functions.offer_keys(&secrets)?;
            }
            shared.keys.store(Arc::new(secrets.click_ids));
            Ok(())
        };
        match spawn_blocking(reload).await {
            Ok(Ok(())) => {
                tracing::info!("click id keys reloaded");
                self.count_reload("secrets", "loaded", 1);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "rejected the secrets file, keeping the active click id keys");
                self.count_reload("secrets", "refused", 1);
            }
            Err(error) => tracing::error!(%error, "failed to read the secrets file"),
        }
    }

    /// An invalid or missing file is rejected and the active tokens are kept, until the file changes again.
    fn reload_api_token(&mut self) {
        let Some(ApiToken { api, file, watch }) = &mut self.api_token else {
            return;
        };
        if !watch.changed() {
            return;
        }
        let outcome = match token::load(file) {
            Ok(tokens) => {
                tracing::info!("tokens of the internal API reloaded");
                api.use_tokens(&tokens);
                "loaded"
            }
            Err(error) => {
                tracing::error!(%error, "rejected the token file of the internal API, keeping the active tokens");
                "refused"
            }
        };
        self.count_reload("internal_api_token", outcome, 1);
    }

    /// Invalid files are rejected and the active versions are kept, until the files change again.
    async fn reload_functions(&self) {
        if self.shared.functions.is_none() {
            return;
        }
        let shared = self.shared.clone();
        let reload = move || shared.functions.as_ref().map(Functions::reload);
        let Ok(Some(outcomes)) = spawn_blocking(reload).await else {
            return;
        };
        for (file, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    tracing::info!(file, "reloaded");
                    self.count_reload(file, "loaded", 1);
                }
                Err(error) => {
                    tracing::error!(file, %error, "rejected the file, keeping the active version");
                    self.count_reload(file, "refused", 1);
                }
            }
        }
    }

    fn count_reload(&self, file: &str, outcome: &str, count: u64) {
        self.metrics
            .reloads
            .with_label_values(&[file, outcome])
            .inc_by(count);
    }

    fn report(&mut self) {
        let EdgeState {
            links,
            agents,
            filters,
            ..
        } = &*self.shared;
        let filters = filters.stats();
        let entries = filters.generations.iter().map(|it| it.entries).sum();
        self.metrics.links.set(as_i64(links.load().len() as u64));
        let (metrics, journal) = (&self.metrics.background, &*self.journal);
        metrics
            .agent_cache_entries
            .set(as_i64(agents.entries() as u64));
        raise_to(&metrics.agent_cache_misses, agents.misses());
        metrics.filter_entries.set(as_i64(entries));
        metrics.filter_bytes.set(as_i64(filters.memory_bytes));
        metrics
            .filter_false_positive_ratio
            .set(filters.false_positive_rate);
        let listen_drops = backlog::listen_drops().unwrap_or_default();
        raise_to(&metrics.listen_drops, listen_drops);
        metrics.journal_bytes.set(as_i64(journal.bytes()));
        metrics.journal_max_bytes.set(as_i64(journal.max_bytes()));
        metrics.journal_segments.set(as_i64(journal.segments()));
        raise_to(&metrics.journal_syncs, journal.syncs());
        raise_to(&metrics.journal_sync_failures, journal.failed_syncs());
        metrics.set_last_sync(Duration::from_micros(journal.last_sync_micros()));
        let window = journal.unsynced_window_micros();
        metrics.set_unsynced(self.unsynced.update(window, Instant::now()));
    }
}

fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_age_grows_after_a_failed_sync() {
        let mut unsynced = UnsyncedAge::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(unsynced.update(5_000, at(0)), Duration::from_millis(5));
        assert_eq!(
            unsynced.update(u64::MAX, at(2)),
            Duration::from_millis(2_005)
        );
        assert_eq!(
            unsynced.update(u64::MAX, at(3)),
            Duration::from_millis(3_005)
        );
    }
}
