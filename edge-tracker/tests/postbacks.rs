//! Postbacks and identity webhooks in a real edge with the deployed functions: each network's dialect, and refusals.
#![allow(missing_docs)]

mod harness;

use harness::journal;
use harness::postbacks::{KYC_KEY, SECRETS, click, edge, edge_of, edge_with, hmac, said};
use harness::{Edge, parse, write_secret};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use tracking_events::Event;

#[test]
fn every_dialect_is_accepted_and_durable() {
    let edge = edge();
    let id = click(&edge);
    let targets = [
        format!(
            "/postback/plain?token=plain-secret-of-bytes&click_id={id}&transaction_id=a1&payout=10.5&status=pending&event=lead"
        ),
        format!(
            "/postback/vol/voluum-secret-of-bytes?cid={id}&payout=19.99&txid=v1&currency=EUR&et=purchase"
        ),
        format!(
            "/keitaro-key-of-bytes/postback?subid={id}&status=sale&payout=5&currency=usd&tid=k1&from=network"
        ),
        format!(
            "/postback/eve?nid=12&transaction_id={id}&amount=20&event_id=0&order_id=e1&verification_token=everflow-secret-of-bytes"
        ),
        format!("/aff_lsr?adv=tun&transaction_id={id}&amount=7.25&adv_sub=t1"),
        format!(
            "/postback/aff?clickid={id}&action_id=f1&sum=30&currency=EUR&status=5&goal=2&secure=affise-secret-of-bytes"
        ),
        format!("/postback/bin/binom-secret-of-bytes?cnv_id={id}&payout=3&cnv_status=approved"),
        format!("/postback/red/redtrack-secret-of-bytes?clickid={id}&sum=12.00&type=Purchase"),
        format!("/postback/cak/cake-secret-of-bytes?r={id}&t=c1&p=1"),
    ];
    for target in &targets {
        let response = if target.starts_with("/aff_lsr") {
            "success=true;"
        } else {
            "OK"
        };
        assert_eq!(said(&edge, target), (200, response.into()), "{target}");
    }
    let signed = format!("click_id={id}&currency=JPY&payout=1500");
    let target = format!(
        "/postback/sig?{signed}&sig={}",
        hmac("a key of some length", &signed)
    );
    assert_eq!(said(&edge, &target), (200, "OK".into()));
    let durable = "kind=\"conversion\",outcome=\"durable\"";
    assert_eq!(
        edge.metric("edge_reports_total", durable),
        targets.len() as u64 + 1
    );
    // Each is logged as its sender wrote it.
    let dir = edge.kill9();
    let logged = journal::events(dir.path(), 2, |event| match event {
        Event::Conversion(it) => {
            let code = it.payout.currency.code();
            let (status, kind) = (it.status.as_str(), it.kind.as_str());
            let (name, minor) = (it.transaction, it.payout.minor);
            assert_eq!(it.click.to_string(), id, "{name}");
            Some(format!(
                "{} {name} {minor} {code} {status} {kind}",
                it.advertiser
            ))
        }
        _ => None,
    });
    let expected = [
        "plain a1 1050 USD pending lead",
        "vol v1 1999 EUR approved sale",
        "kei k1 500 USD approved sale",
        "eve e1 2000 USD approved sale",
        "tun t1 725 USD approved sale",
        "aff f1 3000 EUR hold custom",
        "bin  300 USD approved sale",
        "red  1200 USD approved sale",
        "cak c1 100 USD approved sale",
        "sig  1500 JPY approved sale",
    ];
    assert_eq!(logged, expected);
}

#[test]
fn common_variants_of_senders_are_accepted() {
    let edge = edge();
    let id = click(&edge);
    let plain = "postback/plain?token=plain-secret-of-bytes";
    let key = "keitaro-key-of-bytes";
    let targets = [
        // An ampersand escaped for HTML, a binary rounding error, another encoding, a long unread parameter.
        format!("/{plain}&amp;click_id={id}&amp;payout=19.99"),
        format!("/{plain}&click_id={id}&payout=457.31999999999999"),
        format!(
            "/{plain}&click_id={id}&city=%CF%F0&note={}",
            "x".repeat(600)
        ),
        // Slashes around the path.
        format!("//{plain}&click_id={id}"),
        format!("//{key}/postback/?subid={id}&status=registration"),
        format!(
            "/reversal?nid=321&transaction_id={id}&verification_token=everflow-secret-of-bytes"
        ),
        format!("/postback/vol/voluum-secret-of-bytes?cid={id}&et=refund&payout=-19.99"),
    ];
    for target in &targets {
        assert_eq!(said(&edge, target), (200, "OK".into()), "{target}");
    }
    let test = format!("/{key}/postback?status=ping&ignore_status=ping,test&return=pong");
    assert_eq!(said(&edge, &test), (200, "pong".into()));
    let durable = |kind| {
        let labels = format!("kind=\"{kind}\",outcome=\"durable\"");
        edge.metric("edge_reports_total", &labels)
    };
    assert_eq!(durable("conversion"), targets.len() as u64);
    assert_eq!(durable("rejection"), 0, "a test is nothing to report");
}

/// An edge whose functions report to another host, which listens but never responds.
fn edge_of_silent_api() -> (Edge, TcpListener) {
    let silent = TcpListener::bind("127.0.0.1:0").expect("free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let elsewhere = format!("tracker_url = {{ default = \"{url}\" }}");
    let here = "tracker_url = { default = \"http://tracker.internal\" }";
    let edge = edge_of(&[here, &elsewhere], "", "limits = { wall = \"30s\" }\n");
    (edge, silent)
}

#[test]
fn report_is_sent_in_one_piece_with_its_length() {
    let (edge, api) = edge_of_silent_api();
    let target = format!(
        "/postback/plain?token=plain-secret-of-bytes&click_id={}",
        click(&edge)
    );
    let mut request = edge.connect();
    write!(request, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").expect("writable");
    let (mut report, _) = api.accept().expect("the function connects");
    let mut first = vec![0; 64 << 10];
    let bytes = report.read(&mut first).expect("readable");
    let first = String::from_utf8_lossy(&first[..bytes]).into_owned();
    let (head, body) = first.split_once("\r\n\r\n").expect("complete head");
    let length = format!("content-length: {}", body.len());
    assert!(head.to_ascii_lowercase().contains(&length), "{first}");
    assert!(body.ends_with('}'), "{first}");
}

#[test]
fn silent_api_times_out() {
    let (edge, _silent) = edge_of_silent_api();
    let id = click(&edge);
    let begun = std::time::Instant::now();
    let target = format!("/postback/plain?token=plain-secret-of-bytes&click_id={id}");
    // The function's own response: the edge would wait for 30 seconds.
    assert_eq!(said(&edge, &target), (503, "try again later\n".into()));
    let waited = begun.elapsed().as_secs();
    assert!((4..15).contains(&waited), "{waited} s");
}

#[test]
fn forms_and_json_are_read_like_queries() {
    let edge = edge();
    let id = click(&edge);
    for (kind, body) in [
        (
            "application/x-www-form-urlencoded",
            format!("click_id={id}&payout=1"),
        ),
        (
            "application/json",
            format!("{{\"click_id\":\"{id}\",\"payout\":1.25}}"),
        ),
    ] {
        let target = "/postback/plain?token=plain-secret-of-bytes";
        let response = edge.post(target, &[("Content-Type", kind)], &body);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "OK"),
            "{kind}"
        );
    }
}

#[test]
fn malformed_and_overlong_bodies_are_refused_by_number() {
    let edge = edge();
    let chunk = |bytes: usize| format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "&".repeat(bytes));
    // Above the limit of the functions, and above the edge's.
    let [long, longest] = [chunk((64 << 10) + 1), chunk((128 << 10) + 1)];
    for (path, number, too_large) in [
        ("/postback/plain?token=plain-secret-of-bytes", 115, 116),
        ("/api/webhooks/kyc/verifymy", 205, 204),
    ] {
        for (body, begins) in [
            ("zz\r\nabc\r\n0\r\n\r\n", format!("refused: {number} ")),
            (
                "ffffffffffffffffff\r\nabc\r\n",
                format!("refused: {number} "),
            ),
            (long.as_str(), format!("refused: {too_large} ")),
            (longest.as_str(), "306 function_request_too_large\n".into()),
        ] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            );
            let response = parse(&edge.raw(request.as_bytes()));
            let shown = &body[..body.len().min(40)];
            // The rest of a body that is too long is not read.
            let closes = response.header("connection") == Some("close");
            assert!(closes || body != longest, "{path} {shown:?}: {response:?}");
            assert!(
                response.text().starts_with(&begins),
                "{path} {shown:?}: {response:?}"
            );
        }
    }
    let durable = "kind=\"rejection\",outcome=\"durable\"";
    assert_eq!(edge.metric("edge_reports_total", durable), 6);
    for reason in ["\"body_too_large\"", "\"kyc_body_too_large\""] {
        assert_eq!(edge.metric("edge_rejections_total", reason), 1, "{reason}");
    }
    assert_eq!(edge.metric("edge_reports_total", "conversion"), 0);
}

#[test]
fn report_refused_by_the_edge_is_not_confirmed() {
    for replaced in [
        // Refused by the edge's own API, and not reached at all.
        [
            "tracker_token = \"{{ tracker_token }}\"",
            "tracker_token = \"another\"",
        ],
        [
            "tracker_url = { default = \"http://tracker.internal\" }",
            "tracker_url = { default = \"http://127.0.0.1:1\" }",
        ],
    ] {
        let edge = edge_with(&replaced);
        let id = click(&edge);
        let target = format!("/postback/plain?token=plain-secret-of-bytes&click_id={id}&payout=1");
        let response = edge.get(&target);
        assert_eq!(response.status, 503, "{replaced:?}: {response:?}");
        assert_eq!(response.text(), "try again later\n");
        assert!(
            response
                .head
                .to_ascii_lowercase()
                .contains("retry-after: 5")
        );
        let durable = "kind=\"conversion\",outcome=\"durable\"";
        assert_eq!(edge.metric("edge_reports_total", durable), 0);
    }
}

#[test]
fn body_of_a_get_is_read_with_any_framing() {
    let edge = edge();
    let id = click(&edge);
    let body = "payout=2";
    let whole = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n8\r\n{body}\r\n0\r\n\r\n");
    let none = "\r\n".to_owned();
    for (rest, status) in [(whole, 400), (chunked, 400), (none, 200)] {
        let request = format!(
            "GET /postback/plain?token=plain-secret-of-bytes&click_id={id}&payout=1 HTTP/1.1\r\nHost: x\r\n\
             Connection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n{rest}"
        );
        let response = parse(&edge.raw(request.as_bytes()));
        assert_eq!(response.status, status, "{rest:?}: {response:?}");
        // The body has another amount than the query.
        let refused = response.text().starts_with("refused: 119 ");
        assert_eq!(refused, status == 400, "{rest:?}: {response:?}");
    }
}

#[test]
fn invalid_postbacks_are_refused_with_their_number() {
    let edge = edge();
    let id = click(&edge);
    let forged = format!(
        "{}{}",
        &id[..id.len() - 1],
        if id.ends_with('A') { 'B' } else { 'A' }
    );
    let good = format!("/postback/plain?token=plain-secret-of-bytes&click_id={id}");
    let cases = [
        (format!("/postback/unknown?click_id={id}"), 403, 103),
        (format!("/postback/plain?click_id={id}"), 403, 103),
        (
            format!("/postback/plain?token=plain-secreT&click_id={id}"),
            403,
            103,
        ),
        (format!("/postback/far?click_id={id}"), 403, 103),
        // A secret whose `/` or `&` was lost.
        (
            format!("/postback/volvoluum-secret-of-bytes?cid={id}"),
            403,
            103,
        ),
        (
            format!("/postback/plain?click_id={id}token=plain-secret-of-bytes"),
            403,
            103,
        ),
        (format!("/postback/vol/?cid={id}"), 403, 103),
        (format!("/postback/sig?click_id={id}&sig=00"), 403, 103),
        (
            "/postback/plain?token=plain-secret-of-bytes".into(),
            400,
            104,
        ),
        (
            "/postback/plain?token=plain-secret-of-bytes&click_id=abc".into(),
            400,
            105,
        ),
        (
            format!("/postback/plain?token=plain-secret-of-bytes&click_id={forged}"),
            403,
            106,
        ),
        (format!("{good}&currency=XXQ"), 400, 108),
        (format!("{good}&payout=1.9.9"), 400, 109),
        (format!("{good}&status=maybe"), 400, 110),
        (format!("{good}&event=party"), 400, 111),
        (format!("{good}&payout=%7Bpayout%7D"), 400, 112),
        (
            format!("{good}&transaction_id={}", "y".repeat(600)),
            400,
            113,
        ),
        (format!("{good}{}", "&a=b".repeat(1_024)), 400, 114),
        (format!("{good}&transaction_id=%00"), 400, 115),
        (format!("{good}&payout=1&payout=2"), 400, 119),
    ];
    for (target, status, number) in &cases {
        let response = said(&edge, target);
        let begins = format!("refused: {number} ");
        assert!(
            response.0 == *status && response.1.starts_with(&begins),
            "{target}: {response:?}"
        );
        holds_no_secret(&response.1);
    }
    let durable = "kind=\"rejection\",outcome=\"durable\"";
    assert_eq!(
        edge.metric("edge_reports_total", durable),
        cases.len() as u64
    );
    assert_eq!(edge.metric("edge_reports_total", "conversion"), 0);
    holds_no_secret(&edge.log());
    let dir = edge.kill9();
    let logged = journal::events(dir.path(), 2, |event| match event {
        Event::Rejection(it) => {
            holds_no_secret(&format!("{} {} {}", it.party, it.detail, it.request));
            Some(it.reason)
        }
        _ => None,
    });
    let expected: Vec<u16> = cases.iter().map(|(.., number)| *number).collect();
    assert_eq!(logged, expected);
}

#[test]
fn advertisers_convert_clicks_of_their_own_offers_only() {
    let edge = edge();
    let id = click(&edge);
    let own = format!("/postback/own/own-secret-of-bytes?click_id={id}");
    let begins = |target: &str, status: u16, begins: &str| {
        let response = said(&edge, target);
        assert!(
            response.0 == status && response.1.starts_with(begins),
            "{target}: {response:?}"
        );
    };
    begins(&format!("{own}&payout=19.99"), 200, "OK");
    begins(&format!("{own}&payout=500.01"), 400, "refused: 124 ");
    let another =
        format!("/postback/another/another-secret-of-bytes?click_id={id}&payout=99999.00");
    begins(&another, 403, "refused: 121 ");
    let nothing = format!("/postback/nothing/nothing-secret-of-bytes?click_id={id}");
    begins(&nothing, 500, "refused: 122 ");
    // The link gets another offer, and is then removed.
    let links = edge.dir.path().join("links.toml");
    let moved = harness::LINKS.replace("offer-1", "offer-2");
    std::fs::write(&links, &moved).expect("written");
    edge.await_metric("edge_reloads_total", "links\",outcome=\"loaded", 1);
    begins(&own, 403, "refused: 121 ");
    let without = moved.replacen("id = 1\n", "id = 101\n", 1);
    std::fs::write(&links, without).expect("written");
    edge.await_metric("edge_reloads_total", "links\",outcome=\"loaded", 2);
    begins(&own, 503, "refused: 123 ");
}

#[test]
fn unknown_advertiser_and_wrong_secret_are_indistinguishable() {
    let edge = edge();
    let id = click(&edge);
    let responses = ["unknown", "own"].map(|name| {
        let response = edge.get(&format!(
            "/postback/{name}/a-guess-of-sixteen?click_id={id}"
        ));
        let plain = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
        let head: Vec<String> = response
            .head
            .lines()
            .filter(plain)
            .map(String::from)
            .collect();
        (response.status, response.text(), head)
    });
    assert_eq!(responses[0], responses[1]);
    assert_eq!(responses[0].0, 403);
}

#[test]
fn short_secret_is_rejected_without_being_shown() {
    let edge = edge();
    let id = click(&edge);
    let advertisers = edge.dir.path().join("advertisers.toml");
    write_secret(
        &advertisers,
        "[plain]\ndialect = \"generic\"\nlinks = \"any\"\nauth = [{ secret_path = \"short-and-secret\" }, \
         { secret_path = \"fifteen-bytes-!\" }]\n",
    );
    edge.await_metric("edge_reloads_total", "advertisers\",outcome=\"refused", 1);
    let log = edge.log();
    assert!(log.contains("at least 16 bytes"), "{log}");
    assert!(
        !log.contains("short-and") && !log.contains("fifteen-bytes"),
        "{log}"
    );
    // The active files are kept.
    let target = format!("/postback/plain?token=plain-secret-of-bytes&click_id={id}&payout=1");
    assert_eq!(said(&edge, &target), (200, "OK".into()));
}

#[test]
fn networks_that_fail_to_authenticate_get_429() {
    let settings = "trusted_proxies = [\"127.0.0.0/8\"]\n";
    let edge = edge_of(&["", ""], settings, "failures_per_minute = 5\n");
    let id = click(&edge);
    let ask = |address: &str, token: &str| {
        let target = format!("/postback/plain?token={token}&click_id={id}&payout=1");
        edge.request("GET", &target, &[("X-Forwarded-For", address)])
    };
    // A minute may end between; then the count begins again.
    let limited = (0..20).find_map(|host| {
        let response = ask(&format!("198.51.100.{host}"), "wrong");
        assert!([403, 429].contains(&response.status), "{response:?}");
        (response.status == 429).then_some(response)
    });
    let response = limited.expect("a network is limited");
    assert!(
        response.text().contains("(reason 29)"),
        "{}",
        response.text()
    );
    assert_eq!(response.header("retry-after"), Some("60"));
    let calls = edge.metric("function_calls_total", "postback");
    assert_eq!(ask("198.51.100.9", "plain-secret-of-bytes").status, 429);
    assert_eq!(edge.metric("function_calls_total", "postback"), calls);
    assert!(edge.metric("edge_refused_total", "\"too_many_failures\"") >= 2);
    // Other networks and clicks are not limited.
    assert_eq!(ask("203.0.113.9", "plain-secret-of-bytes").status, 200);
    assert_eq!(edge.get("/c/spring").status, 302);
}

fn holds_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn keys_are_rotated_while_the_edge_runs() {
    let edge = edge();
    let variables = edge.dir.path().join("variables.toml");
    let (new, body) = ("a newer key of some length", r#"{"id":"d-1"}"#);
    let number = |key: &str| {
        let time = now();
        let response = webhook(&edge, time, &hmac(key, &format!("{time}.{body}")), body);
        response.1.split(' ').nth(1).map(str::to_owned)
    };
    // Only authentic requests reach the check of the body.
    assert_eq!(number(KYC_KEY).as_deref(), Some("205"));
    assert_eq!(number(new).as_deref(), Some("202"));
    write_secret(&variables, "nonsense");
    edge.await_metric("edge_reloads_total", "functions\",outcome=\"refused", 1);
    assert_eq!(number(KYC_KEY).as_deref(), Some("205"));
    write_secret(&variables, &format!("kyc_keys = \"{new}\"\n"));
    edge.await_metric("edge_reloads_total", "functions\",outcome=\"loaded", 1);
    assert_eq!(number(new).as_deref(), Some("205"));
    assert_eq!(number(KYC_KEY).as_deref(), Some("202"));
    holds_no_secret(&edge.log());
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

fn webhook(edge: &Edge, time: u64, signature: &str, body: &str) -> (u16, String) {
    let time = time.to_string();
    let signed = [
        ("X-VerifyMy-Signature", signature),
        ("X-VerifyMy-Timestamp", time.as_str()),
    ];
    let response = edge.post("/api/webhooks/kyc/verifymy", &signed, body);
    (response.status, response.text())
}

#[test]
fn identity_webhooks_need_a_valid_signature() {
    let edge = edge();
    let now = now();
    let happened = jiff::Timestamp::from_second(now as i64 - 3_600).expect("time");
    let body = format!(
        r#"{{"id":"d-1","affiliate_id":"ann","status":"approved","tier":2,"occurred_at":"{happened}"}}"#
    );
    let body = body.as_str();
    let send = |time: u64, signature: &str, body: &str| webhook(&edge, time, signature, body);
    let sign = |time: u64, body: &str| hmac(KYC_KEY, &format!("{time}.{body}"));
    assert_eq!(send(now, &sign(now, body), body), (200, "OK\n".into()));
    let prefixed = format!("sha256={}", sign(now, body));
    assert_eq!(send(now, &prefixed, body), (200, "OK\n".into()));
    for (time, signature, body, number) in [
        (now, String::new(), body.to_owned(), 202),
        (now + 1, sign(now, body), body.to_owned(), 202),
        (now, sign(now, body), body.replace("ann", "bob"), 202),
        (now - 1_000, sign(now - 1_000, body), body.to_owned(), 203),
        (now, sign(now, "{}"), "{}".to_owned(), 205),
    ] {
        let response = send(time, &signature, &body);
        assert!(
            response.1.starts_with(&format!("refused: {number} ")),
            "{response:?}"
        );
    }
    let durable = "kind=\"kyc_update\",outcome=\"durable\"";
    assert_eq!(edge.metric("edge_reports_total", durable), 2);
}
