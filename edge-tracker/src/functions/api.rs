//! The internal API, `http://tracker.internal/`: what functions report becomes events, durable before
//! they are told so. Its messages are `tracker-api`'s.

use super::failures::FailureLimit;
use super::ledger::{Ledger, NotDurable, Recorded};
use crate::visitor::address::{self, AddressStorage};
use bytes::Bytes;
use function_host::{Internal, InternalAnswer, LoadError};
use http::{Method, Request, Response, StatusCode, header};
use prometheus::{IntCounterVec, Opts, Registry};
use serde::Deserialize;
use std::net::Ipv6Addr;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tracker_api as messages;
use tracking_events::{
    ClickId, Conversion, ConversionKind, ConversionStatus, Event, KycStatus, KycUpdate, Micros,
    Money, Rejection, SignedRequest, Stated,
};
use trusted_clock::TrustedClock;

/// Answers functions.
pub(super) struct Api(Arc<Shared>);

struct Shared {
    authorization: String,
    addresses: AddressStorage,
    clock: Arc<TrustedClock>,
    ledger: Ledger,
    failures: FailureLimit,
    events: IntCounterVec,
}

/// Why a message is not taken.
enum Refused {
    NotOurs,
    Unknown,
    Wrong(String),
    NotDurable(NotDurable),
}

impl Api {
    pub(super) fn new(
        token: String,
        addresses: AddressStorage,
        clock: Arc<TrustedClock>,
        ledger: Ledger,
        failures: FailureLimit,
        registry: &Registry,
    ) -> Result<Self, LoadError> {
        let name = "edge_reports_total";
        let help = "What functions reported, by kind and by what became of it";
        let events = IntCounterVec::new(Opts::new(name, help), &["kind", "outcome"])
            .and_then(|events| {
                registry.register(Box::new(events.clone()))?;
                Ok(events)
            })
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        // A counter that is absent until its first event hides the step from 0 to 1 from alerts.
        for kind in ["conversion", "kyc_update", "rejection"] {
            for outcome in [
                "durable",
                "counted",
                "not_ours",
                "unknown",
                "wrong",
                "not_durable",
            ] {
                events.with_label_values(&[kind, outcome]);
            }
        }
        Ok(Self(Arc::new(Shared {
            authorization: format!("Bearer {token}"),
            addresses,
            clock,
            ledger,
            failures,
            events,
        })))
    }
}

impl Internal for Api {
    fn host(&self) -> &str {
        messages::HOST
    }

    fn answer(&self, request: Request<Bytes>) -> InternalAnswer {
        let shared = self.0.clone();
        Box::pin(async move {
            let kind = kind(request.uri().path());
            let outcome = shared.take(&request).await;
            let word = outcome.as_ref().map_or_else(Refused::word, |it| it.word());
            shared.events.with_label_values(&[kind, word]).inc();
            outcome.map_or_else(Refused::response, |_| {
                response(StatusCode::NO_CONTENT, String::new())
            })
        })
    }

    fn settle(&self) {
        // Often nobody waits.
        let _ = self.0.ledger.sync();
    }
}

fn kind(path: &str) -> &'static str {
    match path {
        messages::CONVERSIONS => "conversion",
        messages::KYC_UPDATES => "kyc_update",
        messages::REJECTIONS => "rejection",
        _ => "unknown",
    }
}

impl Shared {
    async fn take(&self, request: &Request<Bytes>) -> Result<Recorded, Refused> {
        let given = request.headers().get(header::AUTHORIZATION);
        let given = given.map_or(&b""[..], |value| value.as_bytes());
        if !bool::from(given.ct_eq(self.authorization.as_bytes())) {
            return Err(Refused::NotOurs);
        }
        if request.method() != Method::POST {
            return Err(Refused::Unknown);
        }
        let now = self.clock.read().estimate;
        let written = match request.uri().path() {
            messages::CONVERSIONS => {
                let message = read(request.body())?;
                let event = self.conversion(&message, now)?;
                self.ledger.write(&Event::Conversion(event)).await
            }
            messages::KYC_UPDATES => {
                let message = read(request.body())?;
                let event = kyc_update(&message, now)?;
                self.ledger.write(&Event::KycUpdate(event)).await
            }
            messages::REJECTIONS => {
                let message: messages::Rejection<'_> = read(request.body())?;
                if let Ok(client) = message.address.parse() {
                    self.failures.rejected(client, message.reason);
                }
                let recorded = self.ledger.reject(self.rejection(&message, now)).await;
                return recorded.map_err(Refused::NotDurable);
            }
            _ => return Err(Refused::Unknown),
        };
        let logged = written.map(|()| Recorded::Logged);
        logged.map_err(Refused::NotDurable)
    }

    fn conversion<'a>(
        &self,
        message: &'a messages::Conversion<'_>,
        time: Micros,
    ) -> Result<Conversion<'a>, Refused> {
        let wrong = |field: &str| Refused::Wrong(format!("{field} is not one that is known"));
        let click = ClickId::parse(message.click_id.as_bytes());
        let currency = message.currency.as_bytes().try_into();
        let currency: [u8; 3] = currency.map_err(|_| wrong("currency"))?;
        if !currency.iter().all(u8::is_ascii_uppercase) {
            return Err(wrong("currency"));
        }
        Ok(Conversion {
            time,
            advertiser: &message.advertiser,
            click: click.map_err(|error| Refused::Wrong(error.to_string()))?,
            kind: ConversionKind::from_word(&message.kind).ok_or_else(|| wrong("kind"))?,
            kind_name: &message.kind_name,
            transaction: &message.transaction,
            status: ConversionStatus::from_word(&message.status).ok_or_else(|| wrong("status"))?,
            payout: Money {
                minor: message.payout_minor,
                currency,
            },
            dialect: &message.dialect,
            address: self.address(&message.address),
            stated: stated(message.stated),
            signed: message.signed.as_ref().map(signed),
            payout_as_sent: &message.payout_as_sent,
        })
    }

    fn rejection<'a>(&self, message: &'a messages::Rejection<'_>, time: Micros) -> Rejection<'a> {
        Rejection {
            time,
            source: &message.source,
            party: &message.party,
            reason: message.reason,
            reason_name: &message.reason_name,
            detail: &message.detail,
            request: &message.request,
            status: message.status,
            address: self.address(&message.address),
        }
    }

    /// As much of an address as is stored; none is `::`.
    fn address(&self, text: &str) -> [u8; 16] {
        text.parse()
            .map_or(Ipv6Addr::UNSPECIFIED.octets(), |address| {
                address::store(address, self.addresses)
            })
    }
}

fn stated(fields: messages::Stated) -> Stated {
    let mut stated = Stated::default();
    for (is_stated, field) in [
        (fields.payout, Stated::PAYOUT),
        (fields.currency, Stated::CURRENCY),
        (fields.kind, Stated::KIND),
        (fields.status, Stated::STATUS),
    ] {
        if is_stated {
            stated.insert(field);
        }
    }
    stated
}

fn signed<'a>(request: &'a messages::SignedRequest<'_>) -> SignedRequest<'a> {
    let headers = request.headers.iter();
    SignedRequest {
        method: &request.method,
        path: &request.path,
        query: &request.query,
        headers: headers.map(|(name, value)| (&**name, &**value)).collect(),
        body: &request.body,
    }
}

fn kyc_update<'a>(
    message: &'a messages::KycUpdate<'_>,
    time: Micros,
) -> Result<KycUpdate<'a>, Refused> {
    let wrong = |text: &str| Refused::Wrong(text.into());
    if message.tier > 3 {
        return Err(wrong("tiers are 0 to 3"));
    }
    Ok(KycUpdate {
        time,
        happened: Micros(message.happened_micros),
        provider: &message.provider,
        delivery: &message.delivery,
        affiliate: &message.affiliate,
        status: KycStatus::from_word(&message.status)
            .ok_or_else(|| wrong("status is not one that is known"))?,
        tier: message.tier,
        signed: Some(signed(&message.signed)),
    })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::Wrong(error.to_string()))
}

impl Recorded {
    const fn word(self) -> &'static str {
        match self {
            Self::Logged => "durable",
            Self::Counted => "counted",
        }
    }
}

impl Refused {
    const fn word(&self) -> &'static str {
        match self {
            Self::NotOurs => "not_ours",
            Self::Unknown => "unknown",
            Self::Wrong(_) => "wrong",
            Self::NotDurable(_) => "not_durable",
        }
    }

    fn response(self) -> Response<Bytes> {
        match self {
            Self::NotOurs => response(StatusCode::UNAUTHORIZED, "the token is not ours".into()),
            Self::Unknown => response(StatusCode::NOT_FOUND, "there is no such message".into()),
            Self::Wrong(why) => response(StatusCode::BAD_REQUEST, why),
            Self::NotDurable(why @ NotDurable::TooLong) => {
                response(StatusCode::PAYLOAD_TOO_LARGE, why.to_string())
            }
            Self::NotDurable(why) => {
                tracing::error!(%why, "a report could not be made durable; its sender is told so");
                response(StatusCode::SERVICE_UNAVAILABLE, why.to_string())
            }
        }
    }
}

fn response(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response
}
