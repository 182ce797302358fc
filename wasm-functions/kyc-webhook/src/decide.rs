//! Converts a webhook to an affiliate's KYC update or a rejection.

use crate::Scheme;
use domain::{KycStatus, Micros, TIERS};
use functions_shared::{
    Decision, MAX_BODY_BYTES, Reason, Refusal, Request, without_byte_order_mark,
};
use serde::Deserialize;
use tracker_api::{KycUpdate, MAX_SIGNED_BYTES};

/// The path of the webhook.
pub const PATH: &str = "/api/webhooks/kyc/verifymy";
/// The provider's name in reports.
const PROVIDER: &str = "verifymy";
/// Maximum length of an id in bytes.
const MAX_ID_BYTES: usize = 128;

#[derive(Deserialize)]
struct Message {
    id: Option<String>,
    affiliate_id: String,
    status: String,
    tier: u8,
    occurred_at: String,
}

/// Decides on a webhook with a scheme or the error in its settings. A repeated message is decided identically; the
/// aggregator detects repeats by the delivery id.
#[must_use]
pub fn decide(
    request: &Request,
    scheme: Result<&Scheme, &'static str>,
    now: Micros,
) -> Decision<KycUpdate<'static>> {
    match update(request, scheme, now) {
        Ok(update) => Decision::Accept(update, "OK\n".into()),
        Err(refusal) => {
            // Paths and queries of other requests may contain anything.
            let path = if request.path == PATH { PATH } else { "/***" };
            let method = request
                .method
                .chars()
                .filter(char::is_ascii_alphabetic)
                .take(16);
            let shown = format!("{} {path}", method.collect::<String>());
            Decision::Refuse(Box::new(refusal.of(
                "kyc-webhook",
                PROVIDER,
                shown,
                request,
            )))
        }
    }
}

fn update(
    request: &Request,
    scheme: Result<&Scheme, &'static str>,
    now: Micros,
) -> Result<KycUpdate<'static>, Refusal> {
    if request.path != PATH {
        return Err(Reason::KycUnknownPath.because("there is nothing here"));
    }
    if request.method != "POST" {
        return Err(Reason::KycMethodNotAllowed.because("POST is taken"));
    }
    if request.broken {
        return Err(Reason::KycMalformedBody.because("the body broke off before its end"));
    }
    if request.body.len() > MAX_BODY_BYTES {
        let most = format!("a body is at most {MAX_BODY_BYTES} bytes long");
        return Err(Reason::KycBodyTooLarge.because(most));
    }
    let scheme = scheme.map_err(|wrong| {
        let explanation = "webhooks are not set up here; try again later";
        Reason::KycMisconfigured
            .because(explanation)
            .recorded(wrong.into())
    })?;
    scheme.check(request, now)?;
    // As text: a missing field would not be checked otherwise.
    let text = std::str::from_utf8(without_byte_order_mark(&request.body)).unwrap_or_default();
    let message: Message = serde_json::from_str(text).map_err(|_| {
        let expected = "affiliate_id, status, tier and occurred_at are expected";
        Reason::KycMalformedBody.because(expected)
    })?;
    let delivery = delivery(message.id.as_deref(), request, scheme)?.to_owned();
    if !is_id(&message.affiliate_id) {
        return Err(Reason::KycBadAffiliate.because("affiliate_id is 1 to 128 bytes of text"));
    }
    let status = KycStatus::from_name(&message.status).ok_or_else(|| {
        let known = "pending, approved, rejected, revoked and expired are known";
        Reason::KycUnknownStatus.because(known)
    })?;
    if !TIERS.iter().any(|tier| tier.number == message.tier) {
        return Err(Reason::KycUnknownTier.because("tiers are 0 to 3"));
    }
    let signed = request.signed(&scheme.headers());
    if signed.size_bytes() > MAX_SIGNED_BYTES {
        let most = format!("headers and body are at most {MAX_SIGNED_BYTES} bytes long together");
        return Err(Reason::KycTooLargeToKeep.because(most));
    }
    Ok(KycUpdate {
        provider: PROVIDER.into(),
        delivery: delivery.into(),
        affiliate: message.affiliate_id.into(),
        status: status.as_str().into(),
        tier: message.tier,
        happened_micros: happened(&message.occurred_at, scheme, now)?,
        signed,
    })
}

/// The delivery id of the body or the header; they must not differ. An unsigned header could be changed, so that
/// the same message would appear as another one.
fn delivery<'a>(
    body: Option<&'a str>,
    request: &'a Request,
    scheme: &Scheme,
) -> Result<&'a str, Refusal> {
    let bad = |why: &str| Reason::KycBadDelivery.because(why.to_owned());
    let header = request.header(&scheme.delivery_header);
    match (body, header) {
        (Some(body), Some(header)) if body != header => Err(bad("body and header differ")),
        (Some(id), _) if is_id(id) => Ok(id),
        (None, Some(id)) if scheme.signs_delivery() && is_id(id) => Ok(id),
        _ => Err(bad(
            "an id of 1 to 128 bytes of text is expected, in the body or a signed header",
        )),
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.chars().any(char::is_control)
}

/// Microseconds since 1970. The latest update counts, so one in the future would stay.
fn happened(text: &str, scheme: &Scheme, now: Micros) -> Result<u64, Refusal> {
    let bad = |why: &str| Reason::KycBadTime.because(why.to_owned());
    let happened = text.parse::<jiff::Timestamp>();
    let happened = happened.map_err(|_| bad("occurred_at is a time of RFC 3339"))?;
    let happened = u64::try_from(happened.as_microsecond());
    let happened = happened.map_err(|_| bad("occurred_at is before 1970"))?;
    if happened > now.0.saturating_add(scheme.window_micros()) {
        return Err(bad("occurred_at is in the future"));
    }
    Ok(happened)
}
