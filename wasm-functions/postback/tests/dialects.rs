//! Contract tests: conversions from the postbacks of each network's senders.
#![allow(missing_docs)]

mod common;

use common::{accepted, click, decide, get, hmac, post, refused};
use postback::{Decision, Reason, Request};

/// Kind, its name, transaction, status, minor units, currency, response.
type Expected = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    i64,
    &'static str,
    &'static str,
);

/// `CLICK` in the target is replaced by a click's id.
fn is(target: &str, dialect: &str, expected: Expected) {
    let (conversion, answer) = accepted(&get(&target.replace("CLICK", &click())));
    assert_eq!(conversion.click_id, click(), "{target}");
    assert_eq!(conversion.dialect, dialect, "{target}");
    assert_eq!(conversion.address, "203.0.113.7", "{target}");
    let found = (
        &*conversion.kind,
        &*conversion.kind_name,
        &*conversion.transaction,
        &*conversion.status,
        conversion.payout_minor,
        &*conversion.currency,
        answer.as_str(),
    );
    assert_eq!(found, expected, "{target}");
}

#[test]
fn voluum() {
    let is = |query: &str, expected| {
        is(
            &format!("/postback/voluum/v-secret-01234567?{query}"),
            "voluum",
            expected,
        )
    };
    is(
        "cid=CLICK&payout=19.99&txid=v-1&currency=EUR&et=purchase&param1=x",
        ("sale", "purchase", "v-1", "approved", 1_999, "EUR", "OK"),
    );
    is("cid=CLICK", ("sale", "", "", "approved", 0, "USD", "OK"));
    is(
        "cid=CLICK&et=deposit",
        ("custom", "deposit", "", "approved", 0, "USD", "OK"),
    );
    // A reversal must not be paid as an event of its own.
    is(
        "cid=CLICK&txid=v-1&et=Declined&payout=19.99",
        ("sale", "Declined", "v-1", "rejected", 1_999, "USD", "OK"),
    );
    is(
        "cid=CLICK&txid=v-1&et=chargeback&payout=19.99",
        (
            "sale",
            "chargeback",
            "v-1",
            "chargeback",
            1_999,
            "USD",
            "OK",
        ),
    );
}

#[test]
fn keitaro() {
    let is = |query: &str, expected| {
        is(
            &format!("/4f9a1c2d4f9a1c2d/postback?{query}"),
            "keitaro",
            expected,
        )
    };
    is(
        "subid=CLICK&status=sale&payout=5&currency=usd&tid=k1&from=network",
        ("sale", "", "k1", "approved", 500, "USD", "OK"),
    );
    is(
        "subid=CLICK&status=lead&revenue=10.50&currency=EUR",
        ("sale", "", "", "pending", 1_050, "EUR", "OK"),
    );
    is(
        "subid=CLICK&status=rebill&payout=5",
        ("rebill", "", "", "approved", 500, "USD", "OK"),
    );
    is(
        "subid=CLICK&status=rejected",
        ("sale", "", "", "rejected", 0, "USD", "OK"),
    );
    let lists = "lead_status=reg,topup&sale_status=billed&rejected_status=canceled,fake";
    is(
        &format!("subid=CLICK&status=topup&{lists}"),
        ("sale", "", "", "pending", 0, "USD", "OK"),
    );
    is(
        &format!("subid=CLICK&status=Billed&payout=7&{lists}"),
        ("sale", "", "", "approved", 700, "USD", "OK"),
    );
    is(
        &format!("subid=CLICK&status=fake&{lists}"),
        ("sale", "", "", "rejected", 0, "USD", "OK"),
    );
    is(
        "subid=CLICK&status=registration&payout=1.5",
        ("lead", "", "", "approved", 150, "USD", "OK"),
    );
}

#[test]
fn everflow() {
    let token = "verification_token=e-secret-01234567";
    for path in ["/postback/everflow", "/"] {
        is(
            &format!(
                "{path}?nid=321&transaction_id=CLICK&amount=20&event_id=0&order_id=e1&{token}"
            ),
            "everflow",
            ("sale", "0", "e1", "approved", 2_000, "USD", "OK"),
        );
    }
    is(
        &format!("/?nid=321&transaction_id=CLICK&adv_event_id=17&{token}"),
        "everflow",
        ("custom", "17", "", "approved", 0, "USD", "OK"),
    );
}

#[test]
fn everflow_reversal_path_reverses_conversions() {
    let is = |query: &str, expected| {
        let target = format!("/reversal?nid=321&transaction_id=CLICK&{query}");
        let target = format!("{target}&verification_token=e-secret-01234567");
        is(&target, "everflow", expected);
    };
    is("", ("sale", "", "", "chargeback", 0, "USD", "OK"));
    is(
        "order_id=e1&event_id=0&amount=2,00",
        ("sale", "0", "e1", "chargeback", 200, "USD", "OK"),
    );
    is(
        "adv_event_id=17&status=approved",
        ("custom", "17", "", "chargeback", 0, "USD", "OK"),
    );
}

#[test]
fn refunds_state_the_reversed_amount() {
    for (target, kind_name, minor, status) in [
        (
            "/postback/voluum/v-secret-01234567?cid=CLICK&et=refund&payout=-49.99",
            "refund",
            4_999,
            "chargeback",
        ),
        (
            "/postback/voluum/v-secret-01234567?cid=CLICK&et=refund&payout=2",
            "refund",
            200,
            "chargeback",
        ),
        (
            "/postback/voluum/v-secret-01234567?cid=CLICK&status=Refunded&payout=-2.00",
            "",
            200,
            "chargeback",
        ),
        (
            "/postback/voluum/v-secret-01234567?cid=CLICK&et=declined&payout=-2.00",
            "declined",
            200,
            "rejected",
        ),
        (
            "/postback/comma/x-secret-01234567?click_id=CLICK&event=refund&payout=-1.049,99",
            "refund",
            104_999,
            "chargeback",
        ),
    ] {
        let (refund, _) = accepted(&get(&target.replace("CLICK", &click())));
        let found = (&*refund.kind_name, refund.payout_minor, &*refund.status);
        assert_eq!(found, (kind_name, minor, status), "{target}");
        assert!(refund.stated.payout && !refund.stated.kind, "{target}");
    }
}

#[test]
fn ignored_statuses_are_answered_and_not_counted() {
    let target = |query: &str| format!("/4f9a1c2d4f9a1c2d/postback?{query}");
    for (query, expected) in [
        ("status=ping&ignore_status=ping,test&return=OK", "OK"),
        ("subid=CLICK&status=Test&ignore_status=ping,+test", "OK"),
        (
            "subid=none&status=ping&ignore_status=ping&return=done+1",
            "done 1",
        ),
        // No response for a browser.
        ("status=ping&ignore_status=ping&return=%0Ax", "OK"),
    ] {
        let decision = decide(&get(&target(query).replace("CLICK", &click())));
        assert_eq!(decision, Decision::Acknowledge(expected.into()), "{query}");
    }
    let sale = target("subid=CLICK&status=sale&ignore_status=ping&return=done");
    assert_eq!(accepted(&get(&sale.replace("CLICK", &click()))).1, "done");
    for (path, reason) in [
        ("/postback/keitaro/wrong", Reason::NotAuthentic),
        ("/postback/voluum/v-secret-01234567", Reason::UnknownStatus),
    ] {
        let query = format!("subid={0}&cid={0}&status=ping&ignore_status=ping", click());
        let refused = refused(&get(&format!("{path}?{query}")));
        assert_eq!(refused.rejection.reason, reason.number(), "{path}");
    }
}

#[test]
fn html_escaped_ampersands_separate_parameters() {
    for query in [
        "cid=CLICK&amp;payout=19.99&amp;txid=A-1",
        "cid=CLICK&amp;amp;payout=19.99&AMP=1&amp;txid=A-1",
        "amp;cid=CLICK&amp%3Bpayout=19.99&amp%3btxid=A-1",
    ] {
        is(
            &format!("/postback/voluum/v-secret-01234567?{query}"),
            "voluum",
            ("sale", "", "A-1", "approved", 1_999, "USD", "OK"),
        );
    }
    // The signature's own parameter is not signed.
    let signed = format!("click_id={}&amp;payout=5", click());
    let target = format!(
        "/postback/query?{signed}&amp;sig={}",
        hmac(signed.as_bytes())
    );
    assert_eq!(accepted(&get(&target)).0.payout_minor, 500);
}

#[test]
fn amounts_follow_the_advertisers_rounding() {
    let generic = "/postback/generic?token=g-secret-01234567&click_id=CLICK&payout=";
    let strict = "/postback/strict/x-secret-01234567?click_id=CLICK&payout=";
    let comma = "/postback/comma/x-secret-01234567?click_id=CLICK&payout=";
    let everflow = "/?nid=321&verification_token=e-secret-01234567&transaction_id=CLICK&amount=";
    let point = "/postback/point/x-secret-01234567?transaction_id=CLICK&amount=";
    for (target, amount, expected) in [
        (generic, "457.31999999999999", Some((45_732, true))),
        (generic, "0.4375", Some((44, true))),
        (generic, "0.445", Some((44, true))),
        (generic, "1.9900", Some((199, false))),
        (generic, "1.5&currency=JPY", Some((2, true))),
        (generic, "12,34", None),
        (generic, "1.234,56", None),
        (strict, "457.31999999999999", Some((45_732, true))),
        (strict, "0.4375", None),
        (comma, "1.234,56", Some((123_456, false))),
        (comma, "1.234", None),
        (everflow, "12,34", Some((1_234, false))),
        (everflow, "12.34", Some((1_234, false))),
        (everflow, "1.234,5678", Some((123_457, true))),
        (point, "12,34", None),
        (point, "1.234", Some((123, true))),
    ] {
        let request = get(&format!("{target}{amount}").replace("CLICK", &click()));
        let Some((minor, rounded)) = expected else {
            let refused = refused(&request);
            assert_eq!(refused.rejection.reason, 109, "{target}{amount}");
            continue;
        };
        let (conversion, _) = accepted(&request);
        assert_eq!(conversion.payout_minor, minor, "{target}{amount}");
        let sent = amount.split('&').next().filter(|_| rounded);
        assert_eq!(
            conversion.payout_as_sent,
            sent.unwrap_or_default(),
            "{amount}"
        );
    }
    let json = format!(
        r#"{{"click_id":"{}","payout":19.990000000000002}}"#,
        click()
    );
    let target = "/postback/generic?token=g-secret-01234567";
    let (conversion, _) = accepted(&post(target, "application/json", &json));
    let found = (conversion.payout_minor, &*conversion.payout_as_sent);
    assert_eq!(found, (1_999, "19.990000000000002"));
}

#[test]
fn unread_parameters_are_never_validated() {
    let target = "/postback/generic?token=g-secret-01234567";
    let sale = format!("click_id={}&payout=5&transaction_id=a1", click());
    let plain = accepted(&get(&format!("{target}&{sale}")));
    for other in [
        "city=%CF%F0%E8%E2%E5%F2".to_owned(),
        "note=one%0D%0Atwo%00".into(),
        format!("note={}", "x".repeat(600)),
        format!("{}=1", "x".repeat(600)),
        "%FF=1&{aff_sub}={aff_sub}".into(),
        "a=b&".repeat(200),
    ] {
        let request = get(&format!("{target}&{other}&{sale}"));
        assert_eq!(accepted(&request), plain, "{other}");
        let form = post(
            target,
            "application/x-www-form-urlencoded",
            &format!("{sale}&{other}"),
        );
        assert_eq!(accepted(&form), plain, "{other}");
    }
    let mut encoded = post(target, "", &format!("{sale}&city="));
    encoded.body.extend(b"\xcf\xf0");
    assert_eq!(accepted(&encoded), plain);
    let fields = format!(
        r#""click_id":"{}","payout":5,"transaction_id":"a1""#,
        click()
    );
    for other in [
        r#""items":[{"sku":"a","tags":[1]}],"customer":{"name":{"first":"A"}}"#.to_owned(),
        format!(r#""note":"{}\n\u0000","half":"\ud800""#, "x".repeat(600)),
    ] {
        let json = post(target, "application/json", &format!("{{{fields},{other}}}"));
        assert_eq!(accepted(&json), plain, "{other}");
    }
    let mut latin = post(
        target,
        "application/json",
        &format!("{{{fields},\"city\":\"?\"}}"),
    );
    let mark = latin
        .body
        .iter()
        .position(|byte| *byte == b'?')
        .expect("found");
    latin.body[mark] = 0xe4;
    assert_eq!(accepted(&latin), plain);
}

#[test]
fn byte_order_marks_of_bodies_are_skipped() {
    let sale = format!("click_id={}&payout=5", click());
    let json = format!(r#"{{"click_id":"{}","payout":5}}"#, click());
    for (kind, body) in [
        ("application/x-www-form-urlencoded", sale.as_str()),
        ("", &sale),
        ("application/json", &json),
    ] {
        let body = format!("\u{feff}{body}");
        let target = "/postback/generic?token=g-secret-01234567";
        assert_eq!(accepted(&post(target, kind, &body)).0.payout_minor, 500);
        let mut signed = post("/postback/body", kind, &body);
        let header = |signature| ("x-signature".to_owned(), signature);
        signed.headers.push(header(hmac(body.as_bytes())));
        assert_eq!(accepted(&signed).0.payout_minor, 500, "{kind}");
        signed.headers[1] = header(hmac(body.trim_start_matches('\u{feff}').as_bytes()));
        let refused = refused(&signed);
        assert_eq!(refused.rejection.reason, 103, "what was sent is signed");
    }
}

#[test]
fn get_with_body_is_parsed_like_post() {
    let body = format!("click_id={}&payout=5", click());
    let mut request = post("/postback/generic?token=g-secret-01234567", "", &body);
    request.method = "GET".into();
    request.headers = vec![("content-type".into(), String::new())];
    assert_eq!(accepted(&request).0.payout_minor, 500);
    let none = Request {
        body: Vec::new(),
        ..request
    };
    assert_eq!(refused(&none).rejection.reason, 104);
}

#[test]
fn tune() {
    is(
        "/aff_lsr?adv=tune&offer_id=26&transaction_id=CLICK&amount=7.25&adv_sub=t1",
        "tune",
        ("sale", "", "t1", "approved", 725, "USD", "success=true;"),
    );
    is(
        "/aff_goal?a=lsr&adv=tune&goal_id=11&transaction_id=CLICK",
        "tune",
        ("custom", "11", "", "approved", 0, "USD", "success=true;"),
    );
    let mut v6 = get(&format!(
        "/aff_l?advertiser=tune&transaction_id={}",
        click()
    ));
    v6.client = postback::Request::client_of("[2001:db8::7]:4711");
    assert_eq!(accepted(&v6).0.address, "2001:db8::7");
}

#[test]
fn affise() {
    let is = |query: &str, expected| {
        is(
            &format!("/postback/affise?secure=a-secret-01234567&{query}"),
            "affise",
            expected,
        )
    };
    for (number, status) in [
        ("1", "approved"),
        ("2", "pending"),
        ("3", "rejected"),
        ("5", "hold"),
    ] {
        is(
            &format!("clickid=CLICK&action_id=f1&sum=30&currency=EUR&status={number}&goal=2"),
            ("custom", "2", "f1", status, 3_000, "EUR", "OK"),
        );
    }
    is(
        "click_id=CLICK&goal=reg",
        ("lead", "reg", "", "approved", 0, "EUR", "OK"),
    );
}

#[test]
fn binom() {
    let is = |query: &str, expected| {
        is(
            &format!("/postback/binom/b-secret-01234567?{query}"),
            "binom",
            expected,
        )
    };
    is(
        "cnv_id=CLICK&payout=3&cnv_status=approve&cnv_currency=GBP",
        ("sale", "", "", "approved", 300, "GBP", "OK"),
    );
    is(
        "cnv_id=CLICK&cnv_status=Hold",
        ("sale", "", "", "hold", 0, "USD", "OK"),
    );
    is(
        "cnv_id=CLICK&cnv_status=trash",
        ("sale", "", "", "rejected", 0, "USD", "OK"),
    );
    for word in ["signup", "lead", "Lead"] {
        is(
            &format!("cnv_id=CLICK&payout=2&cnv_status={word}"),
            ("lead", "", "", "approved", 200, "USD", "OK"),
        );
    }
}

#[test]
fn redtrack() {
    is(
        "/postback/redtrack/r-secret-01234567?clickid=CLICK&sum=1500&currency=JPY&type=Purchase&txid=r1",
        "redtrack",
        ("sale", "Purchase", "r1", "approved", 1_500, "JPY", "OK"),
    );
}

#[test]
fn cake() {
    is(
        "/postback/cake/c-secret-01234567?a=1&t=123456&r=CLICK&f=pb&e=123&eccu=USD&ect=72.80&p=61.00",
        "cake",
        ("custom", "123", "123456", "approved", 6_100, "USD", "1"),
    );
}

#[test]
fn generic_dialect_accepts_custom_words_and_names() {
    is(
        "/postback/generic?token=g-secret-01234567&click_id=CLICK&transaction_id=a1&payout=10.5&status=1&event=quiz",
        "generic",
        ("lead", "quiz", "a1", "approved", 1_050, "USD", "OK"),
    );
    is(
        "/postback/own/o-secret-01234567?ref=CLICK&commission=0.01&event=upsell",
        "generic",
        ("upsell", "upsell", "", "approved", 1, "USD", "OK"),
    );
}

#[test]
fn forms_and_json_are_parsed_like_queries() {
    let target = "/postback/generic?token=g-secret-01234567";
    let form = format!(
        "click_id={}&payout=1.25&transaction_id=a+b%2Fc\r\n",
        click()
    );
    let form = post(
        target,
        "application/x-www-form-urlencoded; charset=utf-8",
        &form,
    );
    let json = format!(
        r#"{{"token":"g-secret-01234567","click_id":"{}","payout":1.25,"transaction_id":"a b/c","x":null}}"#,
        click()
    );
    let json = post("/postback/generic", "application/json", &json);
    assert_eq!(accepted(&form), accepted(&json));
    let conversion = accepted(&form).0;
    assert_eq!(
        (conversion.payout_minor, &*conversion.transaction),
        (125, "a b/c")
    );
}

#[test]
fn signatures_cover_the_query_as_sent() {
    let signed = format!(
        "click_id={}&currency=JPY&payout=1500&transaction_id=a%20b",
        click()
    );
    let signature = hmac(signed.as_bytes());
    for query in [
        format!("{signed}&sig={signature}"),
        format!("sig={}&{signed}", signature.to_uppercase()),
        format!("{signed}&sig=sha256={signature}"),
    ] {
        let (conversion, _) = accepted(&get(&format!("/postback/query?{query}")));
        assert_eq!(
            (conversion.payout_minor, &*conversion.currency),
            (1_500, "JPY")
        );
    }
}

#[test]
fn unsigned_parameters_are_ignored() {
    let body = format!("click_id={}&payout=10", click());
    let signed = |target: &str| {
        let mut request = post(target, "application/x-www-form-urlencoded", &body);
        request
            .headers
            .push(("x-signature".into(), hmac(body.as_bytes())));
        request
    };
    let (conversion, _) = accepted(&signed(
        "/postback/body?payout=1000&status=hold&currency=KWD",
    ));
    let found = (
        conversion.payout_minor,
        &*conversion.status,
        &*conversion.currency,
    );
    assert_eq!(found, (1_000, "approved", "USD"));
    let query = format!("click_id={}", click());
    let target = format!("/postback/query?{query}&sig={}", hmac(query.as_bytes()));
    let smuggled = post(&target, "application/json", r#"{"payout": 1000}"#);
    assert_eq!(accepted(&smuggled).0.payout_minor, 0);
}

#[test]
fn clicks_of_a_rotated_key_still_convert() {
    let older = common::click_of(common::NOW.0 - common::DAY, 2, 0x22);
    let (conversion, _) = accepted(&get(&format!(
        "/postback/voluum/v-secret-01234567?cid={older}"
    )));
    assert_eq!(conversion.click_id, older);
}
