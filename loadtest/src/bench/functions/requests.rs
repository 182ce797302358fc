//! Requests for functions: one request repeated, or postbacks of an advertiser's server, each with its own click
//! and transaction.

use super::super::requests::RequestSource;
use anyhow::Context as _;
use data_encoding::HEXLOWER;
use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use std::io::Write as _;
use tracking_events::{ClickIdParts, KeyId, KeyRing, MacKey};

/// The advertiser that sends postbacks.
pub(crate) const ADVERTISER: &str = "acme";
const TOKEN: &str = "a secret of the benchmark advertiser";
/// Bytes of the click id key.
const KEY_BYTES: [u8; 32] = [0x42; 32];
const KEY_ID: u8 = 1;
/// Age of clicks in microseconds, as long as a visitor takes to buy.
const CLICK_AGE_MICROS: u64 = 1_800_000_000;

/// A request that is repeated.
#[derive(Debug)]
pub(super) struct RepeatedRequest(Vec<u8>);

impl RepeatedRequest {
    /// A `GET` of `target`.
    pub(super) fn get(target: &str) -> Self {
        let text = format!(
            "GET {target} HTTP/1.1\r\nHost: go.fanz.example\r\nAccept: */*\r\n\
             User-Agent: an-advertiser/1.0\r\n\r\n"
        );
        Self(text.into_bytes())
    }
}

impl RequestSource for RepeatedRequest {
    fn next_request(&mut self) -> &[u8] {
        &self.0
    }
}

/// Sales of one advertiser in the generic dialect.
#[derive(Debug)]
pub(super) struct Postbacks {
    keys: KeyRing,
    number: u64,
    bytes: Vec<u8>,
}

impl Postbacks {
    /// Postbacks with transactions numbered from 1, so once per server.
    pub(super) fn new() -> anyhow::Result<Self> {
        let id = KeyId::new(KEY_ID)?;
        Ok(Self {
            keys: KeyRing::new(id, [(id, MacKey::new(KEY_BYTES))])?,
            number: 0,
            bytes: Vec::with_capacity(512),
        })
    }
}

impl RequestSource for Postbacks {
    fn next_request(&mut self) -> &[u8] {
        self.number += 1;
        let click = self.keys.sign(ClickIdParts {
            time: Micros(Micros::now().0.saturating_sub(CLICK_AGE_MICROS)),
            node: NodeId(1),
            lane: LaneId(0),
            seq: Seq(self.number),
            link: LinkId(1),
        });
        let number = self.number;
        let cents = number % 100;
        self.bytes.clear();
        write!(
            self.bytes,
            "GET /postback/{ADVERTISER}?click_id={click}&transaction_id=bench-{number}&payout=19.{cents:02}\
             &currency=USD&status=approved&event=sale&token={} HTTP/1.1\r\nHost: go.fanz.example\r\n\
             User-Agent: an-advertiser/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n",
            TOKEN.replace(' ', "%20")
        )
        .expect("writing to memory can't fail");
        &self.bytes
    }
}

/// The advertisers' file as an operator writes it.
pub(super) fn advertisers() -> String {
    format!(
        "[{ADVERTISER}]\ndialect = \"generic\"\nlinks = \"any\"\ncurrency = \"USD\"\n\
         auth = [{{ secret_parameter = {{ name = \"token\", value = \"{TOKEN}\" }} }}]\n"
    )
}

/// The entry as functions find it in their store.
pub(super) fn entry() -> anyhow::Result<Vec<u8>> {
    let all: toml::Table = toml::from_str(&advertisers())?;
    let entry = all.get(ADVERTISER).context("just written")?;
    Ok(serde_json::to_vec(entry)?)
}

/// The secrets of an edge that would sign these clicks.
pub(super) fn secrets() -> String {
    format!(
        "[click_id]\nactive = {KEY_ID}\n[click_id.keys]\n{KEY_ID} = {:?}\n",
        HEXLOWER.encode(&KEY_BYTES)
    )
}

/// The keys as functions receive them.
pub(super) fn click_id_keys() -> String {
    format!("{KEY_ID}:{}", HEXLOWER.encode(&KEY_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postback::{Decision, Keys, Postback, Request};
    use std::collections::BTreeSet;

    #[test]
    fn every_postback_is_accepted_as_a_new_sale() {
        let keys = Keys::parse(&click_id_keys()).expect("keys");
        let entry = entry().expect("entry");
        let mut postbacks = Postbacks::new().expect("keys");
        let mut transactions = BTreeSet::new();
        for _ in 0..300 {
            let text = String::from_utf8(postbacks.next_request().to_vec()).expect("text");
            let target = text.split(' ').nth(1).expect("target");
            let (path, query) = target.split_once('?').expect("query");
            let request = Request {
                method: "GET".into(),
                path: path.into(),
                query: query.into(),
                ..Request::default()
            };
            let postback = Postback::read(&request).expect("read");
            match postback.decide(postback.key(), Some(&entry), &keys, Micros::now(), |_| None) {
                Decision::Accept(sale, _) => assert!(transactions.insert(sale.transaction)),
                other => panic!("{target}: {other:?}"),
            }
        }
    }
}
