//! What happens beside the serving: files reloaded, filters saved, levels reported.

use crate::click_path::EdgeState;
use crate::functions::{Api, Functions, token};
use crate::metrics::Metrics;
use crate::server::backlog;
use crate::settings::LinksSettings;
use crate::shipper::Progress;
use crate::visitor::geo::Refreshed;
use crate::{links, secrets};
use daemon::files::FileVersion;
use event_journal::JournalStats;
use prometheus::IntGauge;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

const SAVE_FILTERS_EVERY: Duration = Duration::from_secs(60);
/// While the journal needs room, since it keeps what the saved filters do not know.
const SAVE_FILTERS_PRESSED_EVERY: Duration = Duration::from_secs(3);
const LOOK_AT_GEO_EVERY: Duration = Duration::from_secs(5);
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Everything that is looked after.
pub(super) struct Upkeep {
    pub(super) shared: Arc<EdgeState>,
    pub(super) metrics: Metrics,
    pub(super) progress: Arc<Progress>,
    pub(super) keeper: Arc<JournalStats>,
    pub(super) links: LinksSettings,
    pub(super) links_version: Option<FileVersion>,
    pub(super) secrets_file: PathBuf,
    pub(super) secrets_version: Option<FileVersion>,
    pub(super) api_token: Option<ApiToken>,
    pub(super) filters_dir: PathBuf,
}

/// The file of tokens of the internal API.
pub(super) struct ApiToken {
    pub(super) api: Api,
    pub(super) file: PathBuf,
    pub(super) version: Option<FileVersion>,
}

impl Upkeep {
    /// Looks after things until `stop` turns true, then saves the filters a last time.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.report();
        let mut save = every(SAVE_FILTERS_EVERY);
        let mut pressed = every(SAVE_FILTERS_PRESSED_EVERY);
        let mut geo = every(LOOK_AT_GEO_EVERY);
        let mut links = every(self.links.check_every.get().0);
        let mut report = every(REPORT_EVERY);
        while !*stop.borrow() {
            tokio::select! {
                _ = save.tick() => self.save_filters().await,
                _ = pressed.tick(), if self.keeper.is_nearly_full() => self.save_filters().await,
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

    /// A journal that needs room does not wait for filters that can't be saved: they may need that very
    /// room. Without it clicks are lost, without them a crash makes some visits count as unique again.
    async fn save_filters(&self) {
        let (shared, dir, progress) = (
            self.shared.clone(),
            self.filters_dir.clone(),
            self.progress.clone(),
        );
        let keeper = self.keeper.clone();
        let saved = spawn_blocking(move || {
            let marks = progress.sealed();
            let saved = shared.filters.save(&dir, &marks);
            let waits = saved.is_err() && !keeper.is_nearly_full();
            if !waits {
                progress.covered(&marks);
            }
            (saved, waits)
        });
        match saved.await {
            Ok((Ok(_), _)) => return,
            Ok((Err(error), true)) => {
                tracing::error!(%error, "the filters can't be saved; trying again within a minute, and the journal is kept meanwhile");
            }
            Ok((Err(error), false)) => {
                tracing::error!(%error, "the filters can't be saved, and the journal needs room and can't wait for them: were this process to crash now, visits would count as unique again");
            }
            Err(error) => tracing::error!(%error, "saving the filters failed"),
        }
        self.failed_saves().inc();
    }

    fn failed_saves(&self) -> IntGauge {
        let levels = &self.metrics.levels;
        levels.with_label_values(&["filter_failed_saves"])
    }

    async fn refresh_geo(&self) {
        let shared = self.shared.clone();
        match spawn_blocking(move || shared.geo.refresh()).await {
            Ok(Refreshed { loaded, refused }) => {
                self.count_reload("geo", "loaded", loaded as u64);
                self.count_reload("geo", "refused", refused as u64);
            }
            Err(error) => tracing::error!(%error, "reading the geo files failed"),
        }
    }

    /// Bad files are refused and the rules in use stay, until a file changes again.
    async fn refresh_agents(&self) {
        let shared = self.shared.clone();
        match spawn_blocking(move || shared.agents.refresh()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => {
                tracing::info!("agent rules reloaded");
                self.count_reload("agents", "loaded", 1);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the agent rules are refused; those in use stay");
                self.count_reload("agents", "refused", 1);
            }
            Err(error) => tracing::error!(%error, "reading the agent rules failed"),
        }
    }

    /// A bad file, or none, is refused and the links in use stay, until the file changes again.
    async fn reload_links(&mut self) {
        let version = FileVersion::of(&self.links.file);
        if version == self.links_version {
            return;
        }
        self.links_version = version;
        let (file, shared) = (self.links.file.clone(), self.shared.clone());
        let load = move || -> anyhow::Result<links::Loaded> {
            let loaded = links::load(&file)?;
            loaded.table.keeps_ids_of(&shared.links.load())?;
            if let Some(functions) = &shared.functions {
                functions.use_links(&loaded.table);
            }
            Ok(loaded)
        };
        match spawn_blocking(load).await {
            Ok(Ok(loaded)) => {
                tracing::info!(links = loaded.table.len(), "links reloaded");
                self.links_version = Some(loaded.version);
                self.shared.links.store(Arc::new(loaded.table));
                self.count_reload("links", "loaded", 1);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the links file is refused; the links in use stay");
                self.count_reload("links", "refused", 1);
            }
            Err(error) => tracing::error!(%error, "reading the links file failed"),
        }
    }

    /// Functions get the keys before anything is signed with them. A bad file changes nothing.
    async fn reload_secrets(&mut self) {
        let version = FileVersion::of(&self.secrets_file);
        if version.is_none() || version == self.secrets_version {
            return;
        }
        let (file, shared) = (self.secrets_file.clone(), self.shared.clone());
        let reload = move || -> anyhow::Result<Option<FileVersion>> {
            let secrets = secrets::load(&file)?;
            if let Some(functions) = &shared.functions {
                functions.offer_keys(&secrets)?;
            }
            shared.keys.store(Arc::new(secrets.click_ids));
            Ok(secrets.version)
        };
        match spawn_blocking(reload).await {
            Ok(Ok(loaded)) => {
                tracing::info!("click id keys reloaded");
                self.secrets_version = loaded;
                self.count_reload("secrets", "loaded", 1);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the secrets file is refused; the click id keys in use stay");
                self.secrets_version = version;
                self.count_reload("secrets", "refused", 1);
            }
            Err(error) => tracing::error!(%error, "reading the secrets file failed"),
        }
    }

    /// A bad file, or none, is refused and the tokens in use stay, until the file changes again.
    fn reload_api_token(&mut self) {
        let Some(ApiToken { api, file, version }) = &mut self.api_token else {
            return;
        };
        let now = FileVersion::of(file);
        if now == *version {
            return;
        }
        *version = now;
        let outcome = match token::load(file) {
            Ok(tokens) => {
                tracing::info!("tokens of the internal API reloaded");
                api.use_tokens(&tokens);
                "loaded"
            }
            Err(error) => {
                tracing::error!(%error, "the token file of the internal API is refused; the tokens in use stay");
                "refused"
            }
        };
        self.count_reload("internal_api_token", outcome, 1);
    }

    /// What is wrong is refused and what is in use stays, until the files change again.
    async fn reload_functions(&self) {
        if self.shared.functions.is_none() {
            return;
        }
        let shared = self.shared.clone();
        let reload = move || shared.functions.as_ref().map(Functions::reload);
        let Ok(Some(outcomes)) = spawn_blocking(reload).await else {
            return;
        };
        for (what, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    tracing::info!(what, "reloaded");
                    self.count_reload(what, "loaded", 1);
                }
                Err(error) => {
                    tracing::error!(what, %error, "refused; what is in use stays");
                    self.count_reload(what, "refused", 1);
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

    fn report(&self) {
        let EdgeState {
            links,
            agents,
            filters,
            ..
        } = &*self.shared;
        let filters = filters.stats();
        let entries = filters
            .generations
            .iter()
            .map(|generation| generation.entries)
            .sum();
        self.metrics.links.set(level(links.load().len() as u64));
        // Shown from the start.
        self.failed_saves();
        for (of, value) in [
            ("agent_cache_entries", agents.entries() as u64),
            ("agent_cache_misses", agents.misses()),
            ("filter_entries", entries),
            ("filter_bytes", filters.memory_bytes),
            (
                "filter_false_positives_per_billion",
                (filters.false_positive_rate * 1e9) as u64,
            ),
            ("listen_drops", backlog::listen_drops().unwrap_or_default()),
            ("journal_bytes", self.keeper.bytes()),
            ("journal_segments", self.keeper.segments()),
            ("journal_syncs", self.keeper.syncs()),
            ("journal_failed_syncs", self.keeper.failed_syncs()),
            ("journal_last_sync_micros", self.keeper.last_sync_micros()),
            (
                "journal_window_micros",
                self.keeper.unsynced_window_micros(),
            ),
        ] {
            self.metrics
                .levels
                .with_label_values(&[of])
                .set(level(value));
        }
    }
}

fn level(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
