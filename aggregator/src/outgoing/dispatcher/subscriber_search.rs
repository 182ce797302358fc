//! The search for the click of each queued postback, which determines its receiver.

use super::super::subscriptions::Subscriptions;
use super::{DispatchError, FAILURE_PAUSE, PostbackDispatcher};
use crate::click::{ClickFacts, search_pause};
use crate::store::{AwaitingPostback, SubscriberSearch, within};
use domain::Micros;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Clicks looked up at once.
const MAX_CLICKS_PER_SEARCH: usize = 500;
/// A click that has not come by then will not come.
const CLICK_WAIT_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3_600);

impl PostbackDispatcher {
    /// Looks up clicks, unless that failed a moment ago: due postbacks are sent nevertheless. Returns whether more are
    /// to be looked up at once.
    pub(super) async fn search_unless_failing(&mut self) -> Result<bool, DispatchError> {
        if self
            .searches_failed
            .is_some_and(|at| at.elapsed() < FAILURE_PAUSE)
        {
            return Ok(false);
        }
        self.searches_failed = None;
        match self.search().await {
            Err(DispatchError::Clicks(error)) => {
                tracing::warn!(%error, retry_in = ?FAILURE_PAUSE, "failed to look up clicks of conversions");
                self.searches_failed = Some(Instant::now());
                Ok(false)
            }
            other => other,
        }
    }

    async fn search(&self) -> Result<bool, DispatchError> {
        let now = self.now();
        let awaiting = within(self.conversion_store.awaiting(now, MAX_CLICKS_PER_SEARCH)).await?;
        if awaiting.is_empty() {
            return Ok(false);
        }
        let is_more = awaiting.len() == MAX_CLICKS_PER_SEARCH;
        let ids: Vec<_> = awaiting.iter().map(|postback| postback.click).collect();
        let clicks = self.clicks.find(&ids).await?;
        let subscriptions = self.subscriptions.current();
        let search = |postback: AwaitingPostback| {
            let found = subscriber(&postback, &clicks, subscriptions, now);
            (postback.key, found)
        };
        let searches: Vec<_> = awaiting.into_iter().map(search).collect();
        within(self.conversion_store.store_searches(self.now(), &searches)).await?;
        Ok(is_more)
    }
}

fn subscriber(
    postback: &AwaitingPostback,
    clicks: &BTreeMap<String, ClickFacts>,
    subscriptions: &Subscriptions,
    now: Micros,
) -> SubscriberSearch {
    let waited = now.since(postback.since);
    match clicks.get(&postback.click.to_string()) {
        Some(ClickFacts {
            campaign,
            affiliate,
            ..
        }) if subscriptions.of(campaign, affiliate).is_none() => SubscriberSearch::Unwanted,
        Some(click) => SubscriberSearch::Found {
            receiver: format!("{}/{}", click.campaign, click.affiliate),
            click: serde_json::to_string(click).expect("texts become JSON"),
        },
        None if waited >= CLICK_WAIT_TIMEOUT => SubscriberSearch::GivenUp,
        None => SubscriberSearch::Later(now.saturating_add(search_pause(waited))),
    }
}
