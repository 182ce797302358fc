//! Rejections: their numbers, statuses, and records without secrets.
#![allow(missing_docs)]

mod common;

use common::{DAY, NOW, click, click_of, get, hmac, post, refused};
use postback::{Reason, Request};

fn is(request: &Request, reason: Reason) {
    let refused = refused(request);
    let rejection = &refused.rejection;
    assert_eq!(rejection.reason_name, reason.name(), "{request:?}");
    assert_eq!(
        (rejection.reason, rejection.status),
        (reason.number(), reason.status())
    );
    assert_eq!(refused.status, reason.status());
    let begins = format!("refused: {} {}: ", reason.number(), reason.name());
    assert!(refused.body.starts_with(&begins), "{}", refused.body);
    let texts = format!("{refused:?}");
    assert!(
        !texts.contains("-secret") && !texts.contains("4f9a1c2d4f9a1c2d"),
        "{texts}"
    );
}

fn get_is(target: &str, reason: Reason) {
    is(&get(&target.replace("CLICK", &click())), reason);
}

#[test]
fn unknown_or_unauthenticated_senders_are_rejected() {
    for target in ["/", "/aff_lsr?transaction_id=CLICK", "/postback/a%2Fb"] {
        get_is(target, Reason::UnknownAdvertiser);
    }
    for target in [
        "/postback/absent?cid=CLICK",
        "/0000000/postback?subid=CLICK",
        "/key/postback",
        "/?nid=9",
        "/gone/postback",
    ] {
        get_is(target, Reason::NotAuthentic);
    }
    for target in ["/c/spring", "/postback/a/b/c", "/favicon.ico"] {
        get_is(target, Reason::UnknownPath);
    }
    get_is(
        "/postback/open?click_id=CLICK",
        Reason::AdvertiserMisconfigured,
    );
    get_is(
        "/broken/postback?subid=CLICK",
        Reason::AdvertiserMisconfigured,
    );
    for target in [
        "/postback/generic?click_id=CLICK",
        "/postback/generic?click_id=CLICK&token=",
        "/postback/generic?click_id=CLICK&token=g-secreT",
        "/postback/generic?click_id=CLICK&token=g-secret-01234567&token=other",
        "/postback/voluum?cid=CLICK",
        "/postback/voluum/v-secre?cid=CLICK",
        "/postback/keitaro/v-secret-01234567?subid=CLICK",
        "/postback/query?click_id=CLICK&sig=00",
        "/postback/query?click_id=CLICK",
        "/postback/both?click_id=CLICK",
        "/postback/both/g-secret-01234567?click_id=CLICK",
    ] {
        get_is(target, Reason::NotAuthentic);
    }
    let mut elsewhere = get(&format!("/aff_lsr?adv=tune&transaction_id={}", click()));
    for client in ["198.51.100.7:80", "[2001:db9::1]:80", "not-an-address"] {
        elsewhere.client = Request::client_of(client);
        is(&elsewhere, Reason::NotAuthentic);
    }
    let mut both = get(&format!(
        "/postback/both/s-secret-01234567?click_id={}",
        click()
    ));
    common::accepted(&both);
    both.client = None;
    is(&both, Reason::NotAuthentic);
}

#[test]
fn failed_proof_is_shown_only_to_operators() {
    let refused = refused(&get("/postback/both/wrong"));
    assert_eq!(
        refused.rejection.detail,
        "secret_path does not hold, addresses holds"
    );
    assert!(!refused.body.contains("hold"), "{}", refused.body);
    assert_eq!(refused.rejection.party, "both");
}

#[test]
fn foreign_clicks_are_rejected() {
    let with = |id: &str| get(&format!("/postback/own/o-secret-01234567?ref={id}"));
    is(&with(""), Reason::MissingClickId);
    is(&with("abc"), Reason::MalformedClickId);
    is(&with(&"z".repeat(36)), Reason::MalformedClickId);
    is(
        &with("-P6dB-7---R0----B2Z----8-K6YHnJ7EzQh"),
        Reason::ForgedClickId,
    );
    is(
        &with(&click_of(NOW.0 - DAY, 1, 0x33)),
        Reason::ForgedClickId,
    );
    is(
        &with(&click_of(NOW.0 - DAY, 3, 0x11)),
        Reason::UnknownClickKey,
    );
    is(
        &with(&click_of(NOW.0 - 7 * DAY - 1_000, 1, 0x11)),
        Reason::ExpiredClick,
    );
    is(
        &with(&click_of(NOW.0 + 600_000_000, 1, 0x11)),
        Reason::ExpiredClick,
    );
    // The format of earlier builds.
    common::accepted(&with("-P6dB-7---R0----B2Z----8-K6YHnJ7EzQg"));
    common::accepted(&with(&click_of(NOW.0 - 7 * DAY, 1, 0x11)));
    common::accepted(&with(&click_of(NOW.0 + 60_000_000, 1, 0x11)));
}

#[test]
fn invalid_reports_are_rejected() {
    let good = "/postback/generic?token=g-secret-01234567&click_id=CLICK";
    for (more, reason) in [
        ("currency=XXQ", Reason::UnknownCurrency),
        ("currency=XAU", Reason::UnknownCurrency),
        ("payout=1.9.9", Reason::BadAmount),
        ("payout=-1", Reason::BadAmount),
        ("payout=1e3", Reason::BadAmount),
        ("payout=1,50", Reason::BadAmount),
        ("payout=99999999999999", Reason::BadAmount),
        ("payout=-5&status=pending", Reason::BadAmount),
        ("payout=-5&event=sale", Reason::BadAmount),
        ("status=maybe", Reason::UnknownStatus),
        ("event=party", Reason::UnknownEvent),
        ("payout=%7Bpayout%7D", Reason::UnexpandedMacro),
        ("transaction_id=REPLACE", Reason::UnexpandedMacro),
        ("status=%status%", Reason::UnexpandedMacro),
        ("event=#e#", Reason::UnexpandedMacro),
        ("payout=1&payout=2", Reason::AmbiguousParameter),
        ("payout=1&amount=2", Reason::AmbiguousParameter),
        ("clickid=other", Reason::AmbiguousParameter),
        ("transaction_id=%00", Reason::MalformedQuery),
        ("transaction_id=%FF", Reason::MalformedQuery),
        ("transaction_id=a%0Ab", Reason::MalformedQuery),
        ("amp;payout=1.50&payout=2", Reason::AmbiguousParameter),
    ] {
        get_is(&format!("{good}&{more}"), reason);
    }
    get_is(
        "/postback/redtrack/r-secret-01234567?clickid=CLICK&sum=1",
        Reason::UnknownCurrency,
    );
    let named = refused(&get(&format!(
        "{}&payout=(x)",
        good.replace("CLICK", &click())
    )));
    assert!(
        named.body.contains("payout holds a macro"),
        "{}",
        named.body
    );
}

#[test]
fn limits() {
    let good = "/postback/generic?token=g-secret-01234567&click_id=CLICK";
    let long = |name: &str, bytes: usize| format!("{good}&{name}={}", "x".repeat(bytes));
    get_is(&long("transaction_id", 129), Reason::ParameterTooLong);
    get_is(&long("status", 513), Reason::ParameterTooLong);
    get_is(
        &format!(
            "/postback/voluum/v-secret-01234567?cid=CLICK&et={}",
            "x".repeat(65)
        ),
        Reason::ParameterTooLong,
    );
    get_is(
        &format!("{good}{}", "&a=b".repeat(1_023)),
        Reason::TooManyParameters,
    );
    get_is(
        &format!("{good}{}", "&".repeat(8 << 10)),
        Reason::QueryTooLong,
    );
    common::accepted(&get(&long("transaction_id", 128).replace("CLICK", &click())));
    let target = good.replace("CLICK", &click());
    is(
        &post(&target, "text/xml", "<a/>"),
        Reason::UnsupportedContentType,
    );
    is(
        &post(&target, "application/json", "{"),
        Reason::MalformedQuery,
    );
    is(
        &post(&target, "application/json", r#"{"payout": {"amount": 5}}"#),
        Reason::MalformedQuery,
    );
    is(
        &post(&target, "", &"x".repeat((64 << 10) + 1)),
        Reason::BodyTooLarge,
    );
    let mut broken = post(&target, "", "");
    broken.broken = true;
    is(&broken, Reason::MalformedQuery);
    let mut put = get(&target);
    put.method = "PUT".into();
    is(&put, Reason::MethodNotAllowed);
}

#[test]
fn records_contain_no_secrets_or_personal_data() {
    let target = format!(
        "/postback/voluum/v-secret-01234567?cid={}&payout=x&email=ann%40shop.example&ip=198.51.100.9&sig={}",
        click(),
        hmac(b"x")
    );
    let rejection = refused(&get(&target)).rejection;
    let shown = format!(
        "GET /postback/voluum/***?cid={}&payout=x&email=***&ip=***&sig=***",
        click()
    );
    assert_eq!(rejection.request, shown);
    assert_eq!(
        (&*rejection.source, &*rejection.party),
        ("postback", "voluum")
    );
    assert_eq!(rejection.address, "203.0.113.7");
}

#[test]
fn unknown_advertiser_and_wrong_secret_respond_equally() {
    let unknown = refused(&get("/postback/absent/guess?click_id=x"));
    let wrong = refused(&get("/postback/both/guess?click_id=x"));
    assert_eq!((unknown.status, &unknown.body), (wrong.status, &wrong.body));
    // Operators see which one it was.
    assert_eq!(unknown.rejection.detail, "no advertiser has this name");
    assert!(wrong.rejection.detail.contains("secret_path does not hold"));
}
