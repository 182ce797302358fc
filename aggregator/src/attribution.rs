//! Looks up the clicks of conversions, so that ClickHouse keeps their link, offer, campaign and affiliate for longer
//! than the clicks themselves.

use crate::click::search_pause;
use crate::metrics::Maker;
use crate::phase::Phase;
use crate::settings;
use crate::sink::Clicks;
use crate::sink_error::SinkError;
use crate::store::{AwaitedClick, ClickSearch, ConversionStore, ConversionStoreError, within};
use domain::Micros;
use prometheus::{IntCounterVec, Registry};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{OnceCell, watch};
use tokio::time::sleep;
use tracking_events::ClickId;

/// The pause between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failed search.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
const MAX_CLICKS_AT_ONCE: usize = 500;
/// Clicks that arrive later than this are not searched: no spool of an edge lasts longer.
const MAX_WAIT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Attributes conversions to campaigns until the aggregator stops.
pub(crate) struct Attributor {
    clickhouse: settings::ClickHouseSettings,
    clicks: OnceCell<Clicks>,
    conversion_store: Arc<ConversionStore>,
    searches: IntCounterVec,
}

/// The error of one search. Its clicks are searched again.
#[derive(Debug, Error)]
enum AttributionError {
    #[error("store: {0}")]
    Store(#[from] ConversionStoreError),
    #[error("failed to look up clicks: {0}")]
    Clicks(#[from] SinkError),
}

impl Attributor {
    /// # Errors
    /// When its metrics can't be registered.
    pub(crate) fn new(
        clickhouse: settings::ClickHouseSettings,
        conversion_store: Arc<ConversionStore>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let searches = Maker(registry).counters_of(
            "aggregator_attributions_total",
            "Look-ups of clicks of conversions, by outcome.",
            "outcome",
            ["attributed", "not_found", "given_up"],
        )?;
        Ok(Self {
            clickhouse,
            clicks: OnceCell::new(),
            conversion_store,
            searches,
        })
    }

    pub(crate) async fn run(self, mut phase: watch::Receiver<Phase>) {
        loop {
            let pause = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                pause = self.turn() => pause,
            };
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Searches once, and returns the pause until the next search.
    async fn turn(&self) -> Duration {
        match self.search().await {
            Ok(MAX_CLICKS_AT_ONCE) => Duration::ZERO,
            Ok(_) => SEARCH_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, retry_in = ?RETRY_INTERVAL, "failed to attribute conversions to campaigns");
                RETRY_INTERVAL
            }
        }
    }

    /// Returns the number of clicks that were looked up.
    async fn search(&self) -> Result<usize, AttributionError> {
        let awaited = within(
            self.conversion_store
                .awaited_clicks(Micros::now(), MAX_CLICKS_AT_ONCE),
        )
        .await?;
        if awaited.is_empty() {
            return Ok(0);
        }
        let ids: Vec<ClickId> = awaited.iter().map(|click| click.id).collect();
        let clicks = self
            .clicks
            .get_or_try_init(async || Clicks::of(&self.clickhouse));
        let attributed = clicks.await?.attribute(&ids).await?;
        let now = Micros::now();
        let searches: Vec<_> = awaited
            .iter()
            .map(|click| (click.id, outcome(click, &attributed, now)))
            .collect();
        within(self.conversion_store.store_click_searches(now, &searches)).await?;
        for (_, search) in &searches {
            self.searches.with_label_values(&[word(*search)]).inc();
        }
        Ok(searches.len())
    }
}

fn outcome(click: &AwaitedClick, attributed: &BTreeSet<String>, now: Micros) -> ClickSearch {
    let waited = Duration::from_micros(now.0.saturating_sub(click.since.0));
    if attributed.contains(&click.id.to_string()) {
        ClickSearch::Attributed
    } else if waited >= MAX_WAIT {
        ClickSearch::GivenUp
    } else {
        ClickSearch::Later(now.saturating_add(search_pause(waited)))
    }
}

const fn word(search: ClickSearch) -> &'static str {
    match search {
        ClickSearch::Attributed => "attributed",
        ClickSearch::Later(_) => "not_found",
        ClickSearch::GivenUp => "given_up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    #[test]
    fn missing_click_is_given_up_after_the_maximal_wait() {
        let id = ClickId::parse(&[b'-'; 36]).expect("valid click id");
        let since = Micros(1_750_000_000_000_000);
        let click = AwaitedClick { id, since };
        let after = |days: u64| Micros(since.0 + days * 24 * 3_600 * 1_000_000);
        let none = BTreeSet::new();
        assert_eq!(
            outcome(&click, &none, since),
            ClickSearch::Later(Micros(since.0 + 1_000_000))
        );
        let hourly = Micros(after(29).0 + 3_600 * 1_000_000);
        assert_eq!(
            outcome(&click, &none, after(29)),
            ClickSearch::Later(hourly)
        );
        assert_eq!(outcome(&click, &none, after(30)), ClickSearch::GivenUp);
        let found = iter::once(id.to_string()).collect();
        assert_eq!(outcome(&click, &found, after(30)), ClickSearch::Attributed);
    }
}
