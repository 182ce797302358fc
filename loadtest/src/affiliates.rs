//! The affiliates' tracker in the demo: receives postbacks, rejects some at the first attempt, verifies their
//! signatures, and counts the distinct ones.

use crate::function_files::{signature, write_secret};
use crate::links::SAMPLES;

use anyhow::{Context as _, bail, ensure};
use data_encoding::BASE64;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const KEY: &str = "demo key of the affiliates";
/// One postback of this many is rejected with 503 at its first attempt.
const BUSY_INTERVAL: usize = 10;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A server that runs until the demo ends.
#[derive(Debug)]
pub struct AffiliateTracker {
    address: SocketAddr,
    received: Arc<Mutex<ReceivedPostbacks>>,
}

#[derive(Debug, Default)]
struct ReceivedPostbacks {
    /// Number of accepted deliveries by postback id.
    accepted: BTreeMap<String, u64>,
    /// Ids of postbacks whose first attempt was rejected.
    busy: BTreeSet<String>,
    /// Requests with an invalid signature.
    invalid: Vec<String>,
}

/// Received postbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Distinct postbacks.
    pub postbacks: u64,
    /// Postbacks that were accepted only after a retry.
    pub retried: u64,
}

impl AffiliateTracker {
    /// Listens on a free port.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let address = listener.local_addr()?;
        let received: Arc<Mutex<ReceivedPostbacks>> = Arc::default();
        let shared = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || serve_connection(stream, &shared));
            }
        });
        Ok(Self { address, received })
    }

    /// Settings of an aggregator that sends postbacks of all sample campaigns here; the files they name are written
    /// to `dir`.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn settings(&self, dir: &Path) -> anyhow::Result<String> {
        let address = self.address;
        let target = "postback?click={click_id}&event={event}&status={status}&sum={payout}&cur={currency}\
                      &tx={transaction_id}&hour={sub1}";
        let campaigns: BTreeSet<&str> = SAMPLES.iter().map(|(_, campaign, ..)| *campaign).collect();
        let mut text = String::new();
        for campaign in campaigns {
            let _ = write!(
                text,
                "[[postback]]\ncampaign = {campaign:?}\nurl = \"http://{address}/{target}\"\nkey = \"{KEY}\"\n"
            );
        }
        let file = dir.join("postbacks.toml");
        write_secret(&file, &text)?;
        Ok(format!(
            "[outgoing]\npostbacks = {file:?}\nallowed_networks = [\"127.0.0.0/8\"]\ntimeout = \"2s\"\n\
             first_retry = \"200ms\"\n"
        ))
    }

    /// Waits until this many distinct postbacks were received.
    ///
    /// # Errors
    /// If fewer arrive within `within`, if more arrive, or if a request has an invalid signature.
    pub fn wait_for_postbacks(
        &self,
        postbacks: u64,
        within: Duration,
    ) -> anyhow::Result<DeliveryCounts> {
        let deadline = Instant::now() + within;
        loop {
            let received = self.received.lock();
            ensure!(
                received.invalid.is_empty(),
                "requests without a valid signature: {:?}",
                received.invalid
            );
            let wait_for_postbacks = received.accepted.len() as u64;
            let retried = received.busy.len() as u64;
            drop(received);
            if wait_for_postbacks == postbacks {
                return Ok(DeliveryCounts { postbacks, retried });
            }
            if wait_for_postbacks > postbacks || Instant::now() >= deadline {
                bail!("affiliates received {wait_for_postbacks} postbacks, expected {postbacks}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn serve_connection(stream: TcpStream, received: &Mutex<ReceivedPostbacks>) -> Option<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT)).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(request) = lines.next() {
        let request = request.ok()?;
        let target = request.split(' ').nth(1)?.to_owned();
        let mut headers = BTreeMap::new();
        for line in lines.by_ref() {
            let line = line.ok()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let status = received.lock().receive(&target, &headers);
        let response = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        writer.write_all(response.as_bytes()).ok()?;
    }
    Some(())
}

impl ReceivedPostbacks {
    fn receive(&mut self, target: &str, headers: &BTreeMap<String, String>) -> u16 {
        let header = |name: &str| headers.get(name).map_or("", String::as_str);
        let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
        let digest = signature(KEY, &format!("{id}.{time}.{target}"));
        if header("webhook-signature") != format!("v1,{}", BASE64.encode(&digest)) {
            self.invalid.push(target.to_owned());
            return 403;
        }
        let is_new = !self.accepted.contains_key(id) && !self.busy.contains(id);
        if is_new && (self.accepted.len() + self.busy.len()).is_multiple_of(BUSY_INTERVAL) {
            self.busy.insert(id.to_owned());
            return 503;
        }
        *self.accepted.entry(id.to_owned()).or_default() += 1;
        200
    }
}
