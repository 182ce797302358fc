//! One keep-alive connection to one target and the results of its requests. Invariant: a request that may have
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

use super::request::PlannedRequest;
use super::{Outcome, RequestNumber};

/// Upper bound of recorded latencies.
const MAX_LATENCY_MICROS: u64 = 600_000_000;
/// A later response counts as none.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a restarting target.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);
/// Pause between two connection attempts.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

type Sender = SendRequest<Empty<Bytes>>;

pub(super) struct Worker {
    authority: String,
    run: String,
    bar: ProgressBar,
    connection: Option<Sender>,
    tally: ConnectionResults,
}

struct ReplayResponse {
    status: u16,
    click_id: Option<String>,
}

enum SendResult {
    Answered(ReplayResponse),
    Lost,
    Unsent,
}

impl Worker {
    pub(super) fn new(authority: String, run: String, bar: ProgressBar) -> Self {
        Self {
            authority,
            run,
            bar,
            connection: None,
            tally: ConnectionResults::new(),
        }
    }

    /// Sends the queued requests until the queue is closed and empty.
    pub(super) async fn run(
        mut self,
        queue: Arc<Mutex<mpsc::Receiver<PlannedRequest>>>,
    ) -> ConnectionResults {
        loop {
            let next = queue.lock().await.recv().await;
            let Some(planned) = next else {
                return self.tally;
            };
            // With a rate, waiting for a free connection is part of the latency.
            let since = planned.due.unwrap_or_else(Instant::now);
            let sent = self.send(&planned).await;
            self.tally.add(planned.number, sent, since.elapsed());
            self.bar.inc(1);
        }
    }

    async fn send(&mut self, planned: &PlannedRequest) -> SendResult {
        let Some(mut request) = planned.to_request(&self.run, &self.authority) else {
            return SendResult::Unsent;
        };
        let deadline = Instant::now() + CONNECT_DEADLINE;
        loop {
            let Some(sender) = self.connected(deadline).await else {
                return SendResult::Unsent;
            };
            match timeout(RESPONSE_TIMEOUT, exchange(sender, request)).await {
                Ok(Ok(response)) => return SendResult::Answered(response),
                // It was never written, so it can't be counted twice.
                Ok(Err(Some(unwritten))) => request = unwritten,
                Ok(Err(None)) | Err(_) => {
                    self.connection = None;
                    return SendResult::Lost;
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
            match timeout(RESPONSE_TIMEOUT, connect(&self.authority)).await {
                Ok(Ok(sender)) => self.connection = Some(sender),
                _ if Instant::now() >= deadline => return None,
                _ => sleep(CONNECT_RETRY_INTERVAL).await,
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

/// Sends a request and reads the complete response. The error contains the request if it was never written.
async fn exchange(
    sender: &mut Sender,
    request: Request<Empty<Bytes>>,
) -> Result<ReplayResponse, Option<Request<Empty<Bytes>>>> {
    if sender.ready().await.is_err() {
        return Err(Some(request));
    }
    let response = sender
        .try_send_request(request)
        .await
        .map_err(|mut e| e.take_message())?;
    let summary = ReplayResponse {
        status: response.status().as_u16(),
        click_id: click_id(&response),
    };
    response.into_body().collect().await.map_err(|_| None)?;
    Ok(summary)
}

/// The `cid` parameter of the redirect's URL.
fn click_id<B>(response: &Response<B>) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let query = location.split_once('?')?.1;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("cid="))
        .map(str::to_owned)
}

/// Results of one connection; they are merged into an [`Outcome`].
#[derive(Debug)]
pub(super) struct ConnectionResults {
    by_status: BTreeMap<u16, u64>,
    answered: Vec<RequestNumber>,
    unanswered: Vec<RequestNumber>,
    unsent: u64,
    click_ids: Vec<(RequestNumber, String)>,
    latency: Histogram<u64>,
}

impl ConnectionResults {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, 3)
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

    fn add(&mut self, number: RequestNumber, sent: SendResult, took: Duration) {
        match sent {
            SendResult::Answered(response) => {
                *self.by_status.entry(response.status).or_default() += 1;
                self.latency.saturating_record(took.as_micros() as u64);
                if (200..400).contains(&response.status) {
                    self.answered.push(number);
                }
                self.click_ids
                    .extend(response.click_id.map(|id| (number, id)));
            }
            SendResult::Lost => self.unanswered.push(number),
            SendResult::Unsent => self.unsent += 1,
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
    fn merge_keeps_long_latencies() {
        let (mut one, mut other) = (ConnectionResults::new(), ConnectionResults::new());
        one.latency.saturating_record(5_000);
        other.latency.saturating_record(3_000_000);
        one.merge(other).expect("same bounds");
        assert!(one.latency.equivalent(one.latency.min(), 5_000));
        assert!(one.latency.equivalent(one.latency.max(), 3_000_000));
    }
}
