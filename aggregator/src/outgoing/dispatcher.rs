//! The dispatcher of postbacks: it leases due ones from the queue, sends them, and stores the outcome of each attempt.

mod in_flight;
mod retry_policy;
mod subscriber_search;

pub(super) use retry_policy::RetryPolicy;

use super::OutgoingError;
use super::client::{Client, public_roots};
use super::message::PostbackRequest;
use super::metrics::DispatchMetrics;
use super::subscriptions::{Subscription, SubscriptionFile};
use crate::click::ClickFacts;
use crate::phase::Phase;
use crate::settings::{self, Settings};
use crate::sink::Clicks;
use crate::sink_error::SinkError;
use crate::store::{
    Attempt, AttemptOutcome, ConversionStore, ConversionStoreError, EndpointHealth, LeasedPostback,
    SteadyClock, within,
};
use domain::Micros;
use in_flight::InFlight;
use prometheus::Registry;
use retry_policy::finished;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use trusted_clock::TrustedClock;

/// The pause between two looks at the queue when nothing else happens.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts in flight at one receiver that does not fail.
const MAX_IN_FLIGHT_PER_ENDPOINT: usize = 8;
/// The time between the end of an attempt and the end of its lease.
const LEASE_GRACE: Duration = Duration::from_secs(10);
/// Postbacks that have ended are listed for this long.
const HISTORY_RETENTION: Duration = Duration::from_secs(30 * 24 * 3_600);
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(15);
/// The pause after a failure of the store or ClickHouse.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// The limit for attempts in flight when the aggregator stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// Sends postbacks of conversions to affiliates.
pub(crate) struct PostbackDispatcher {
    settings: settings::Outgoing,
    subscriptions: SubscriptionFile,
    clicks: Clicks,
    client: Client,
    conversion_store: Arc<ConversionStore>,
    clock: Arc<TrustedClock>,
    /// The clock of the queue; known once the store has responded.
    steady: Option<SteadyClock>,
    metrics: DispatchMetrics,
    in_flight: InFlight,
    last_housekeeping: Option<Instant>,
    searches_failed: Option<Instant>,
}

/// The store or ClickHouse failed; the queue is unchanged.
#[derive(Debug, Error)]
enum DispatchError {
    #[error("store: {0}")]
    Store(#[from] ConversionStoreError),
    #[error("failed to look up clicks: {0}")]
    Clicks(#[from] SinkError),
}

impl PostbackDispatcher {
    /// Reads the subscriptions; `None` if the settings have none.
    ///
    /// # Errors
    /// When the subscriptions or ClickHouse's credentials can't be read.
    pub(crate) fn new(
        settings: &Settings,
        conversion_store: Arc<ConversionStore>,
        clock: Arc<TrustedClock>,
        registry: &Registry,
    ) -> Result<Option<Self>, OutgoingError> {
        let Some(outgoing) = &settings.outgoing else {
            return Ok(None);
        };
        let timeout = outgoing.timeout.get().0;
        Ok(Some(Self {
            subscriptions: SubscriptionFile::read(&outgoing.postbacks)?,
            clicks: Clicks::of(&settings.clickhouse)?,
            client: Client::new(&outgoing.allowed_networks, public_roots(), timeout),
            metrics: DispatchMetrics::new(registry)?,
            settings: outgoing.clone(),
            conversion_store,
            clock,
            steady: None,
            in_flight: InFlight::default(),
            last_housekeeping: None,
            searches_failed: None,
        }))
    }

    /// Runs until the aggregator stops, and then waits for attempts in flight.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        loop {
            let done = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => break,
                done = self.turn() => done,
            };
            if let Err(error) = done {
                tracing::warn!(%error, retry_in = ?FAILURE_PAUSE, "failed to process the queue of postbacks");
                tokio::select! {
                    _ = phase.wait_for(|phase| *phase >= Phase::Draining) => break,
                    () = sleep(FAILURE_PAUSE) => {}
                }
            }
        }
        // An attempt that does not finish by then is repeated after the next start, when its lease has ended.
        let _ = timeout(SHUTDOWN_TIMEOUT, self.in_flight.all_finished()).await;
        if let Err(error) = self.store_outcomes().await {
            tracing::warn!(%error, "failed to store the outcomes of postbacks, they will be sent again");
        }
    }

    /// Does all work that is due, then waits for more.
    async fn turn(&mut self) -> Result<(), DispatchError> {
        if self.steady.is_none() {
            let wall = self.clock.read().estimate;
            self.steady = Some(within(self.conversion_store.steady_clock(wall)).await?);
        }
        self.store_outcomes().await?;
        self.reload_subscriptions();
        self.do_housekeeping().await?;
        self.send_due().await?;
        let is_more = self.search_unless_failing().await? || !self.in_flight.finished.is_empty();
        tokio::select! {
            biased;
            () = self.in_flight.one_finished() => {}
            () = std::future::ready(()), if is_more => {}
            () = self.conversion_store.queue_changed() => {}
            () = sleep(POLL_INTERVAL) => {}
        }
        Ok(())
    }

    /// The time of the queue.
    fn now(&self) -> Micros {
        let clock = self.steady.as_ref();
        clock.map_or_else(|| self.clock.read().estimate, SteadyClock::now)
    }

    /// Stores the outcomes of finished attempts.
    async fn store_outcomes(&mut self) -> Result<(), DispatchError> {
        self.in_flight.collect();
        let now = self.now();
        let finished = &mut self.in_flight.finished;
        if !finished.is_empty() {
            within(self.conversion_store.store_attempts(now, finished)).await?;
            finished.clear();
        }
        Ok(())
    }

    fn reload_subscriptions(&mut self) {
        match self.subscriptions.reload() {
            None => {}
            Some(Ok(())) => {
                let postbacks = self.subscriptions.current().len();
                tracing::info!(postbacks, "reloaded the subscriptions to postbacks");
            }
            Some(Err(error)) => {
                tracing::error!(%error, "failed to reload the subscriptions to postbacks, keeping the active ones");
            }
        }
    }

    /// Counts waiting postbacks, gives up those that were tried for too long, and deletes those that ended long ago.
    async fn do_housekeeping(&mut self) -> Result<(), DispatchError> {
        if self
            .last_housekeeping
            .is_some_and(|last| last.elapsed() < HOUSEKEEPING_INTERVAL)
        {
            return Ok(());
        }
        self.last_housekeeping = Some(Instant::now());
        for (state, count) in within(self.conversion_store.unfinished()).await? {
            self.metrics.waiting(&state, count);
        }
        let now = self.now();
        within(self.conversion_store.keep_steady(now)).await?;
        let tried_since = now.saturating_sub(self.settings.give_up_after.get().0);
        let given_up = within(self.conversion_store.give_up(now, tried_since)).await?;
        self.metrics.ended_many("given_up", given_up);
        let ended_before = now.saturating_sub(HISTORY_RETENTION);
        within(self.conversion_store.delete_ended(ended_before)).await?;
        Ok(())
    }

    /// Starts attempts at due postbacks, up to the limits.
    async fn send_due(&mut self) -> Result<(), DispatchError> {
        let free = self.settings.concurrency.get() - self.in_flight.count();
        if free == 0 {
            return Ok(());
        }
        let lease = self.settings.timeout.get().0 + LEASE_GRACE;
        let in_flight = &self.in_flight;
        // A failing receiver gets one attempt at a time until one succeeds.
        let capacity = |receiver: &str, failures: u32| {
            let limit = if failures > 0 {
                1
            } else {
                MAX_IN_FLIGHT_PER_ENDPOINT
            };
            limit.saturating_sub(in_flight.count_at(receiver))
        };
        let lease = self
            .conversion_store
            .lease_due(|| self.now(), lease, free, capacity);
        for postback in within(lease).await? {
            self.send(postback);
        }
        Ok(())
    }

    fn send(&mut self, postback: LeasedPostback) {
        let policy = RetryPolicy {
            first_retry: self.settings.first_retry.get().0,
            give_up_after: self.settings.give_up_after.get().0,
        };
        let click: ClickFacts = match serde_json::from_str(&postback.click) {
            Ok(click) => click,
            Err(error) => {
                let error = format!("the stored click can't be read: {error}");
                return self.finish_unsent(postback, AttemptOutcome::Refused, error);
            }
        };
        let subscriptions = self.subscriptions.current();
        let subscription = subscriptions.of(&click.campaign, &click.affiliate);
        let wants = |it: &&Subscription| it.wants(&postback.sale.kind, &postback.sale.status);
        let Some(subscription) = subscription.filter(wants) else {
            return self.finish_unsent(postback, AttemptOutcome::Unwanted, String::new());
        };
        let steady = self.steady;
        let signed_at = self.clock.read().estimate;
        match PostbackRequest::new(subscription, &postback, &click, signed_at) {
            Ok(message) => {
                let (client, metrics) = (self.client.clone(), self.metrics.clone());
                let receiver = postback.receiver.clone();
                self.in_flight.start(receiver, async move {
                    let started = Instant::now();
                    let response = client.send(&message).await;
                    metrics.seconds.observe(started.elapsed().as_secs_f64());
                    let now = steady.map_or_else(Micros::now, |clock| clock.now());
                    let attempt = policy.evaluate(postback, response, now);
                    metrics.ended(label(attempt.outcome));
                    attempt
                });
            }
            Err(error) => {
                self.finish_unsent(postback, AttemptOutcome::Refused, error.to_string());
            }
        }
    }

    fn finish_unsent(&mut self, postback: LeasedPostback, outcome: AttemptOutcome, error: String) {
        self.metrics.ended(label(outcome));
        self.in_flight.finished.push(Attempt {
            error,
            ..finished(postback, outcome, EndpointHealth::Unknown)
        });
    }
}

/// The outcome as a label of metrics.
const fn label(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Delivered => "delivered",
        AttemptOutcome::Refused => "refused",
        AttemptOutcome::GivenUp => "given_up",
        AttemptOutcome::Unwanted => "unwanted",
        AttemptOutcome::Retry(_) => "again",
    }
}
