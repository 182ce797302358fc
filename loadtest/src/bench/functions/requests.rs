//! What is asked of functions: the same request again and again, or postbacks as an advertiser's server
//! fires them, each for a click and a transaction of its own.

use super::super::requests::Source;
use anyhow::Context as _;
use data_encoding::HEXLOWER;
use std::io::Write as _;
use tracking_events::{ClickIdParts, KeyId, KeyRing, LaneId, LinkId, MacKey, Micros, NodeId, Seq};

/// The name of the advertiser who fires.
pub(crate) const ADVERTISER: &str = "acme";
const TOKEN: &str = "a secret of the advertiser and of nobody else";
/// What click id keys are made of.
const SECRET: [u8; 32] = [0x42; 32];
const KEY: u8 = 1;
/// Clicks are as old as a visitor takes to buy something, in microseconds.
const AGE: u64 = 1_800_000_000;

/// One request without end.
#[derive(Debug)]
pub(super) struct Same(Vec<u8>);

impl Same {
    /// A `GET` of `target`.
    pub(super) fn get(target: &str) -> Self {
        let text = format!(
            "GET {target} HTTP/1.1\r\nHost: go.fanz.example\r\nAccept: */*\r\n\
             User-Agent: an-advertiser/1.0\r\n\r\n"
        );
        Self(text.into_bytes())
    }
}

impl Source for Same {
    fn next_request(&mut self) -> &[u8] {
        &self.0
    }
}

/// Sales of one advertiser in the generic dialect.
#[derive(Debug)]
pub(super) struct Postbacks {
    keys: KeyRing,
    /// Tells these transactions from those of other streams.
    stream: String,
    number: u64,
    bytes: Vec<u8>,
}

impl Postbacks {
    /// Those of `stream`, a word that no other stream to the same server has.
    pub(super) fn new(stream: String) -> anyhow::Result<Self> {
        let id = KeyId::new(KEY)?;
        Ok(Self {
            keys: KeyRing::new(id, [(id, MacKey::new(SECRET))])?,
            stream,
            number: 0,
            bytes: Vec::with_capacity(512),
        })
    }
}

impl Source for Postbacks {
    fn next_request(&mut self) -> &[u8] {
        self.number += 1;
        let click = self.keys.sign(ClickIdParts {
            time: Micros(Micros::now().0.saturating_sub(AGE)),
            node: NodeId(1),
            lane: LaneId(0),
            seq: Seq(self.number),
            link: LinkId(1),
        });
        let (stream, number) = (&self.stream, self.number);
        let cents = number % 100;
        self.bytes.clear();
        write!(
            self.bytes,
            "GET /postback/{ADVERTISER}?click_id={click}&transaction_id={stream}-{number}&payout=19.{cents:02}\
             &currency=USD&status=approved&event=sale&token={} HTTP/1.1\r\nHost: go.fanz.example\r\n\
             User-Agent: an-advertiser/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n",
            TOKEN.replace(' ', "%20")
        )
        .expect("writing to memory can't fail");
        &self.bytes
    }
}

/// The advertiser as an edge's operator writes it down.
pub(super) fn advertisers() -> String {
    format!(
        "[{ADVERTISER}]\ndialect = \"generic\"\nlinks = \"any\"\ncurrency = \"USD\"\n\
         auth = [{{ secret_parameter = {{ name = \"token\", value = \"{TOKEN}\" }} }}]\n"
    )
}

/// The same as functions find it in their store.
pub(super) fn entry() -> anyhow::Result<Vec<u8>> {
    let all: toml::Table = toml::from_str(&advertisers())?;
    let entry = all.get(ADVERTISER).context("just written")?;
    Ok(serde_json::to_vec(entry)?)
}

/// Secrets of an edge whose clicks these are.
pub(super) fn secrets() -> String {
    format!(
        "[click_id]\nactive = {KEY}\n[click_id.keys]\n{KEY} = {:?}\n",
        HEXLOWER.encode(&SECRET)
    )
}

/// The keys as functions are told them.
pub(super) fn click_id_keys() -> String {
    format!("{KEY}:{}", HEXLOWER.encode(&SECRET))
}

#[cfg(test)]
mod tests {
    use super::*;
    use postback::{Decision, Keys, Postback, Request};
    use std::collections::BTreeSet;

    #[test]
    fn every_postback_is_believed_and_another_sale() {
        let keys = Keys::parse(&click_id_keys()).expect("keys");
        let entry = entry().expect("an entry");
        let mut postbacks = Postbacks::new("a".into()).expect("keys");
        let mut transactions = BTreeSet::new();
        for _ in 0..300 {
            let text = String::from_utf8(postbacks.next_request().to_vec()).expect("text");
            let target = text.split(' ').nth(1).expect("a target");
            let (path, query) = target.split_once('?').expect("a query");
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
