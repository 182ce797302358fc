//! Webhooks of the KYC provider: which are accepted, which are rejected and why, and that nothing altered is
//! accepted.
#![allow(missing_docs)]

use domain::Micros;
use domain::TIERS;
use hmac::{Hmac, Mac as _};
use kyc_webhook::{Decision, PATH, Reason, Request, Scheme, Variables, decide};
use proptest::prelude::*;
use sha2::Sha256;
use tracker_api::{KycUpdate, MAX_SIGNED_BYTES, SignedRequest};

const NOW: Micros = Micros(1_795_000_000_000_000);
const SECONDS: u64 = 1_795_000_000;
const OLD_KEY: &str = "an older key of some length";
const NEW_KEY: &str = "a newer key of some length";
const BODY: &str = r#"{"id":"d-1","affiliate_id":"ann","status":"approved","tier":2,"occurred_at":"2026-11-18T03:00:00+02:00","extra":{"a":1}}"#;

fn variables() -> Variables {
    Variables {
        keys: format!("{NEW_KEY}, {OLD_KEY}"),
        signed: "{timestamp}.{body}".into(),
        window: "300".into(),
        signature_header: "x-verifymy-signature".into(),
        timestamp_header: "x-verifymy-timestamp".into(),
        delivery_header: "x-verifymy-delivery".into(),
    }
}

fn sign(key: &str, text: impl AsRef<[u8]>) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("key");
    mac.update(text.as_ref());
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// A request with its time and signature.
fn request(time: &str, signature: &str, body: &str) -> Request {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        method: "POST".into(),
        path: PATH.into(),
        headers: vec![
            header("x-verifymy-signature", signature),
            header("x-verifymy-timestamp", time),
        ],
        body: body.into(),
        client: Request::client_of("198.51.100.1:443"),
        ..Request::default()
    }
}

fn signed(time: u64, body: &str) -> Request {
    request(
        &time.to_string(),
        &sign(NEW_KEY, format!("{time}.{body}")),
        body,
    )
}

fn by(request: &Request, variables: Variables) -> Decision<KycUpdate<'static>> {
    let scheme = Scheme::read(variables);
    decide(request, scheme.as_ref().map_err(|wrong| *wrong), NOW)
}

fn accepted(request: &Request) -> KycUpdate<'static> {
    match by(request, variables()) {
        Decision::Accept(update, response) => {
            assert_eq!(response, "OK\n");
            update
        }
        other => panic!("{request:?}: {other:?}"),
    }
}

fn is(decision: Decision<KycUpdate<'static>>, reason: Reason) {
    let Decision::Refuse(refused) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(refused.rejection.reason_name, reason.name());
    assert_eq!(
        (refused.status, refused.rejection.reason),
        (reason.status(), reason.number())
    );
    let begins = format!("refused: {} {}: ", reason.number(), reason.name());
    assert!(refused.body.starts_with(&begins), "{}", refused.body);
    assert_eq!(refused.rejection.address, "198.51.100.1");
    assert!(!refused.rejection.request.contains("secret"), "{refused:?}");
}

fn refused(request: &Request, reason: Reason) {
    is(by(request, variables()), reason);
}

#[test]
fn incomplete_bodies_are_rejected() {
    let mut broken = signed(SECONDS, BODY);
    broken.broken = true;
    refused(&broken, Reason::KycMalformedBody);
}

#[test]
fn invalid_utf8_is_rejected_anywhere() {
    let (before, after) = BODY
        .split_once("\"a\"")
        .expect("field that means nothing here");
    let body = [before.as_bytes(), b"\"\x80\"", after.as_bytes()].concat();
    let signature = sign(NEW_KEY, [format!("{SECONDS}.").as_bytes(), &body].concat());
    let signed = Request {
        body,
        ..request(&SECONDS.to_string(), &signature, "")
    };
    refused(&signed, Reason::KycMalformedBody);
}

#[test]
fn signed_webhooks_are_accepted() {
    let update = accepted(&signed(SECONDS, BODY));
    assert_eq!((&*update.provider, &*update.delivery), ("verifymy", "d-1"));
    assert_eq!(
        (&*update.affiliate, &*update.status, update.tier),
        ("ann", "approved", 2)
    );
    assert_eq!(update.happened_micros, 1_794_963_600_000_000);
    // The aggregator detects repeats by the delivery id.
    assert_eq!(accepted(&signed(SECONDS, BODY)), update);
    let older = sign(OLD_KEY, format!("{SECONDS}.{BODY}"));
    for signature in [
        older.clone(),
        older.to_uppercase(),
        format!("sha256={older}"),
    ] {
        accepted(&request(&SECONDS.to_string(), &signature, BODY));
    }
    for status in ["pending", "rejected", "revoked", "expired"] {
        let body = BODY.replace("approved", status);
        assert_eq!(accepted(&signed(SECONDS, &body)).status, status);
    }
}

/// The webhook as it travels, received a second time.
fn received(signed: &SignedRequest<'_>) -> Request {
    let headers = signed.headers.iter();
    Request {
        method: signed.method.clone().into_owned(),
        path: signed.path.clone().into_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: signed.body.clone(),
        client: Request::client_of("198.51.100.1:443"),
        ..Request::default()
    }
}

#[test]
fn accepted_webhooks_are_verified_again_later() {
    let first = accepted(&signed(SECONDS, BODY));
    let scheme = Scheme::read(variables()).map(|scheme| scheme.verified_later(60));
    let later = Micros(NOW.0 + 350_000_000);
    let again = |request: &Request| decide(request, scheme.as_ref().map_err(|wrong| *wrong), later);
    let request = received(&first.signed);
    assert!(matches!(again(&request), Decision::Accept(update, _) if update == first));
    accepted(&request);
    let mut altered = request.clone();
    altered.body[8] ^= 1;
    is(again(&altered), Reason::KycBadSignature);
}

#[test]
fn webhooks_that_do_not_fit_an_event_are_refused() {
    let padded = |bytes: usize| {
        let body = BODY.replace(r#"{"a":1}"#, &format!("\"{}\"", "x".repeat(bytes)));
        signed(SECONDS, &body)
    };
    accepted(&padded(MAX_SIGNED_BYTES - 1_000));
    refused(&padded(MAX_SIGNED_BYTES), Reason::KycTooLargeToKeep);
}

#[test]
fn unsigned_and_expired_webhooks_are_rejected() {
    let good = sign(NEW_KEY, format!("{SECONDS}.{BODY}"));
    let time = SECONDS.to_string();
    for (time, signature, body) in [
        (time.clone(), String::new(), BODY.to_owned()),
        (time.clone(), "sha256=".into(), BODY.into()),
        (time.clone(), good[..62].into(), BODY.into()),
        (
            time.clone(),
            sign("another key of some length", format!("{time}.{BODY}")),
            BODY.into(),
        ),
        (time.clone(), good.clone(), BODY.replace("ann", "bob")),
        ((SECONDS + 1).to_string(), good.clone(), BODY.into()),
        (String::new(), good.clone(), BODY.into()),
    ] {
        refused(&request(&time, &signature, &body), Reason::KycBadSignature);
    }
    accepted(&signed(SECONDS - 300, BODY));
    accepted(&signed(SECONDS + 300, BODY));
    refused(&signed(SECONDS - 301, BODY), Reason::KycOutsideWindow);
    refused(&signed(SECONDS + 301, BODY), Reason::KycOutsideWindow);
    for time in ["", "+1795000000", "1795000000.0", "18446744073709551616"] {
        let signature = sign(NEW_KEY, format!("{time}.{BODY}"));
        refused(&request(time, &signature, BODY), Reason::KycOutsideWindow);
    }
}

#[test]
fn one_good_signature_of_several_is_enough() {
    let text = format!("{SECONDS}.{BODY}");
    let (good, older) = (sign(NEW_KEY, &text), sign(OLD_KEY, &text));
    let retired = sign("a retired key of some length", &text);
    let eight = [retired.as_str(); 8].join(",");
    for (headers, is_good) in [
        (vec![format!("{retired},{good}")], true),
        (vec![format!("sha256={retired}, sha256={good}")], true),
        (vec![format!("{older} {retired}")], true),
        (vec![retired.clone(), good.clone()], true),
        (vec![good.clone(), retired.clone()], true),
        (vec![good.clone(), good.clone()], true),
        (vec![format!("{retired},{retired}")], false),
        (vec![retired.clone(), String::new()], false),
        (vec![good[..32].into(), good[32..].into()], false),
        // The ninth signature is not compared.
        (vec![format!("{eight},{good}")], false),
    ] {
        let mut request = request(&SECONDS.to_string(), "", BODY);
        request.headers.remove(0);
        let signature = |it| ("x-verifymy-signature".to_owned(), it);
        request
            .headers
            .extend(headers.iter().cloned().map(signature));
        if is_good {
            // The aggregator verifies the request that travels along.
            let update = accepted(&request);
            assert_eq!(accepted(&received(&update.signed)), update, "{headers:?}");
        } else {
            refused(&request, Reason::KycBadSignature);
        }
    }
}

#[test]
fn byte_order_mark_is_signed_but_not_parsed() {
    let marked = format!("\u{feff}{BODY}");
    assert_eq!(accepted(&signed(SECONDS, &marked)).affiliate, "ann");
    let signature = sign(NEW_KEY, format!("{SECONDS}.{BODY}"));
    let unsigned = request(&SECONDS.to_string(), &signature, &marked);
    refused(&unsigned, Reason::KycBadSignature);
}

#[test]
fn invalid_messages_are_rejected() {
    let with = |from: &str, to: &str| signed(SECONDS, &BODY.replace(from, to));
    refused(&signed(SECONDS, "{}"), Reason::KycMalformedBody);
    refused(&signed(SECONDS, ""), Reason::KycMalformedBody);
    refused(
        &with("\"tier\":2", "\"tier\":\"2\""),
        Reason::KycMalformedBody,
    );
    refused(
        &with("\"tier\":2", "\"tier\":2,\"tier\":3"),
        Reason::KycMalformedBody,
    );
    refused(&with("\"tier\":2", "\"tier\":4"), Reason::KycUnknownTier);
    refused(&with("approved", "done"), Reason::KycUnknownStatus);
    refused(&with("ann", ""), Reason::KycBadAffiliate);
    refused(&with("ann", &"a".repeat(129)), Reason::KycBadAffiliate);
    refused(&with("ann", "a\\u0000"), Reason::KycBadAffiliate);
    refused(
        &with("2026-11-18T03:00:00+02:00", "yesterday"),
        Reason::KycBadTime,
    );
    refused(
        &with("2026-11-18T03:00:00+02:00", "2026-11-18T03:00:00"),
        Reason::KycBadTime,
    );
    refused(&with("2026-11-18", "2027-11-18"), Reason::KycBadTime);
    refused(&with("2026-11-18", "1969-11-18"), Reason::KycBadTime);
    refused(&with("\"id\":\"d-1\",", ""), Reason::KycBadDelivery);
    refused(&with("d-1", ""), Reason::KycBadDelivery);
}

#[test]
fn signed_header_may_contain_the_delivery_id() {
    let body = BODY.replace("\"id\":\"d-1\",", "");
    let mut in_header = signed(SECONDS, &body);
    in_header
        .headers
        .push(("x-verifymy-delivery".into(), "d-2".into()));
    refused(&in_header, Reason::KycBadDelivery);
    in_header.headers[0].1 = sign(NEW_KEY, format!("{SECONDS}.d-2.{body}"));
    let signs_it = Variables {
        signed: "{timestamp}.{delivery}.{body}".into(),
        ..variables()
    };
    let Decision::Accept(update, _) = by(&in_header, signs_it.clone()) else {
        panic!("it is signed");
    };
    assert_eq!(update.delivery, "d-2");
    in_header.headers[2].1 = "d-3".into();
    assert!(matches!(by(&in_header, signs_it), Decision::Refuse(_)));
    let mut both = signed(SECONDS, BODY);
    both.headers
        .push(("x-verifymy-delivery".into(), "d-1".into()));
    assert_eq!(accepted(&both).delivery, "d-1");
    both.headers[2].1 = "d-2".into();
    refused(&both, Reason::KycBadDelivery);
}

#[test]
fn other_requests_are_rejected() {
    let mut other = signed(SECONDS, BODY);
    other.path = "/api/webhooks/secret".into();
    refused(&other, Reason::KycUnknownPath);
    let mut get = signed(SECONDS, BODY);
    get.method = "GET".into();
    refused(&get, Reason::KycMethodNotAllowed);
    let long = "x".repeat((64 << 10) + 1);
    refused(&signed(SECONDS, &long), Reason::KycBodyTooLarge);
    let mut unset = variables();
    unset.keys = String::new();
    is(by(&signed(SECONDS, BODY), unset), Reason::KycMisconfigured);
}

#[test]
fn tiers_are_ordered_and_the_last_is_unlimited() {
    let limits: Vec<_> = TIERS
        .iter()
        .map(|tier| (tier.number, tier.limit_cents))
        .collect();
    let dollars = |amount: i64| Some(amount * 100);
    assert_eq!(
        limits,
        [
            (0, dollars(100)),
            (1, dollars(1_000)),
            (2, dollars(10_000)),
            (3, None)
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn altered_webhooks_are_rejected(at in any::<prop::sample::Index>(), flip in 1_u8..=255, what in 0..3) {
        let mut altered = signed(SECONDS, BODY);
        match what {
            0 => { let at = at.index(altered.body.len()); altered.body[at] ^= flip; }
            which => {
                let value = &mut altered.headers[which as usize - 1].1;
                let mut bytes = value.clone().into_bytes();
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                // The case of hexadecimal digits has no meaning.
                let text = String::from_utf8_lossy(&bytes).into_owned();
                prop_assume!(!text.eq_ignore_ascii_case(value));
                *value = text;
            }
        }
        prop_assert!(matches!(by(&altered, variables()), Decision::Refuse(_)));
    }

    #[test]
    fn arbitrary_signed_bodies_do_not_panic(body in ".{0,200}", time in ".{0,24}") {
        let signature = sign(NEW_KEY, format!("{time}.{body}"));
        let decision = by(&request(&time, &signature, &body), variables());
        prop_assert!(matches!(decision, Decision::Refuse(_)));
    }

    #[test]
    fn nearly_valid_bodies_do_not_panic(
        id in ".{0,140}", affiliate in ".{0,140}", tier in any::<i64>(), time in "[0-9TZ:+.-]{0,30}",
    ) {
        let body = serde_json::json!({
            "id": id, "affiliate_id": affiliate, "status": "approved", "tier": tier, "occurred_at": time,
        });
        if let Decision::Accept(update, _) = by(&signed(SECONDS, &body.to_string()), variables()) {
            prop_assert!(update.tier <= 3 && (1..=128).contains(&update.delivery.len()));
        }
    }
}
