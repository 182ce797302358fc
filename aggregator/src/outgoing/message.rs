//! The request of a postback: the URL with expanded macros, and a signature.
//!
//! Signatures follow Standard Webhooks (<https://www.standardwebhooks.com>), with the request's target, path and query,
//! instead of the body: a `GET` has none.

use super::address::{Address, Macro};
use super::subscriptions::{SigningKey, Subscription};
use crate::click::ClickFacts;
use crate::store::{LeasedPostback, PostbackSale};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64;
use domain::Micros;
use hmac::{Hmac, Mac as _};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use sha2::Sha256;
use thiserror::Error;

const AGENT: HeaderValue = HeaderValue::from_static("FanzFiliate-Postback/1");

/// Why a postback can't be sent as a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RequestError {
    #[error("the URL is too long after macro expansion")]
    TooLong,
    #[error("the URL is invalid after macro expansion")]
    InvalidUrl,
}

/// A postback, ready to be sent.
#[derive(Debug)]
pub(super) struct PostbackRequest {
    uri: Uri,
    /// The id of the postback, the same in every attempt.
    name: String,
    /// The time of sending, in seconds since 1970.
    seconds: u64,
    /// The key of the signature.
    key: Option<SigningKey>,
}

struct Values<'a> {
    sale: &'a PostbackSale,
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
            Macro::Currency => self.sale.payout.currency.code(),
            Macro::Status => &self.sale.status,
            Macro::Event => self.event,
            Macro::TransactionId => &self.sale.transaction_id,
            Macro::ConversionId => self.conversion,
            Macro::Revision => &self.revision,
            Macro::Timestamp => &self.timestamp,
            Macro::Sub(number) => &self.click.subs[number],
        }
    }
}

impl PostbackRequest {
    /// The request that `subscription` specifies for `postback`, sent at `now`.
    ///
    /// # Errors
    /// When the URL is invalid after macro expansion.
    pub(super) fn new(
        subscription: &Subscription,
        postback: &LeasedPostback,
        click: &ClickFacts,
        now: Micros,
    ) -> Result<Self, RequestError> {
        let address = fill_in(&subscription.url, postback, click)?;
        Ok(Self {
            uri: address.parse().map_err(|_| RequestError::InvalidUrl)?,
            name: postback.key.name(postback.epoch),
            seconds: now.0 / 1_000_000,
            key: subscription.key.clone(),
        })
    }

    /// The subscriber's URL.
    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The request to the subscriber's URL.
    pub(super) fn request(&self) -> Request<Empty<Bytes>> {
        self.request_to(self.uri.clone())
    }

    /// The request to `uri`, with a signature for it.
    pub(super) fn request_to(&self, uri: Uri) -> Request<Empty<Bytes>> {
        // As hyper sends it: a query without a path has `/` before it.
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
) -> Result<String, RequestError> {
    let LeasedPostback {
        key, epoch, sale, ..
    } = postback;
    let named = sale.kind == "custom" && !sale.kind_name.is_empty();
    let name = key.name(*epoch);
    let values = Values {
        event: if named { &sale.kind_name } else { &sale.kind },
        payout: sale.payout.decimal(),
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
        return Err(RequestError::TooLong);
    }
    // A raw value must not start a fragment.
    Ok(String::from_utf8_lossy(&out).replace('#', "%23"))
}

fn sign(key: &SigningKey, name: &str, seconds: u64, target: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
    let mac = mac.chain_update(format!("{name}.{seconds}.{target}"));
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}
