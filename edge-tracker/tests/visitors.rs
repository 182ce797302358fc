//! Responses of a real edge to visitors, over real sockets.
#![allow(missing_docs)]

mod harness;

use daemon::files::SETTLE_TIME;
use harness::{CHROME, Edge};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tracking_events::CLICK_ID_CHARS;

#[test]
fn link_redirects_to_its_destination_with_a_click_id() {
    let edge = Edge::start();
    let headers = [
        ("User-Agent", CHROME),
        ("Accept-Language", "de-DE,de;q=0.9"),
    ];
    let response = edge.request("GET", "/c/spring?sub1=a%20b%26c", &headers);
    assert_eq!(response.status, 302);
    assert!(
        response
            .header("cache-control")
            .is_some_and(|value| value.contains("no-store"))
    );
    let location = response.location();
    let rest = location
        .strip_prefix("https://shop.example/offer-1?cid=")
        .expect("the destination");
    let (id, rest) = rest.split_at(CLICK_ID_CHARS);
    assert!(
        id.starts_with(|first: char| first.is_ascii_alphabetic()),
        "{id}"
    );
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    assert_eq!(rest, "&s=a%20b%26c&l=de-de&d=desktop&ip=127.0.0.0");

    let response = edge.get("/c/plain?utm=x&sub1=y");
    assert_eq!(response.status, 307);
    let location = response.location();
    assert!(
        location.starts_with("https://shop.example/p?click_id="),
        "{location}"
    );
    assert!(location.ends_with("&utm=x#top"), "{location}");
    assert_eq!(edge.metric("edge_lost_total", ""), 0);
    assert_eq!(edge.metric("edge_click_log_seconds_count", ""), 2);
}

#[test]
fn pixel_is_a_transparent_gif() {
    let edge = Edge::start();
    let response = edge.get("/i/spring.gif");
    assert_eq!((response.status, response.body.len()), (200, 43));
    assert!(response.body.starts_with(b"GIF89a\x01\0\x01\0"));
    assert_eq!(response.header("content-type"), Some("image/gif"));
    assert!(
        response
            .header("cache-control")
            .is_some_and(|value| value.contains("no-store"))
    );
}

#[test]
fn head_and_prefetch_requests_are_served_and_marked() {
    let edge = Edge::start();
    let head = edge.request("HEAD", "/c/spring", &[("User-Agent", CHROME)]);
    assert_eq!((head.status, head.body.len()), (302, 0));
    // A browser that does not keep to the standard may show its visitor an error.
    let headers = [("User-Agent", CHROME), ("Purpose", "prefetch")];
    assert_eq!(edge.request("GET", "/c/spring", &headers).status, 302);
    assert_eq!(edge.metric("edge_marked_total", "\"head\""), 1);
    assert_eq!(edge.metric("edge_marked_total", "\"prefetch\""), 1);
    // Neither made the visit that follows a repeat; the one after it is.
    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.metric("edge_marked_total", "\"repeated\""), 0);
    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.metric("edge_marked_total", "\"repeated\""), 1);
    assert_eq!(edge.get("/c/plain").status, 307);
    assert_eq!(edge.metric("edge_marked_total", "\"repeated\""), 1);
}

#[test]
fn impression_does_not_make_the_click_a_repeat() {
    let edge = Edge::start();
    assert_eq!(edge.get("/i/spring.gif").status, 200);
    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.metric("edge_marked_total", "\"repeated\""), 0);
    assert_eq!(edge.get("/i/spring.gif").status, 200);
    assert_eq!(edge.metric("edge_marked_total", "\"repeated\""), 1);
}

#[test]
fn refused_requests_get_a_reason() {
    let edge = Edge::start();
    for (method, target, status, reason) in [
        ("GET", "/c/nope", 404, "unknown_link"),
        ("GET", "/elsewhere", 404, "unknown_path"),
        ("GET", "/c/paused", 410, "link_paused"),
        ("POST", "/c/spring", 405, "method_not_allowed"),
        ("DELETE", "/i/spring.gif", 405, "method_not_allowed"),
    ] {
        let response = edge.request(method, target, &[]);
        assert_eq!(response.status, status, "{method} {target}");
        assert!(response.text().contains("(reason "), "{}", response.text());
        assert_eq!(
            edge.metric("edge_refused_total", &format!("\"{reason}\"")),
            1 + u64::from(method == "DELETE")
        );
    }
    assert_eq!(
        edge.request("POST", "/c/spring", &[]).header("allow"),
        Some("GET, HEAD")
    );
    let resting = edge.get("/c/resting");
    assert_eq!(
        (resting.status, resting.location()),
        (302, "https://shop.example/later")
    );
}

#[test]
fn visitor_stays_known_after_a_crash() {
    let edge = Edge::start();
    assert_eq!(edge.get("/c/spring").status, 302);
    let edge = Edge::start_in(edge.kill9(), "");
    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.metric("edge_marked_total", "\"repeated\""), 1);
}

#[test]
fn links_are_reloaded_and_an_invalid_file_changes_nothing() {
    let edge = Edge::start();
    let file = edge.dir.path().join("links.toml");
    // Renamed into place: at any moment the edge reads the old or the new file.
    let write = |from: &str, to: &str| {
        let aside = file.with_extension("aside");
        std::fs::write(&aside, harness::LINKS.replace(from, to)).expect("writable");
        std::fs::rename(aside, &file).expect("renamed");
    };
    write("\"spring\"", "\"summer\"\nrenamed_from = \"spring\"");
    edge.await_metric("edge_reloads_total", "outcome=\"loaded\"", 1);
    assert_eq!(
        (edge.get("/c/summer").status, edge.get("/c/spring").status),
        (302, 404)
    );
    write("{click_id}", "{clickid}");
    edge.await_metric("edge_reloads_total", "outcome=\"refused\"", 1);
    assert_eq!(edge.get("/c/summer").status, 302);
    assert!(
        edge.log().contains("there is no macro {clickid}"),
        "{}",
        edge.log()
    );
    assert!(edge.log().contains("links.toml:8"), "{}", edge.log());
}

#[test]
fn links_file_that_is_being_written_is_not_loaded() {
    let edge = Edge::start();
    let mut file = std::fs::File::create(edge.dir.path().join("links.toml")).expect("writable");
    // The start of the file is complete in itself, and lacks the link that is requested.
    let (start, end) = harness::LINKS.split_at(harness::LINKS.rfind("[[link]]").expect("links"));
    file.write_all(start.as_bytes()).expect("writable");
    let (begun, mut written, mut longest_pause) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < 3 * SETTLE_TIME {
        let status = edge.get("/c/resting").status;
        longest_pause = longest_pause.max(written.elapsed());
        // On a stalled machine the file may have settled already.
        assert!(status == 302 || longest_pause >= SETTLE_TIME, "{status}");
        file.write_all(b"# more\n").expect("writable");
        written = Instant::now();
    }
    let added = end.replace("id = 4", "id = 5").replace("resting", "added");
    file.write_all([end, &added].concat().as_bytes())
        .expect("writable");
    let deadline = written + 40 * SETTLE_TIME;
    while edge.get("/c/added").status != 302 {
        assert!(Instant::now() < deadline, "{}", edge.log());
        std::thread::sleep(SETTLE_TIME / 50);
    }
    assert_eq!(edge.get("/c/resting").status, 302);
}

#[test]
fn forwarded_address_counts_from_trusted_proxies_only() {
    let location = |edge: &Edge| {
        let headers = [("User-Agent", CHROME), ("X-Forwarded-For", "203.0.113.77")];
        edge.request("GET", "/c/spring", &headers)
            .location()
            .to_owned()
    };
    assert!(location(&Edge::start()).ends_with("ip=127.0.0.0"));
    let trusting = Edge::with("trusted_proxies = [\"127.0.0.0/8\"]");
    assert!(location(&trusting).ends_with("ip=203.0.113.0"));
}

/// Sends clicks of `slug` from one address each, and reads all responses.
fn click_from(edge: &Edge, slug: &str, addresses: impl Iterator<Item = String>) -> u64 {
    let requests: Vec<_> = addresses
        .map(|address| {
            format!(
                "GET /c/{slug} HTTP/1.1\r\nHost: go.example\r\nUser-Agent: {CHROME}\r\n\
                 X-Forwarded-For: {address}\r\n\r\n"
            )
        })
        .collect();
    let mut stream = edge.connect();
    let mut sender = stream.try_clone().expect("second handle");
    let (count, text) = (requests.len(), requests.concat());
    let sending = std::thread::spawn(move || {
        sender.write_all(text.as_bytes()).expect("sent");
        let end = sender.shutdown(std::net::Shutdown::Write);
        end.expect("connected");
    });
    let mut responses = Vec::new();
    stream.read_to_end(&mut responses).expect("response");
    sending.join().expect("sent");
    let redirects = String::from_utf8_lossy(&responses)
        .matches("HTTP/1.1 30")
        .count();
    assert_eq!(redirects, count);
    count as u64
}

#[test]
fn flood_from_one_network_makes_no_visitor_repeated() {
    let settings =
        "trusted_proxies = [\"127.0.0.0/8\"]\n[unique]\nexpected_visits = 2000\nshards = 4";
    let edge = Edge::with(settings);
    let marked = |mark: &str| edge.metric("edge_marked_total", mark);
    // A /64 is one visitor's.
    let network = |number: u32| format!("2001:db8:0:{number:x}::1");
    let flood = click_from(&edge, "plain", (0..20_000).map(network));
    // Some visits were counted, until the network's share was used up.
    let unknown = marked("\"uniqueness_unknown\"");
    assert!((flood - 100..flood).contains(&unknown), "{unknown}");
    assert_eq!(marked("\"repeated\""), 0);
    let visitor = |number: u32| format!("198.{}.{}.1", 18 + number / 250, number % 250);
    let visits = click_from(&edge, "spring", (0..400).map(visitor));
    assert_eq!(marked("\"repeated\""), 0);
    assert_eq!(marked("\"uniqueness_unknown\""), unknown);
    click_from(&edge, "spring", (0..400).map(visitor));
    assert_eq!(marked("\"repeated\""), visits);
    // Beyond the expected number of visits, a visitor that may be new is not marked repeated.
    let many = |number: u32| format!("198.{}.{}.1", 20 + number / 250, number % 250);
    click_from(&edge, "resting", (0..20_000).map(many));
    assert_eq!(marked("\"repeated\""), visits);
    assert!(marked("\"uniqueness_unknown\"") > unknown);
}

#[test]
fn shutdown_is_orderly() {
    let mut edge = Edge::start();
    assert_eq!(edge.get("/c/spring").status, 302);
    assert!(edge.stop(), "{}", edge.log());
}

#[test]
fn full_journal_redirects_visitors_and_counts_lost_events() {
    const REQUESTS: u64 = 1_500;
    let edge = Edge::with("\n[journal]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"4MiB\"");
    let sub = "x".repeat(500);
    let query: String = (1..=10)
        .map(|number| format!("&sub{number}={sub}"))
        .collect();
    let request = format!("GET /c/resting?{query} HTTP/1.1\r\nHost: go.example\r\n\r\n");
    let mut stream = edge.connect();
    let sending = {
        let mut stream = stream.try_clone().expect("second handle");
        std::thread::spawn(move || {
            for _ in 0..REQUESTS {
                stream.write_all(request.as_bytes()).expect("writable");
            }
            stream
                .shutdown(std::net::Shutdown::Write)
                .expect("connected");
        })
    };
    let mut responses = Vec::new();
    stream.read_to_end(&mut responses).expect("response");
    sending.join().expect("sent");
    let redirects = String::from_utf8_lossy(&responses)
        .matches("HTTP/1.1 302 Found")
        .count();
    assert_eq!(redirects as u64, REQUESTS);
    let (status, why) = edge.admin_page("/readyz");
    assert_eq!(status, 503);
    assert!(
        why.starts_with("not ready: journal: no room for another segment"),
        "{why}"
    );
    let lost = edge.metric("edge_lost_total", "spool_full");
    assert!(lost > 0, "the journal never filled up");
    assert_eq!(
        edge.metric("edge_click_log_seconds_count", "") + lost,
        REQUESTS
    );
}

#[test]
fn client_hints_decide_the_device_of_a_frozen_agent() {
    let edge = Edge::start();
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36";
    for (mobile, platform, device) in [
        ("?0", "\"Linux\"", "desktop"),
        ("?0", "\"Android\"", "tablet"),
        ("?1", "\"Android\"", "phone"),
    ] {
        let headers = [
            ("User-Agent", agent),
            ("Sec-CH-UA-Mobile", mobile),
            ("Sec-CH-UA-Platform", platform),
        ];
        let response = edge.request("GET", "/c/spring", &headers);
        let expected = format!("&d={device}&");
        assert!(
            response.location().contains(&expected),
            "{}",
            response.location()
        );
    }
}

#[test]
fn pixel_of_a_mail_proxy_is_marked_and_no_bot() {
    let edge = Edge::start();
    for (agent, mark) in [
        (
            "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
            "\"mail_proxy\"",
        ),
        (
            "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
            "\"bot\"",
        ),
    ] {
        let response = edge.request("GET", "/i/spring.gif", &[("User-Agent", agent)]);
        assert_eq!(response.status, 200);
        assert_eq!(edge.metric("edge_marked_total", mark), 1, "{agent}");
    }
}

/// Replaces `file` by a crawler list with one pattern.
fn write_crawlers(file: &Path, pattern: &str) {
    let aside = file.with_extension("aside");
    std::fs::write(&aside, format!("[{{\"pattern\": \"{pattern}\"}}]")).expect("writable");
    std::fs::rename(aside, file).expect("renamed");
}

#[test]
fn renewed_agent_rules_are_used_without_a_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let crawlers = dir.path().join("crawlers.json");
    write_crawlers(&crawlers, "Elder");
    std::fs::write(dir.path().join("links.toml"), harness::LINKS).expect("written");
    let edge = Edge::start_in(dir, &format!("[visitor.agents]\ncrawlers = {crawlers:?}\n"));
    let is_bot = || {
        let agent = ("User-Agent", "Mozilla/5.0 (Windows NT 10.0) Younger/1.0");
        let response = edge.request("GET", "/c/spring", &[agent]);
        response.location().contains("&d=bot&")
    };
    assert!(!is_bot());
    write_crawlers(&crawlers, "Younger");
    edge.await_metric("edge_reloads_total", "agents\",outcome=\"loaded", 1);
    assert!(is_bot());
}
