//! The affiliates' own tracker in the demo: takes postbacks, is busy for some the first time, checks who
//! signed them, and says how many different ones it was told.

use crate::links::SAMPLES;
use crate::sales;

use anyhow::{Context as _, bail, ensure};
use data_encoding::BASE64;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const KEY: &str = "demo key of the affiliates";
/// One postback of so many finds the tracker busy the first time it comes.
const BUSY_FOR: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// A tracker that listens until the demo ends.
#[derive(Debug)]
pub struct Tracker {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// How often each was taken, by its id.
    taken: BTreeMap<String, u64>,
    /// Those that found it busy.
    busy: BTreeSet<String>,
    /// Requests that the aggregator can't have made.
    wrong: Vec<String>,
}

/// What affiliates were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Different postbacks.
    pub postbacks: u64,
    /// Those that were taken only when they came again.
    pub retried: u64,
}

impl Tracker {
    /// Listens on a port of the system's choice.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let address = listener.local_addr()?;
        let told: Arc<Mutex<Told>> = Arc::default();
        let keeps = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keeps = keeps.clone();
                std::thread::spawn(move || converse(stream, &keeps));
            }
        });
        Ok(Self { address, told })
    }

    /// The aggregator's settings that have all sample campaigns told to it; what they name is written to
    /// `folder`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn settings(&self, folder: &Path) -> anyhow::Result<String> {
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
        let file = folder.join("postbacks.toml");
        sales::write_secret(&file, &text)?;
        Ok(format!(
            "[outgoing]\npostbacks = {file:?}\nallowed_networks = [\"127.0.0.0/8\"]\ntimeout = \"2s\"\n\
             first_retry = \"200ms\"\n"
        ))
    }

    /// Waits until it was told of so many different revisions.
    ///
    /// # Errors
    /// When it was told of fewer within `within`, of more, or by somebody else.
    pub fn heard(&self, postbacks: u64, within: Duration) -> anyhow::Result<Heard> {
        let deadline = Instant::now() + within;
        loop {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(told.wrong.is_empty(), "not signed by us: {:?}", told.wrong);
            let heard = told.taken.len() as u64;
            let retried = told.busy.len() as u64;
            drop(told);
            if heard == postbacks {
                return Ok(Heard { postbacks, retried });
            }
            if heard > postbacks || Instant::now() >= deadline {
                bail!("affiliates were told of {heard} revisions, there are {postbacks}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn converse(stream: TcpStream, told: &Mutex<Told>) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
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
        let status = told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .hear(&target, &headers);
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        writer.write_all(answer.as_bytes()).ok()?;
    }
    Some(())
}

impl Told {
    fn hear(&mut self, target: &str, headers: &BTreeMap<String, String>) -> u16 {
        let header = |name: &str| headers.get(name).map_or("", String::as_str);
        let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
        let signed = format!("{id}.{time}.{target}");
        if header("webhook-signature") != signature(&signed) {
            self.wrong.push(target.to_owned());
            return 403;
        }
        let is_new = !self.taken.contains_key(id) && !self.busy.contains(id);
        if is_new && (self.taken.len() + self.busy.len()).is_multiple_of(BUSY_FOR) {
            self.busy.insert(id.to_owned());
            return 503;
        }
        *self.taken.entry(id.to_owned()).or_default() += 1;
        200
    }
}

fn signature(text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes());
    let mac = mac
        .expect("HMAC takes keys of any length")
        .chain_update(text);
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}
