//! Contracts: what becomes of postbacks as each network's senders write them.
#![allow(missing_docs)]

mod common;

use common::{accepted, click, get, hmac, post};

/// Kind, its name, transaction, status, minor units, currency, answer.
type Expected = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    i64,
    &'static str,
    &'static str,
);

/// `CLICK` in the target stands for a click's id.
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
    // What takes a sale back must not be paid as an event of its own.
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
fn generic_with_words_and_names_of_its_own() {
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
fn forms_and_json_are_read_like_queries() {
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
fn signatures_are_over_the_query_as_sent() {
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
fn what_is_not_signed_is_not_believed() {
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
