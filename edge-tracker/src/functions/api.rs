//! The internal API: reports of functions become events that are durable before the response. Functions of this
//! process reach it as `http://tracker.internal/`, those of other hosts through `listener`. The crate `tracker-api`
//! defines its messages.

use super::durable_lane::{DurableLane, NotDurable, RejectionRecord};
use super::failures::FailureLimit;
use super::token::Tokens;
use crate::metrics::Metrics;
use crate::visitor::address::{self, AddressStorage};
use arc_swap::ArcSwap;
use bytes::Bytes;
use domain::{ConversionKind, ConversionStatus, Currency, KycStatus, Micros, Money};
use function_host::{InternalResponse, InternalService};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use prometheus::IntCounterVec;
use serde::Deserialize;
use std::fmt;
use std::future::ready;
use std::net::Ipv6Addr;
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq as _};
use tracker_api::{self as messages, Problem};
use tracking_events::{ClickId, Conversion, Event, KycUpdate, Rejection, SignedRequest, Stated};
use trusted_clock::{TimeSource, TrustedClock};

/// The API for one kind of caller.
#[derive(Clone)]
pub struct Api {
    shared: Arc<ApiState>,
    authorizations: Arc<ArcSwap<Vec<String>>>,
    caller: Caller,
}

struct ApiState {
    addresses: AddressStorage,
    clock: Arc<TrustedClock>,
    lane: DurableLane,
    events: IntCounterVec,
}

/// The origin of messages.
#[derive(Clone)]
enum Caller {
    /// Functions of this process, whose host requests each sync. Senders that they reject are counted.
    Process(FailureLimit),
    /// Other hosts.
    Remote,
}

/// Why a message is refused.
#[derive(Debug)]
pub(super) struct RefusedMessage {
    problem: Problem,
    why: String,
}

/// Outcomes of messages of every kind.
const OUTCOMES: [&str; 8] = [
    "durable",
    "unauthorized",
    "unknown",
    "invalid",
    "not_durable",
    "too_slow",
    "busy",
    "clock_wrong",
];

/// Creates all series: a counter that is absent until its first event hides the step from 0 to 1 from alerts.
pub(crate) fn start_series(events: &IntCounterVec) {
    for kind in ["conversion", "kyc_update", "rejection"] {
        for outcome in OUTCOMES {
            events.with_label_values(&[kind, outcome]);
        }
    }
    for [kind, outcome] in [
        ["rejection", "counted"],
        [UNKNOWN, "unauthorized"],
        [UNKNOWN, "unknown"],
    ] {
        events.with_label_values(&[kind, outcome]);
    }
}

impl Api {
    /// The API for functions of other hosts; their reports go to `lane`.
    #[must_use]
    pub fn new(
        addresses: AddressStorage,
        clock: Arc<TrustedClock>,
        lane: DurableLane,
        metrics: &Metrics,
    ) -> Self {
        let events = metrics.reports.clone();
        start_series(&events);
        Self {
            shared: Arc::new(ApiState {
                addresses,
                clock,
                lane,
                events,
            }),
            authorizations: Arc::default(),
            caller: Caller::Remote,
        }
    }

    /// Refuses all further reports; what was accepted before is in the journal.
    pub fn close(&self) {
        self.shared.lane.close();
    }

    /// The same for functions of this process, which authenticate with `token`.
    pub(super) fn of_process(&self, token: String, failures: FailureLimit) -> Self {
        let api = Self {
            shared: self.shared.clone(),
            authorizations: Arc::default(),
            caller: Caller::Process(failures),
        };
        api.use_tokens(&Tokens::only(token));
        api
    }

    /// Requires one of `tokens` from now on.
    pub fn use_tokens(&self, tokens: &Tokens) {
        let authorizations = tokens.iter().map(|token| format!("Bearer {token}"));
        self.authorizations
            .store(Arc::new(authorizations.collect()));
    }

    /// Accepts a message. Its body is read only after the caller is authenticated.
    pub(super) async fn accept(
        &self,
        head: &Parts,
        body: impl Future<Output = Result<Bytes, RefusedMessage>>,
    ) -> Result<(), RefusedMessage> {
        let outcome = self.accept_uncounted(head, body).await;
        let label = outcome
            .as_ref()
            .map_or_else(RefusedMessage::outcome, |it| it.outcome());
        let kind = kind(head.uri.path());
        let counted = [kind, label];
        self.shared.events.with_label_values(&counted).inc();
        outcome.map(|_| ())
    }

    async fn accept_uncounted(
        &self,
        head: &Parts,
        body: impl Future<Output = Result<Bytes, RefusedMessage>>,
    ) -> Result<RejectionRecord, RefusedMessage> {
        if !self.is_authorized(head) {
            return Err(Problem::NotAuthorized.because("the token is not one of this edge's"));
        }
        let path = head.uri.path();
        if head.method != Method::POST || kind(path) == UNKNOWN {
            return Err(Problem::UnknownMessage.because("there is no such message"));
        }
        let body = body.await?;
        let (recorded, ()) = tokio::join!(self.record(path, &body), self.request_shared_sync());
        recorded
    }

    /// Compares with all tokens in constant time.
    fn is_authorized(&self, head: &Parts) -> bool {
        let given = head.headers.get(header::AUTHORIZATION);
        let given = given.map_or(&b""[..], |value| value.as_bytes());
        let authorizations = self.authorizations.load();
        let fits = authorizations.iter().map(|it| given.ct_eq(it.as_bytes()));
        fits.fold(Choice::from(0), |any, fits| any | fits).into()
    }

    /// Requests the sync that the message waits for, together with messages that other connections have ready.
    async fn request_shared_sync(&self) {
        if matches!(self.caller, Caller::Remote) {
            tokio::task::yield_now().await;
            // Another message may have requested it already.
            let _ = self.shared.lane.request_sync();
        }
    }

    /// Refuses reports while their time can't be determined.
    pub(super) fn require_clock(&self) -> Result<(), RefusedMessage> {
        match self.shared.clock.read().source {
            TimeSource::System => Ok(()),
            _ => {
                Err(Problem::ApiClockWrong.because("the clock of this edge is wrong at the moment"))
            }
        }
    }

    async fn record(&self, path: &str, body: &[u8]) -> Result<RejectionRecord, RefusedMessage> {
        let ApiState { clock, lane, .. } = &*self.shared;
        let now = clock.read().estimate;
        let written = match path {
            messages::CONVERSIONS => {
                let message = read(body)?;
                let event = self.shared.conversion(&message, now)?;
                lane.write(&Event::Conversion(event)).await
            }
            messages::KYC_UPDATES => {
                let message = read(body)?;
                let event = kyc_update(&message, now)?;
                lane.write(&Event::KycUpdate(event)).await
            }
            _ => {
                let message: messages::Rejection<'_> = read(body)?;
                self.count_failure(&message);
                return Ok(lane.reject(self.shared.rejection(&message, now)).await?);
            }
        };
        written?;
        Ok(RejectionRecord::Logged)
    }

    fn count_failure(&self, rejection: &messages::Rejection<'_>) {
        if let (Caller::Process(failures), Ok(client)) = (&self.caller, rejection.address.parse()) {
            failures.rejected(client, rejection.reason);
        }
    }
}

/// Without its tokens, which are secret.
impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl InternalService for Api {
    fn host(&self) -> &str {
        messages::HOST
    }

    fn respond(&self, request: Request<Bytes>) -> InternalResponse {
        let api = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let taken = api.accept(&head, ready(Ok(body))).await;
            respond(taken)
        })
    }

    fn flush_deferred(&self) {
        // False when no message waits, as is often the case.
        let _ = self.shared.lane.request_sync();
    }
}

const UNKNOWN: &str = "unknown";

fn kind(path: &str) -> &'static str {
    match path {
        messages::CONVERSIONS => "conversion",
        messages::KYC_UPDATES => "kyc_update",
        messages::REJECTIONS => "rejection",
        _ => UNKNOWN,
    }
}

impl ApiState {
    fn conversion<'a>(
        &self,
        message: &'a messages::Conversion<'_>,
        time: Micros,
    ) -> Result<Conversion<'a>, RefusedMessage> {
        let wrong = |field: &str| malformed(format!("unknown {field}"));
        let click = ClickId::parse(message.click_id.as_bytes());
        let currency = message.currency.as_bytes().try_into();
        let currency = Currency(currency.map_err(|_| wrong("currency"))?);
        if currency.code().is_empty() {
            return Err(wrong("currency"));
        }
        Ok(Conversion {
            time,
            advertiser: &message.advertiser,
            click: click.map_err(|error| malformed(error.to_string()))?,
            kind: ConversionKind::from_name(&message.kind).ok_or_else(|| wrong("kind"))?,
            kind_name: &message.kind_name,
            transaction: &message.transaction,
            status: ConversionStatus::from_name(&message.status).ok_or_else(|| wrong("status"))?,
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

    /// The stored part of an address; an absent one is `::`.
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
) -> Result<KycUpdate<'a>, RefusedMessage> {
    let wrong = |text: &str| malformed(text);
    if message.tier > 3 {
        return Err(wrong("tiers are 0 to 3"));
    }
    Ok(KycUpdate {
        time,
        happened: Micros(message.happened_micros),
        provider: &message.provider,
        delivery: &message.delivery,
        affiliate: &message.affiliate,
        status: KycStatus::from_name(&message.status).ok_or_else(|| wrong("unknown status"))?,
        tier: message.tier,
        signed: Some(signed(&message.signed)),
    })
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, RefusedMessage> {
    serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))
}

impl RejectionRecord {
    const fn outcome(self) -> &'static str {
        match self {
            Self::Logged => "durable",
            Self::Counted => "counted",
        }
    }
}

fn malformed(why: impl Into<String>) -> RefusedMessage {
    Problem::MalformedMessage.because(why)
}

/// Adds the exact cause to a problem.
pub(super) trait Because {
    fn because(self, why: impl Into<String>) -> RefusedMessage;
}

impl Because for Problem {
    fn because(self, why: impl Into<String>) -> RefusedMessage {
        let why = why.into();
        RefusedMessage { problem: self, why }
    }
}

impl From<NotDurable> for RefusedMessage {
    fn from(error: NotDurable) -> Self {
        let problem = match error {
            NotDurable::TooLong => Problem::MessageTooLarge,
            NotDurable::Drained => Problem::NotDurable,
            _ => {
                tracing::error!(%error, "failed to make a report durable; its sender must retry");
                Problem::NotDurable
            }
        };
        problem.because(error.to_string())
    }
}

impl RefusedMessage {
    const fn outcome(&self) -> &'static str {
        match self.problem {
            Problem::NotAuthorized => "unauthorized",
            Problem::UnknownMessage => "unknown",
            Problem::MalformedMessage | Problem::MessageTooLarge => "invalid",
            Problem::NotDurable => "not_durable",
            Problem::MessageTooSlow => "too_slow",
            Problem::TooManyMessages => "busy",
            Problem::ApiClockWrong => "clock_wrong",
        }
    }

    fn response(&self) -> Response<Bytes> {
        let (number, name) = (self.problem.number(), self.problem.name());
        let text = format!("refused: {number} {name}: {}\n", self.why);
        let mut response = Response::new(Bytes::from(text));
        let status = StatusCode::from_u16(self.problem.status());
        *response.status_mut() = status.expect("statuses of problems are valid");
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
    }
}

/// The response to a message: 204 once it is durable.
pub(super) fn respond(taken: Result<(), RefusedMessage>) -> Response<Bytes> {
    match taken {
        Ok(()) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(refused) => refused.response(),
    }
}
