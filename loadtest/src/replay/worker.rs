//! One keep-alive connection to one target, and the tally of what it met. A request that may have
//! reached the target is never sent twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::LOCATION;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{sleep, timeout};

use super::request::Planned;
use super::{Number, Outcome};

/// Longer latencies are counted as this long.
const LONGEST_MICROS: u64 = 600_000_000;
/// An answer that takes longer counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a restarting target is waited for.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

type Sender = SendRequest<Empty<Bytes>>;

pub(super) struct Worker {
    authority: String,
    run: String,
    bar: ProgressBar,
    connection: Option<Sender>,
    tally: Tally,
}

struct Answer {
    status: u16,
    click_id: Option<String>,
}

enum Sent {
    Answered(Answer),
    Lost,
    Impossible,
}

impl Worker {
    pub(super) fn new(authority: String, run: String, bar: ProgressBar) -> Self {
        Self {
            authority,
            run,
            bar,
            connection: None,
            tally: Tally::new(),
        }
    }

    /// Sends what the queue holds until it is closed and empty.
    pub(super) async fn run(mut self, queue: Arc<Mutex<mpsc::Receiver<Planned>>>) -> Tally {
        loop {
            let next = queue.lock().await.recv().await;
            let Some(planned) = next else {
                return self.tally;
            };
            // With a rate, time spent waiting for a free connection is latency too.
            let since = planned.due.unwrap_or_else(Instant::now);
            let sent = self.send(&planned).await;
            self.tally.add(planned.number, sent, since.elapsed());
            self.bar.inc(1);
        }
    }

    async fn send(&mut self, planned: &Planned) -> Sent {
        let Some(mut request) = planned.to_request(&self.run, &self.authority) else {
            return Sent::Impossible;
        };
        let deadline = Instant::now() + CONNECT_DEADLINE;
        loop {
            let Some(sender) = self.connected(deadline).await else {
                return Sent::Impossible;
            };
            match timeout(ANSWER_TIMEOUT, exchange(sender, request)).await {
                Ok(Ok(answer)) => return Sent::Answered(answer),
                // Never written, so it cannot be counted twice.
                Ok(Err(Some(unwritten))) => request = unwritten,
                Ok(Err(None)) | Err(_) => {
                    self.connection = None;
                    return Sent::Lost;
                }
            }
            self.connection = None;
        }
    }

    async fn connected(&mut self, deadline: Instant) -> Option<&mut Sender> {
        if self.connection.as_ref().is_some_and(|c| c.is_closed()) {
            self.connection = None;
        }
        while self.connection.is_none() {
            match timeout(ANSWER_TIMEOUT, connect(&self.authority)).await {
                Ok(Ok(sender)) => self.connection = Some(sender),
                _ if Instant::now() >= deadline => return None,
                _ => sleep(CONNECT_PAUSE).await,
            }
        }
        self.connection.as_mut()
    }
}

async fn connect(authority: &str) -> anyhow::Result<Sender> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request and its whole answer. The error holds the request when it was never written.
async fn exchange(
    sender: &mut Sender,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Option<Request<Empty<Bytes>>>> {
    if sender.ready().await.is_err() {
        return Err(Some(request));
    }
    let response = sender
        .try_send_request(request)
        .await
        .map_err(|mut e| e.take_message())?;
    let answer = Answer {
        status: response.status().as_u16(),
        click_id: click_id(&response),
    };
    response.into_body().collect().await.map_err(|_| None)?;
    Ok(answer)
}

/// The `cid` parameter of the redirect's address.
fn click_id<B>(response: &Response<B>) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let query = location.split_once('?')?.1;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("cid="))
        .map(str::to_owned)
}

/// What one connection met; tallies add up to an [`Outcome`].
#[derive(Debug)]
pub(super) struct Tally {
    by_status: BTreeMap<u16, u64>,
    answered: Vec<Number>,
    unanswered: Vec<Number>,
    unsent: u64,
    click_ids: Vec<(Number, String)>,
    latency: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LONGEST_MICROS, 3)
            .expect("the bounds are in order and three significant digits are allowed");
        Self {
            by_status: BTreeMap::new(),
            answered: Vec::new(),
            unanswered: Vec::new(),
            unsent: 0,
            click_ids: Vec::new(),
            latency,
        }
    }

    fn add(&mut self, number: Number, sent: Sent, took: Duration) {
        match sent {
            Sent::Answered(answer) => {
                *self.by_status.entry(answer.status).or_default() += 1;
                self.latency.saturating_record(took.as_micros() as u64);
                if (200..400).contains(&answer.status) {
                    self.answered.push(number);
                }
                self.click_ids
                    .extend(answer.click_id.map(|id| (number, id)));
            }
            Sent::Lost => self.unanswered.push(number),
            Sent::Impossible => self.unsent += 1,
        }
    }

    pub(super) fn merge(&mut self, other: Self) -> anyhow::Result<()> {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.answered.extend(other.answered);
        self.unanswered.extend(other.unanswered);
        self.unsent += other.unsent;
        self.click_ids.extend(other.click_ids);
        self.latency
            .add(&other.latency)
            .context("latencies do not add up")
    }

    pub(super) fn into_outcome(
        mut self,
        run: String,
        unreadable: u64,
        elapsed: Duration,
    ) -> Outcome {
        self.answered.sort_unstable();
        self.unanswered.sort_unstable();
        self.click_ids.sort_unstable();
        Outcome {
            run,
            sent: self.by_status.values().sum::<u64>() + self.unanswered.len() as u64,
            unreadable,
            by_status: self.by_status,
            answered: self.answered,
            unanswered: self.unanswered,
            unsent: self.unsent,
            click_ids: self.click_ids,
            latency: self.latency,
            elapsed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_latencies_are_kept_and_merged() {
        let (mut one, mut other) = (Tally::new(), Tally::new());
        one.latency.saturating_record(5_000);
        other.latency.saturating_record(3_000_000);
        one.merge(other).expect("alike");
        assert!(one.latency.equivalent(one.latency.min(), 5_000));
        assert!(one.latency.equivalent(one.latency.max(), 3_000_000));
    }
}
