//! What an affiliate is told: the address with its macros filled in, and a signature.
//!
//! Signatures are those of Standard Webhooks (<https://www.standardwebhooks.com>), with the request's target,
//! path and query, in the place of the body: a `GET` has none.

use super::address::{Address, Macro};
use super::amount;
use super::subscriptions::{Key, Subscription};
use crate::click::ClickFacts;
use crate::store::{LeasedPostback, Sale};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use hmac::{Hmac, Mac as _};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use sha2::Sha256;
use thiserror::Error;
use tracking_events::Micros;

const AGENT: HeaderValue = HeaderValue::from_static("FanzFiliate-Postback/1");

/// A postback that can't be made a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum MessageError {
    #[error("the URL is too long after macro expansion")]
    TooLong,
    #[error("the URL is invalid after macro expansion")]
    NoAddress,
}

/// A postback that is to be sent.
#[derive(Debug)]
pub(super) struct Message {
    uri: Uri,
    /// The same in every attempt.
    name: String,
    /// When it is sent, in seconds since 1970.
    seconds: u64,
    /// What it is signed with.
    key: Option<Key>,
}

struct Values<'a> {
    sale: &'a Sale,
    click: &'a ClickFacts,
    event: &'a str,
    payout: String,
    conversion: &'a str,
    revision: String,
    timestamp: String,
}

impl<'a> Values<'a> {
    fn value(&'a self, which: Macro) -> &'a str {
        match which {
            Macro::ClickId => &self.sale.click_id,
            Macro::Campaign => &self.click.campaign,
            Macro::Offer => &self.click.offer,
            Macro::Affiliate => &self.click.affiliate,
            Macro::Link => &self.click.link,
            Macro::Country => &self.click.country,
            Macro::Device => &self.click.device,
            Macro::Source => &self.click.source,
            Macro::ExternalId => &self.click.external_id,
            Macro::Payout => &self.payout,
            Macro::Currency => &self.sale.currency,
            Macro::Status => &self.sale.status,
            Macro::Event => self.event,
            Macro::TransactionId => &self.sale.transaction,
            Macro::ConversionId => self.conversion,
            Macro::Revision => &self.revision,
            Macro::Timestamp => &self.timestamp,
            Macro::Sub(number) => &self.click.subs[number],
        }
    }
}

impl Message {
    /// The postback as a subscriber wants it, sent at `now`.
    ///
    /// # Errors
    /// When its address can't be made.
    pub(super) fn new(
        subscription: &Subscription,
        postback: &LeasedPostback,
        click: &ClickFacts,
        now: Micros,
    ) -> Result<Self, MessageError> {
        let address = fill_in(&subscription.url, postback, click)?;
        Ok(Self {
            uri: address.parse().map_err(|_| MessageError::NoAddress)?,
            name: postback.key.name(postback.epoch),
            seconds: now.0 / 1_000_000,
            key: subscription.key.clone(),
        })
    }

    /// The subscriber's address.
    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The request to the subscriber's address.
    pub(super) fn request(&self) -> Request<Empty<Bytes>> {
        self.request_to(self.uri.clone())
    }

    /// The request to `uri`, signed for it.
    pub(super) fn request_to(&self, uri: Uri) -> Request<Empty<Bytes>> {
        // As hyper writes it: a query without a path has `/` before it.
        let target = match uri.query() {
            Some(query) => format!("{}?{query}", uri.path()),
            None => uri.path().to_owned(),
        };
        let key = self.key.as_ref();
        let signature = key.map(|key| sign(key, &self.name, self.seconds, &target));
        let mut request = Request::new(Empty::new());
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, AGENT);
        headers.insert("webhook-timestamp", self.seconds.into());
        let texts = [
            ("webhook-id", Some(self.name.clone())),
            ("webhook-signature", signature),
        ];
        for (header, text) in texts {
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(header, value);
            }
        }
        *request.uri_mut() = uri;
        request
    }
}

fn fill_in(
    address: &Address,
    postback: &LeasedPostback,
    click: &ClickFacts,
) -> Result<String, MessageError> {
    let LeasedPostback {
        key, epoch, sale, ..
    } = postback;
    let named = sale.kind == "custom" && !sale.kind_name.is_empty();
    let name = key.name(*epoch);
    let values = Values {
        event: if named { &sale.kind_name } else { &sale.kind },
        payout: amount::decimal(sale.payout_minor, &sale.currency),
        conversion: name.split('-').next().unwrap_or_default(),
        revision: key.revision.to_string(),
        timestamp: (sale.time.0 / 1_000_000).to_string(),
        click,
        sale,
    };
    let mut out = BytesMut::new();
    let nothing = std::iter::empty();
    if !address
        .0
        .expand(|which| values.value(which).as_bytes(), nothing, &mut out)
    {
        return Err(MessageError::TooLong);
    }
    // There is no fragment; a raw value must not begin one.
    Ok(String::from_utf8_lossy(&out).replace('#', "%23"))
}

fn sign(key: &Key, name: &str, seconds: u64, target: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
    let mac = mac.chain_update(format!("{name}.{seconds}.{target}"));
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}
