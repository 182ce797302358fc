//! What settings may contain: each fault is found, with its number and its field.

use crate::support::{NETWORK, START, TestCatalog, advertiser, both, from_json, reasons};
use catalog::*;
use serde_json::{Value, json};

/// Valid settings of a kind, changed at one place.
fn changed(valid: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = valid.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = changed.pointer_mut(parent).expect("the parent");
    match (parent.as_array_mut(), key.parse::<usize>()) {
        (Some(list), Ok(index)) if index < list.len() => list[index] = value,
        (Some(list), _) => list.push(value),
        (None, _) => parent[key] = value,
    }
    changed
}

struct Case {
    valid: Value,
    /// Field, value, reason, and the field of the fault if it is another one.
    faults: Vec<(&'static str, Value, Reason, &'static str)>,
}

fn networks() -> Case {
    Case {
        valid: json!({
            "name": "Fanz <script>alert(1)</script>", "brand": { "title": "F", "color": "#00ffAA" },
            "domains": ["Bücher.example", "go.example"], "time_zone": "europe/oslo", "currency": "eur",
        }),
        faults: vec![
            ("/name", json!(""), Reason::InvalidName, ""),
            ("/name", json!(" x"), Reason::InvalidName, ""),
            ("/name", json!("a\u{7}b"), Reason::InvalidName, ""),
            ("/name", json!("x".repeat(121)), Reason::InvalidName, ""),
            ("/brand/color", json!("red"), Reason::InvalidText, ""),
            (
                "/brand/logo_url",
                json!("javascript:x"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/domains/1",
                json!("https://x.example"),
                Reason::InvalidDomain,
                "",
            ),
            (
                "/domains/1",
                json!("x.example:80"),
                Reason::InvalidDomain,
                "",
            ),
            ("/domains/1", json!("192.0.2.1"), Reason::InvalidDomain, ""),
            ("/domains/1", json!("-x.example"), Reason::InvalidDomain, ""),
            ("/domains/1", json!("a..example"), Reason::InvalidDomain, ""),
            ("/domains/1", json!(""), Reason::InvalidDomain, ""),
            ("/domains/1", json!("BÜCHER.example"), Reason::Repeated, ""),
            (
                "/domains",
                json!(vec!["x.example"; 201]),
                Reason::WrongCount,
                "",
            ),
            (
                "/time_zone",
                json!("Mars/Olympus"),
                Reason::InvalidTimeZone,
                "",
            ),
            ("/currency", json!("DOGE"), Reason::InvalidCurrency, ""),
            ("/currency", json!("XAU"), Reason::InvalidCurrency, ""),
        ],
    }
}

fn advertisers() -> Case {
    Case {
        valid: json!({
            "name": "shop", "postback_name": "shop", "dialect": "everflow", "currency": "usd",
            "auth": [
                { "secret_path": { "secret": "path" } },
                { "secret_parameter": { "name": "token", "secret": "token" } },
                { "hmac": { "secret": "key", "over": "query", "header": "x-signature", "timestamp": "ts" } },
                { "addresses": { "networks": ["203.0.113.0/24", "2001:db8::/32"] } },
            ],
            "auth_mode": "all", "path_keys": ["first"], "max_click_age_days": 30,
            "conversions": { "all": true }, "max_payout": { "usd": 50_000 },
            "parameters": { "payout": "sum" }, "status_words": { "approved": ["ok", "paid"] },
            "event_words": { "lead": ["signup"] }, "response": "OK", "decimal_comma": true, "rounding": "refuse",
        }),
        faults: vec![
            ("/postback_name", json!("a b"), Reason::InvalidText, ""),
            ("/postback_name", json!("17"), Reason::InvalidText, ""),
            ("/dialect", json!("genric"), Reason::UnknownWord, ""),
            ("/currency", json!("US"), Reason::InvalidCurrency, ""),
            (
                "/auth/0/secret_path/secret",
                json!(""),
                Reason::InvalidText,
                "",
            ),
            (
                "/auth/1/secret_parameter/name",
                json!(""),
                Reason::InvalidName,
                "",
            ),
            (
                "/auth/2/hmac/parameter",
                json!("p"),
                Reason::Contradiction,
                "/auth/2/hmac",
            ),
            (
                "/auth/2/hmac/header",
                json!(null),
                Reason::Contradiction,
                "/auth/2/hmac",
            ),
            (
                "/auth/2/hmac/window_seconds",
                json!(0),
                Reason::OutOfRange,
                "",
            ),
            (
                "/auth/3/addresses/networks",
                json!([]),
                Reason::WrongCount,
                "",
            ),
            ("/path_keys/1", json!("first"), Reason::Repeated, ""),
            ("/max_click_age_days", json!(0), Reason::OutOfRange, ""),
            (
                "/conversions/links",
                json!([7]),
                Reason::UnknownReference,
                "/conversions/links/0",
            ),
            (
                "/conversions/offers",
                json!([7]),
                Reason::UnknownReference,
                "/conversions/offers/0",
            ),
            ("/max_payout/DOGE", json!(1), Reason::InvalidCurrency, ""),
            ("/max_payout/eur", json!(-1), Reason::OutOfRange, ""),
            (
                "/max_payout/USD",
                json!(1),
                Reason::Repeated,
                "/max_payout/usd",
            ),
            ("/parameters/price", json!("p"), Reason::UnknownWord, ""),
            ("/status_words/paid", json!(["x"]), Reason::UnknownWord, ""),
            ("/event_words/signup", json!(["x"]), Reason::UnknownWord, ""),
            ("/response", json!("a\nb"), Reason::InvalidText, ""),
        ],
    }
}

fn offers() -> Case {
    Case {
        valid: json!({
            "name": "shoes", "advertiser": 1, "description": "two\nlines", "access": "on_approval",
            "preview_url": "https://shop.example/", "fallback": "https://shop.example/closed",
            "destinations": [
                { "name": "main", "url": "https://shop.example/?c={click_id}&s={_sub10}" },
                { "name": "b", "url": "http://bücher.example/" },
            ],
            "countries": ["no", "SE"], "starts": "2027-01-01T00:00:00Z", "ends": "2027-02-01T00:00:00+01:00",
            "caps": [
                { "metric": "clicks", "period": "day", "limit": 100 },
                { "metric": "payout", "period": "month", "limit": 100, "currency": "eur" },
            ],
        }),
        faults: vec![
            ("/advertiser", json!(7), Reason::UnknownReference, ""),
            ("/platform", json!(7), Reason::UnknownReference, ""),
            ("/description", json!("a\tb"), Reason::InvalidText, ""),
            (
                "/preview_url",
                json!("https://x.example/{click_id}"),
                Reason::InvalidUrl,
                "",
            ),
            ("/destinations", json!([]), Reason::WrongCount, ""),
            (
                "/destinations/1/name",
                json!("main"),
                Reason::Repeated,
                "/destinations/1",
            ),
            (
                "/destinations/1/url",
                json!("ftp://x.example/"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/destinations/1/url",
                json!("https://{sub1}.example/"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/destinations/1/url",
                json!("https://x.example/{payout}"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/destinations/1/url",
                json!("https://me@x.example/"),
                Reason::InvalidUrl,
                "",
            ),
            ("/fallback", json!("//x.example"), Reason::InvalidUrl, ""),
            ("/countries/1", json!("UK"), Reason::InvalidCountry, ""),
            ("/countries/1", json!("NO"), Reason::Repeated, ""),
            (
                "/ends",
                json!("2027-01-01T00:00:00Z"),
                Reason::InvalidPeriod,
                "",
            ),
            ("/caps/0/currency", json!("EUR"), Reason::Contradiction, ""),
            ("/caps/1/currency", json!(null), Reason::Contradiction, ""),
            ("/caps/1/limit", json!(-1), Reason::OutOfRange, ""),
            (
                "/caps/1",
                json!({ "metric": "clicks", "period": "day", "limit": 1 }),
                Reason::Repeated,
                "",
            ),
        ],
    }
}

fn affiliates() -> Case {
    Case {
        valid: json!({
            "name": "ann", "kyc_tier": 3, "payout": { "method": "wise", "currency": "nok", "minimum_minor": 5_000 },
            "postback": {
                "url": "https://ann.example/?p={payout}#part", "statuses": ["approved"], "events": ["sale"],
            },
        }),
        faults: vec![
            ("/kyc_tier", json!(4), Reason::OutOfRange, ""),
            ("/payout/currency", json!("?"), Reason::InvalidCurrency, ""),
            ("/payout/minimum_minor", json!(-1), Reason::OutOfRange, ""),
            (
                "/postback/url",
                json!("https://ann.example/{asn}"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/postback/statuses/0",
                json!("paid"),
                Reason::UnknownWord,
                "",
            ),
            ("/postback/events/1", json!("sale"), Reason::Repeated, ""),
        ],
    }
}

fn creatives() -> Case {
    Case {
        valid: json!({
            "name": "banner", "offer": 1, "landing_page": "https://shop.example/{link}", "test_group": "a",
            "content": { "image": { "url": "https://shop.example/a.png", "width": 300, "height": 250 } },
        }),
        faults: vec![
            ("/offer", json!(7), Reason::UnknownReference, ""),
            ("/content/image/width", json!(0), Reason::OutOfRange, ""),
            (
                "/content/image/url",
                json!("data:x"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/content",
                json!({ "text": { "text": "a\u{0}" } }),
                Reason::InvalidText,
                "/content/text/text",
            ),
            ("/landing_page", json!("x"), Reason::InvalidUrl, ""),
            ("/test_group", json!(""), Reason::InvalidName, ""),
        ],
    }
}

fn links() -> Case {
    Case {
        valid: json!({
            "slug": "aZ09-_.", "campaign": 1, "destination": "https://shop.example/{campaign}", "code": 307,
            "fallback": "https://shop.example/", "pass_query": true, "append_click_id": false,
        }),
        faults: vec![
            ("/slug", json!(""), Reason::InvalidSlug, ""),
            ("/slug", json!("a b"), Reason::InvalidSlug, ""),
            ("/slug", json!("ü"), Reason::InvalidSlug, ""),
            ("/slug", json!("x".repeat(65)), Reason::InvalidSlug, ""),
            ("/campaign", json!(7), Reason::UnknownReference, ""),
            ("/creative", json!(7), Reason::UnknownReference, ""),
            ("/domain", json!("a b"), Reason::InvalidDomain, ""),
            ("/domain", json!("other.example"), Reason::UnknownDomain, ""),
            ("/destination", json!("mailto:x"), Reason::InvalidUrl, ""),
            (
                "/fallback",
                json!("https://x.example/{nope}"),
                Reason::InvalidUrl,
                "",
            ),
            (
                "/offer_destination",
                json!("main"),
                Reason::Contradiction,
                "",
            ),
            ("/code", json!(200), Reason::OutOfRange, ""),
        ],
    }
}

/// Checks each change of valid settings; none is kept.
async fn check<K: Editable>(test: &TestCatalog, scope: Scope, case: Case) {
    for (field, value, reason, place) in &case.faults {
        let wrong: K = from_json(changed(&case.valid, field, value.clone()));
        let refused = test.write_in(scope, START, async |writer| writer.create(wrong).await);
        let place = if place.is_empty() { field } else { place };
        let found = reasons(refused.await);
        assert!(
            found.contains(&(*reason, (*place).to_owned())),
            "{field} {value}: {found:?}"
        );
    }
    // The settings themselves can be created, and their canonical form is valid, too.
    let valid: K = from_json(renamed(&case.valid));
    let written = test.write_in(scope, START, async |writer| {
        let created = writer.create(valid).await?;
        let (id, revision) = (created.id, created.revision);
        let again = writer
            .update(id, revision, created.settings.clone())
            .await?;
        Ok((created, again))
    });
    let (created, again) = written.await.expect("valid");
    assert_eq!(created, again);
}

/// The names that the parents have already.
fn renamed(valid: &Value) -> Value {
    let mut valid = valid.clone();
    if let Some(name) = valid.get_mut("name") {
        *name = json!(format!("{} 2", name.as_str().expect("a text")));
    }
    valid
}

#[tokio::test]
async fn each_fault_has_its_number_and_field() {
    for test in both().await {
        let parents = test.campaign().await;
        assert_eq!((parents.offer.id.0, parents.campaign.id.0), (1, 1));
        check::<Network>(&test, Scope::Installation, networks()).await;
        check::<Advertiser>(&test, NETWORK, advertisers()).await;
        check::<Offer>(&test, NETWORK, offers()).await;
        check::<Affiliate>(&test, NETWORK, affiliates()).await;
        check::<Creative>(&test, NETWORK, creatives()).await;
        check::<Link>(&test, NETWORK, links()).await;
    }
}

#[tokio::test]
async fn settings_are_stored_in_their_canonical_form() {
    for test in both().await {
        let network: Network = from_json(networks().valid);
        let created = test.write_in(Scope::Installation, START, async |writer| {
            writer.create(network).await
        });
        let settings = created.await.expect("valid").settings;
        assert_eq!(settings.name, "Fanz <script>alert(1)</script>");
        assert_eq!(settings.domains, ["xn--bcher-kva.example", "go.example"]);
        let names = (&*settings.time_zone, &*settings.currency);
        assert_eq!(names, ("Europe/Oslo", "EUR"));
        let advertiser: Advertiser = from_json(advertisers().valid);
        let advertiser = test.create(advertiser).await;
        let maximum: Vec<_> = advertiser.settings.maximum_payouts().collect();
        let maximum = (maximum[0].minor, maximum[0].currency.code());
        assert_eq!(maximum, (50_000, "USD"));
    }
}

#[tokio::test]
async fn all_faults_are_found_at_once() {
    for test in both().await {
        let mut wrong = advertiser("");
        wrong.dialect = "x".to_owned();
        wrong.max_click_age_days = 0;
        let refused = test.write(START, async |writer| writer.create(wrong).await);
        let refused = refused.await;
        let message = format!("{}", refused.as_ref().expect_err("refused"));
        assert_eq!(
            message,
            "/name: a name has 1 to 120 characters, no control or invisible characters, and no white space at its ends \
             (reason 1020); /dialect: \"x\" is not known; write one of generic, voluum, keitaro, everflow, tune, \
             affise, binom, redtrack, cake (reason 1032); /max_click_age_days: 0 is out of range; 1 to 3650 are \
             possible (reason 1028)"
        );
        assert_eq!(reasons(refused).len(), 3);
    }
}
