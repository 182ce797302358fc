//! Takes postbacks from the queue, finds their clicks, sends them, and keeps what became of each.

use super::client::{Answer, Client, SendError, public_roots};
use super::message::PostbackRequest;
use super::metrics::DispatchMetrics;
use super::subscriptions::{Subscription, SubscriptionFile, Subscriptions};
use super::{OutgoingError, backoff};
use crate::click::ClickFacts;
use crate::phase::Phase;
use crate::settings::{self, Settings};
use crate::sink::Clicks;
use crate::sink_error::SinkError;
use crate::store::{
    Attempt, Awaiting, ConversionStore, ConversionStoreError, End, EndpointHealth, Key,
    LeasedPostback, Search, SteadyClock, within,
};
use domain::Micros;
use http::StatusCode;
use prometheus::Registry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trusted_clock::TrustedClock;

/// Looks at the queue when nothing else happens.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Clicks looked for at once.
const MAX_CLICKS_PER_SEARCH: usize = 500;
/// Attempts at one receiver under way at once, while all goes well.
const MAX_IN_FLIGHT_PER_ENDPOINT: usize = 8;
/// Between the end of an attempt and the end of its lease.
const LEASE_GRACE: Duration = Duration::from_secs(10);
/// A click that has not come by then will not come.
const CLICK_WAIT_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3_600);
/// What has ended is shown for so long.
const HISTORY_RETENTION: Duration = Duration::from_secs(30 * 24 * 3_600);
/// A receiver that fails is tried again after this long at the latest, to see when it is back.
const MAX_ENDPOINT_HOLD: Duration = Duration::from_secs(300);
/// Chores that may wait are done this often.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(15);
/// After a failure of ours.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Attempts under way may take this long when stopping.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(4);

/// Tells affiliates of their conversions.
pub(crate) struct PostbackDispatcher {
    settings: settings::Outgoing,
    subscriptions: SubscriptionFile,
    clicks: Clicks,
    client: Client,
    conversion_store: Arc<ConversionStore>,
    clock: Arc<TrustedClock>,
    /// By which all times of the queue are; known once the store has answered.
    steady: Option<SteadyClock>,
    metrics: DispatchMetrics,
    under_way: UnderWay,
    last_housekeeping: Option<Instant>,
    searches_failed: Option<Instant>,
}

/// Attempts under way, and those that have ended lately.
#[derive(Default)]
struct UnderWay {
    attempts: JoinSet<Attempt>,
    /// How many at each receiver.
    of: HashMap<String, usize>,
    /// Those that have ended, until that is kept.
    ended: Vec<Attempt>,
}

/// Our own part failed; the queue is as it was.
#[derive(Debug, Error)]
enum DispatchError {
    #[error("store: {0}")]
    Store(#[from] ConversionStoreError),
    #[error("clicks can't be looked for: {0}")]
    Clicks(#[from] SinkError),
}

impl PostbackDispatcher {
    /// Reads the subscriptions; none when `settings` has no subscriptions.
    ///
    /// # Errors
    /// When the subscriptions, or what ClickHouse wants to know of us, can't be read.
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
            under_way: UnderWay::default(),
            last_housekeeping: None,
            searches_failed: None,
        }))
    }

    /// Works until the aggregator stops, and lets attempts under way end then.
    pub(crate) async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        loop {
            let worked = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => break,
                worked = self.turn() => worked,
            };
            if let Err(trouble) = worked {
                tracing::warn!(%trouble, "affiliates can't be told of conversions now; trying again");
                tokio::select! {
                    _ = phase.wait_for(|phase| *phase >= Phase::Draining) => break,
                    () = sleep(FAILURE_PAUSE) => {}
                }
            }
        }
        // What does not end by then is sent again after the next start, when its lease has ended.
        let _ = timeout(SHUTDOWN_TIMEOUT, self.under_way.all_ended()).await;
        if let Err(trouble) = self.keep().await {
            tracing::warn!(%trouble, "what affiliates were told last is not kept; they will be told again");
        }
    }

    /// Whatever is to be done now, and then a wait for more.
    async fn turn(&mut self) -> Result<(), DispatchError> {
        if self.steady.is_none() {
            let wall = self.clock.read().estimate;
            self.steady = Some(within(self.conversion_store.steady_clock(wall)).await?);
        }
        self.keep().await?;
        self.look_at_subscriptions();
        self.do_housekeeping().await?;
        self.send_due().await?;
        let is_more = self.search_unless_in_vain().await? || !self.under_way.ended.is_empty();
        tokio::select! {
            biased;
            () = self.under_way.one_ended() => {}
            () = std::future::ready(()), if is_more => {}
            () = self.conversion_store.announced() => {}
            () = sleep(POLL_INTERVAL) => {}
        }
        Ok(())
    }

    /// The time of the queue.
    fn now(&self) -> Micros {
        let clock = self.steady.as_ref();
        clock.map_or_else(|| self.clock.read().estimate, SteadyClock::now)
    }

    /// Keeps what became of attempts that have ended.
    async fn keep(&mut self) -> Result<(), DispatchError> {
        self.under_way.collect();
        let now = self.now();
        let ended = &mut self.under_way.ended;
        if !ended.is_empty() {
            within(self.conversion_store.attempted(now, ended)).await?;
            ended.clear();
        }
        Ok(())
    }

    fn look_at_subscriptions(&mut self) {
        match self.subscriptions.reload() {
            None => {}
            Some(Ok(())) => {
                let postbacks = self.subscriptions.current().len();
                tracing::info!(postbacks, "affiliates' postbacks were read again");
            }
            Some(Err(error)) => {
                tracing::error!(%error, "affiliates' postbacks were changed and can't be used; those before stay");
            }
        }
    }

    /// Counts what waits, and forgets what ended long ago.
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
        let tried_long = earlier(now, self.settings.give_up_after.get().0);
        let given_up = within(self.conversion_store.give_up(now, tried_long)).await?;
        self.metrics.ended_many("given_up", given_up);
        within(
            self.conversion_store
                .forget(earlier(now, HISTORY_RETENTION)),
        )
        .await?;
        Ok(())
    }

    /// Begins attempts at postbacks that are due, as far as there is room.
    async fn send_due(&mut self) -> Result<(), DispatchError> {
        let free = self.settings.concurrency.get() - self.under_way.attempts.len();
        if free == 0 {
            return Ok(());
        }
        let lease = self.settings.timeout.get().0 + LEASE_GRACE;
        let under_way = &self.under_way;
        // One that fails is tried alone until it does not.
        let room = |receiver: &str, failures: u32| {
            let room = if failures > 0 {
                1
            } else {
                MAX_IN_FLIGHT_PER_ENDPOINT
            };
            room.saturating_sub(under_way.of(receiver))
        };
        let claim = self
            .conversion_store
            .claim(|| self.now(), lease, free, room);
        for postback in within(claim).await? {
            self.send(postback);
        }
        Ok(())
    }

    fn send(&mut self, postback: LeasedPostback) {
        let rules = Rules {
            first_retry: self.settings.first_retry.get().0,
            give_up_after: self.settings.give_up_after.get().0,
        };
        let click: ClickFacts = match serde_json::from_str(&postback.click) {
            Ok(click) => click,
            Err(error) => {
                let why = format!("what was kept of its click can't be read: {error}");
                return self.end_unsent(postback, End::Refused, why);
            }
        };
        let subscriptions = self.subscriptions.current();
        let subscription = subscriptions.of(&click.campaign, &click.affiliate);
        let wants = |it: &&Subscription| it.wants(&postback.sale.kind, &postback.sale.status);
        let Some(subscription) = subscription.filter(wants) else {
            return self.end_unsent(postback, End::Unwanted, String::new());
        };
        let steady = self.steady;
        let signed_at = self.clock.read().estimate;
        match PostbackRequest::new(subscription, &postback, &click, signed_at) {
            Ok(message) => {
                let (client, metrics) = (self.client.clone(), self.metrics.clone());
                let receiver = postback.receiver.clone();
                self.under_way.begin(receiver, async move {
                    let begun = Instant::now();
                    let answer = client.send(&message).await;
                    metrics.seconds.observe(begun.elapsed().as_secs_f64());
                    let now = steady.map_or_else(Micros::now, |clock| clock.now());
                    let attempt = rules.judge(postback, answer, now);
                    metrics.ended(word(attempt.end));
                    attempt
                });
            }
            Err(error) => self.end_unsent(postback, End::Refused, error.to_string()),
        }
    }

    fn end_unsent(&mut self, postback: LeasedPostback, end: End, why: String) {
        self.metrics.ended(word(end));
        let attempt = ended(postback, end, EndpointHealth::Unknown, 0, why);
        self.under_way.ended.push(attempt);
    }

    /// Looks for clicks, unless that failed a moment ago: what is due is sent all the same. Says whether more
    /// are to be looked for at once.
    async fn search_unless_in_vain(&mut self) -> Result<bool, DispatchError> {
        if self
            .searches_failed
            .is_some_and(|at| at.elapsed() < FAILURE_PAUSE)
        {
            return Ok(false);
        }
        self.searches_failed = None;
        match self.search().await {
            Err(DispatchError::Clicks(error)) => {
                tracing::warn!(%error, "clicks of conversions can't be looked for now; trying again");
                self.searches_failed = Some(Instant::now());
                Ok(false)
            }
            other => other,
        }
    }

    /// Looks for clicks of conversions that have none yet.
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
        let searches: Vec<(Key, Search)> = awaiting
            .into_iter()
            .map(|postback| {
                let search = found(&postback, &clicks, subscriptions, now);
                (postback.key, search)
            })
            .collect();
        within(self.conversion_store.searched(self.now(), &searches)).await?;
        Ok(is_more)
    }
}

fn found(
    postback: &Awaiting,
    clicks: &BTreeMap<String, ClickFacts>,
    subscriptions: &Subscriptions,
    now: Micros,
) -> Search {
    let waited = Duration::from_micros(now.0.saturating_sub(postback.since.0));
    match clicks.get(&postback.click.to_string()) {
        Some(ClickFacts {
            campaign,
            affiliate,
            ..
        }) if subscriptions.of(campaign, affiliate).is_none() => Search::Unwanted,
        Some(click) => Search::Found {
            receiver: format!("{}/{}", click.campaign, click.affiliate),
            click: serde_json::to_string(click).expect("texts become JSON"),
        },
        None if waited >= CLICK_WAIT_TIMEOUT => Search::GivenUp,
        None => Search::Later(later(now, backoff::next_search(waited))),
    }
}

impl UnderWay {
    fn of(&self, receiver: &str) -> usize {
        self.of.get(receiver).copied().unwrap_or(0)
    }

    fn begin(&mut self, receiver: String, attempt: impl Future<Output = Attempt> + Send + 'static) {
        *self.of.entry(receiver).or_default() += 1;
        self.attempts.spawn(attempt);
    }

    /// Returns when at least one has ended; never while none is under way.
    async fn one_ended(&mut self) {
        match self.attempts.join_next().await {
            Some(attempt) => self.end(attempt.expect("an attempt does not panic")),
            None => std::future::pending().await,
        }
        self.collect();
    }

    /// Takes in those that have ended.
    fn collect(&mut self) {
        while let Some(attempt) = self.attempts.try_join_next() {
            self.end(attempt.expect("an attempt does not panic"));
        }
    }

    async fn all_ended(&mut self) {
        while !self.attempts.is_empty() {
            self.one_ended().await;
        }
    }

    fn end(&mut self, attempt: Attempt) {
        if let Some(count) = self.of.get_mut(&attempt.receiver) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&attempt.receiver);
            }
        }
        self.ended.push(attempt);
    }
}

/// What follows from an answer, or from none.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) first_retry: Duration,
    pub(super) give_up_after: Duration,
}

impl Rules {
    pub(super) fn judge(
        self,
        postback: LeasedPostback,
        answer: Result<Answer, SendError>,
        now: Micros,
    ) -> Attempt {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.again(postback, now, 0, None, error.to_string()),
        };
        let status = answer.status;
        let said = status.as_u16();
        if status.is_success() {
            return ended(
                postback,
                End::Delivered,
                EndpointHealth::Healthy,
                said,
                String::new(),
            );
        }
        let may_change = [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        if status.is_server_error() || may_change.contains(&status) {
            return self.again(postback, now, said, answer.retry_after, String::new());
        }
        let error = if status.is_redirection() {
            "one redirect within the same registrable domain is followed: name the address where this one leads"
        } else {
            ""
        };
        ended(
            postback,
            End::Refused,
            EndpointHealth::Healthy,
            said,
            error.to_owned(),
        )
    }

    /// To be sent again, unless it has been tried for long enough.
    fn again(
        self,
        postback: LeasedPostback,
        now: Micros,
        status: u16,
        wish: Option<Duration>,
        error: String,
    ) -> Attempt {
        let tried = Duration::from_micros(now.0.saturating_sub(postback.since.0));
        let wish = wish.unwrap_or_default();
        let pause = backoff::pause(
            self.first_retry,
            postback.attempts,
            &postback.key.name(postback.epoch),
        );
        let end = if tried >= self.give_up_after {
            End::GivenUp
        } else {
            End::Again(later(now, pause.max(wish)))
        };
        let failures = postback.failures.saturating_add(1);
        let held = backoff::pause(self.first_retry, failures, &postback.receiver);
        let held_until = later(now, held.min(MAX_ENDPOINT_HOLD).max(wish));
        ended(
            postback,
            end,
            EndpointHealth::Failing { held_until },
            status,
            error,
        )
    }
}

fn ended(
    postback: LeasedPostback,
    end: End,
    endpoint_health: EndpointHealth,
    status: u16,
    error: String,
) -> Attempt {
    let LeasedPostback {
        key,
        receiver,
        attempts,
        failures,
        ..
    } = postback;
    Attempt {
        key,
        receiver,
        end,
        status,
        error,
        attempts,
        failures,
        endpoint_health,
    }
}

const fn word(end: End) -> &'static str {
    match end {
        End::Delivered => "delivered",
        End::Refused => "refused",
        End::GivenUp => "given_up",
        End::Unwanted => "unwanted",
        End::Again(_) => "again",
    }
}

fn later(now: Micros, by: Duration) -> Micros {
    Micros(now.0.saturating_add(micros(by)))
}

fn earlier(now: Micros, by: Duration) -> Micros {
    Micros(now.0.saturating_sub(micros(by)))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
