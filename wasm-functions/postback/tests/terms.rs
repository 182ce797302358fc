//! Permissions of an advertiser: clicks of its own links or offers, payouts up to a maximum, and which fields
//! count as stated. Signed requests are verified again.
#![allow(missing_docs)]

mod common;

use common::{DAY, HMAC_KEY, NOW, accepted, click, click_of, get, hmac, keys, offer, post};
use domain::{LinkId, Micros};
use postback::{Advertiser, Decision, Postback, Reason, Request, Verified};
use tracker_api::{Conversion, MAX_SIGNED_BYTES, SignedRequest, Stated};

const SECRET: &str = "secret of advertiser";

/// An entry with a secret in its path and additional settings.
fn entry(more: &str) -> String {
    format!(
        r#"{{"dialect":"generic","currency":"USD","auth":[{{"secret_path":"{SECRET}"}}]{more}}}"#
    )
}

fn by(entry: &str, request: &Request) -> Decision<Conversion<'static>> {
    let postback = Postback::read(request).expect("postback");
    postback.decide("acme", Some(entry.as_bytes()), &keys(), NOW, offer)
}

/// The number of the rejection, or 0, and the details for operators.
fn outcome(more: &str, query: &str) -> (u16, String) {
    let target = format!(
        "/postback/acme/{}?click_id={}&{query}",
        SECRET.replace(' ', "%20"),
        click()
    );
    match by(&entry(more), &get(&target)) {
        Decision::Accept(..) => (0, String::new()),
        Decision::Acknowledge(answer) => panic!("{query} was ignored: {answer}"),
        Decision::Refuse(refused) => (refused.rejection.reason, refused.rejection.detail.into()),
    }
}

#[test]
fn clicks_of_other_advertisers_links_are_refused() {
    // The click is of link 9 with the offer "spring".
    for (more, number) in [
        (r#","links":"any""#, 0),
        (r#","links":[3,9]"#, 0),
        (r#","offers":["spring"]"#, 0),
        (r#","links":[3],"offers":["autumn","spring"]"#, 0),
        (r#","links":[3]"#, Reason::ForeignClick.number()),
        (r#","offers":["autumn"]"#, Reason::ForeignClick.number()),
        ("", Reason::NothingToConvert.number()),
        (
            r#","links":[],"offers":[]"#,
            Reason::NothingToConvert.number(),
        ),
        (
            r#","links":"all""#,
            Reason::AdvertiserMisconfigured.number(),
        ),
    ] {
        assert_eq!(outcome(more, "payout=99999.00").0, number, "{more}");
    }
    let (_, told) = outcome("", "");
    assert!(told.contains("links = \"any\""), "{told}");
}

#[test]
fn unknown_link_is_retried_later() {
    let postback = get(&format!(
        "/postback/acme/{}?click_id={}",
        SECRET.replace(' ', "%20"),
        click()
    ));
    let postback = Postback::read(&postback).expect("postback");
    let entry = entry(r#","offers":["spring"]"#);
    let none = |_: LinkId| None;
    match postback.decide("acme", Some(entry.as_bytes()), &keys(), NOW, none) {
        Decision::Refuse(refused) => {
            assert_eq!((refused.rejection.reason, refused.status), (123, 503));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn payouts_above_the_maximum_are_refused() {
    let limited = r#","links":"any","max_payout":{"usd":"20.00","JPY":"3000"}"#;
    for (query, number) in [
        ("payout=20", 0),
        ("payout=20.01", 124),
        ("payout=3000&currency=JPY", 0),
        ("payout=3001&currency=JPY", 124),
        ("payout=1&currency=EUR", 124),
        ("status=rejected", 0),
        // A reversal was within the maximum when it was earned.
        ("status=refund&payout=-20.01", 0),
        ("status=chargeback&payout=1&currency=EUR", 0),
    ] {
        assert_eq!(outcome(limited, query).0, number, "{query}");
    }
    for wrong in [r#"{"USD":"20.001"}"#, r#"{"XXQ":"1"}"#, r#"{"USD":"-1"}"#] {
        let more = format!(r#","links":"any","max_payout":{wrong}"#);
        assert_eq!(outcome(&more, "payout=1").0, 102, "{wrong}");
    }
}

#[test]
fn fields_that_the_report_omits_are_not_stated() {
    let stated = |query: &str| {
        let target = format!("/postback/voluum/v-secret-01234567?cid={}&{query}", click());
        accepted(&get(&target)).0.stated
    };
    let none = Stated::default();
    let all = Stated {
        payout: true,
        currency: true,
        kind: true,
        status: true,
    };
    assert_eq!(stated("txid=1"), none);
    assert_eq!(stated("txid=1&payout=&currency="), none);
    let payout = Stated {
        payout: true,
        ..none
    };
    assert_eq!(stated("payout=0"), payout);
    assert_eq!(stated("payout=1&currency=USD&et=sale&status=approved"), all);
    // A reversal event states the status, not the event.
    let status = Stated {
        status: true,
        ..none
    };
    assert_eq!(stated("et=refund"), status);
    assert_eq!(stated("status=approved"), status);
}

fn verified(
    name: &str,
    entry: &str,
    signed: &SignedRequest<'_>,
    reported: Micros,
) -> Result<Verified, u16> {
    let request = request_of(signed);
    let postback = Postback::read(&request).expect("postback");
    let verified = postback.verify(name, Some(entry.as_bytes()), &keys(), reported, offer);
    verified.map_err(|refused| refused.rejection.reason)
}

fn request_of(signed: &SignedRequest<'_>) -> Request {
    let headers = signed.headers.iter();
    Request {
        method: signed.method.clone().into_owned(),
        path: signed.path.clone().into_owned(),
        query: signed.query.clone().into_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        body: signed.body.clone(),
        ..Request::default()
    }
}

fn signing(ways: &str, mode: &str) -> String {
    format!(
        r#"{{"dialect":"generic","currency":"USD","links":"any","auth_mode":"{mode}","auth":[{ways}]}}"#
    )
}

fn query_signed() -> Request {
    let query = format!("click_id={}&payout=5&transaction_id=t1", click());
    get(&format!(
        "/postback/acme/{}?{query}&sig={}",
        SECRET.replace(' ', "%20"),
        hmac(query.as_bytes())
    ))
}

#[test]
fn signed_reports_are_verified_again_with_the_same_result() {
    let hmac_way = format!(r#"{{"hmac":{{"key":"{HMAC_KEY}","over":"query","parameter":"sig"}}}}"#);
    let secret_way = format!(r#"{{"secret_path":"{SECRET}"}}"#);
    let address_way = r#"{"addresses":["203.0.113.0/24"]}"#;
    let all = [hmac_way.as_str(), &secret_way, address_way].join(",");
    for (ways, mode, travels) in [
        (hmac_way.as_str(), "any", true),
        (hmac_way.as_str(), "all", true),
        (all.as_str(), "all", true),
        // A sender that also shows the secret needs no signature, so that none proves it.
        (all.as_str(), "any", false),
    ] {
        let entry = signing(ways, mode);
        let Decision::Accept(mut first, _) = by(&entry, &query_signed()) else {
            panic!("{entry}");
        };
        let signed = first.signed.take();
        assert_eq!(signed.is_some(), travels, "{entry}");
        assert_eq!(first.address, "203.0.113.7");
        let requires = Advertiser::read(entry.as_bytes()).expect("entry");
        assert_eq!(requires.requires_signature(), travels, "{entry}");
        let Some(signed) = signed else { continue };
        let again = verified("acme", &entry, &signed, NOW).expect(&entry);
        first.address = "".into();
        assert_eq!((again.conversion, again.valid_once), (first, None));
        // Nothing of an altered request is accepted.
        let altered = SignedRequest {
            query: signed.query.replace("payout=5", "payout=6").into(),
            ..signed
        };
        assert_eq!(verified("acme", &entry, &altered, NOW), Err(103));
    }
}

#[test]
fn signed_sale_is_not_reversed_by_its_path() {
    let way = format!(r#"{{"hmac":{{"key":"{HMAC_KEY}","over":"query","parameter":"sig"}}}}"#);
    let entry = signing(&way, "any");
    let query = format!("adv=acme&click_id={}&payout=5&transaction_id=t1", click());
    let target =
        |path: &str, query: &str| get(&format!("{path}?{query}&sig={}", hmac(query.as_bytes())));
    assert!(matches!(
        by(&entry, &target("/postback", &query)),
        Decision::Accept(..)
    ));
    let moved = target("/reversal", &query);
    assert!(matches!(by(&entry, &moved), Decision::Refuse(it) if it.rejection.reason == 100));
    assert_eq!(
        verified("acme", &entry, &moved.signed(&[]), NOW),
        Err(Reason::UnknownPath.number())
    );
    let refund = target("/postback", &format!("{query}&status=refund"));
    let Decision::Accept(refund, _) = by(&entry, &refund) else {
        panic!("its status is signed");
    };
    assert_eq!(refund.status, "chargeback");
}

#[test]
fn signed_test_is_no_proof_of_a_sale() {
    let way = format!(r#"{{"hmac":{{"key":"{HMAC_KEY}","over":"query","parameter":"sig"}}}}"#);
    let entry = signing(&way, "any").replace("generic", "keitaro");
    let query = format!("subid={}&status=ping&ignore_status=ping", click());
    let request = get(&format!(
        "/postback/acme?{query}&sig={}",
        hmac(query.as_bytes())
    ));
    assert_eq!(by(&entry, &request), Decision::Acknowledge("OK".into()));
    assert_eq!(
        verified("acme", &entry, &request.signed(&[]), NOW),
        Err(Reason::UnknownStatus.number())
    );
}

#[test]
fn second_verification_reads_only_signed_parts() {
    // A sender that knows the secret adds an unsigned payout to a signed body.
    let ways = format!(
        r#"{{"hmac":{{"key":"{HMAC_KEY}","over":"body","header":"x-signature"}}}},{{"secret_path":"{SECRET}"}}"#
    );
    let entry = signing(&ways, "any");
    let body = format!("click_id={}", click());
    let target = format!("/postback/acme/{}?payout=99999", SECRET.replace(' ', "%20"));
    let mut request = post(&target, "application/x-www-form-urlencoded", &body);
    request
        .headers
        .push(("x-signature".into(), hmac(body.as_bytes())));
    let signed = request.signed(&["content-type", "x-signature"]);
    let again = verified("acme", &entry, &signed, NOW).expect("the body is signed");
    let again = again.conversion;
    assert_eq!((again.payout_minor, again.stated.payout), (0, false));
}

#[test]
fn signed_requests_that_do_not_fit_an_event_are_refused() {
    let with = |padding: usize| {
        let fill: Vec<String> = (0..30)
            .map(|at| format!("&p{at}={}", "x".repeat(padding / 30)))
            .collect();
        let body = format!("click_id={}{}", click(), fill.concat());
        let form = "application/x-www-form-urlencoded";
        let mut request = post("/postback/body", form, &body);
        request
            .headers
            .push(("x-signature".into(), hmac(body.as_bytes())));
        request
    };
    accepted(&with(MAX_SIGNED_BYTES - 1_000));
    let refused = common::refused(&with(MAX_SIGNED_BYTES));
    assert_eq!((refused.rejection.reason, refused.status), (125, 413));
    assert!(
        refused.body.contains("at most 14336 bytes"),
        "{}",
        refused.body
    );
}

#[test]
fn old_clicks_are_verified_as_of_their_arrival() {
    let entry = signing(
        &format!(r#"{{"hmac":{{"key":"{HMAC_KEY}","over":"query","parameter":"sig"}}}}"#),
        "any",
    );
    let query = format!("click_id={}", click_of(NOW.0 - 1_000 * DAY, 1, 0x11));
    let request = get(&format!(
        "/postback/acme?{query}&sig={}",
        hmac(query.as_bytes())
    ));
    let signed = request.signed(&[]);
    assert!(verified("acme", &entry, &signed, NOW).is_ok());
    assert!(matches!(by(&entry, &request), Decision::Refuse(it) if it.rejection.reason == 107));
}

#[test]
fn signed_times_have_a_window_and_make_requests_unique() {
    let way = format!(
        r#"{{"hmac":{{"key":"{HMAC_KEY}","over":"query","parameter":"sig","timestamp":"ts","window":60}}}}"#
    );
    let entry = signing(&way, "any");
    let seconds = NOW.0 / 1_000_000;
    let at = |time: &str| {
        let query = format!("click_id={}&payout=5{time}", click());
        get(&format!(
            "/postback/acme?{query}&sig={}",
            hmac(query.as_bytes())
        ))
    };
    let number = |request: &Request| match by(&entry, request) {
        Decision::Accept(..) => 0,
        Decision::Acknowledge(answer) => panic!("ignored: {answer}"),
        Decision::Refuse(refused) => refused.rejection.reason,
    };
    for (time, reason) in [
        (format!("&ts={seconds}"), 0),
        (format!("&ts={}", seconds - 60), 0),
        (format!("&ts={}", seconds + 60), 0),
        (format!("&ts={}", seconds - 61), 127),
        (format!("&ts={}", seconds + 61), 127),
        (format!("&ts=+{seconds}"), 127),
        ("&ts=".into(), 127),
        (String::new(), 127),
    ] {
        assert_eq!(number(&at(&time)), reason, "{time}");
    }
    let once = |request: &Request, reported: u64| {
        let signed = request.signed(&[]);
        let verified = verified("acme", &entry, &signed, Micros(reported * 1_000_000));
        verified.map(|it| it.valid_once)
    };
    let request = at(&format!("&ts={seconds}"));
    let signed = format!("click_id={}&payout=5&ts={seconds}", click());
    // Different notations of a signature are the same request.
    let mut shouted = request.clone();
    let (query, signature) = request.query.split_once("&sig=").expect("signed");
    shouted.query = format!("sig=sha256={}&{query}", signature.to_uppercase());
    for request in [&request, &shouted] {
        assert_eq!(
            once(request, seconds + 100),
            Ok(Some(signed.clone().into_bytes()))
        );
        assert_eq!(once(request, seconds + 361), Err(127));
    }
}
