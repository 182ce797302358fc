//! Mistakes of affiliates, mail programs and scripts in a link: the visitor is redirected all the same, and the row's
//! flags state the correction.
#![allow(missing_docs)]

mod harness;

use harness::{CHROME, Edge, Response, journal, parse};
use std::io::{Read as _, Write as _};
use tracking_events::Flags;

const NONE: Flags = Flags(0);
const MALFORMED: Flags = Flags::MALFORMED_QUERY;
const TRUNCATED: Flags = Flags::TRUNCATED;

/// Links with these slugs to one destination, to which unknown parameters are passed on.
fn links(slugs: &[&str]) -> String {
    let link = |(id, slug): (usize, &&str)| {
        format!(
            "[[link]]\nid = {id}\nslug = \"{slug}\"\noffer = \"o\"\ncampaign = \"c\"\naffiliate = \"a\"\n\
             destination = \"https://shop.example/?cid={{click_id}}&s={{sub1}}\"\npass_query = true\n"
        )
    };
    slugs.iter().enumerate().map(link).collect()
}

/// An edge of one worker with these links.
fn edge(links: &str, http: &str) -> Edge {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("links.toml"), links).expect("writable");
    Edge::lone_in(dir, &[], http)
}

fn head(target: &[u8], connection: &str) -> Vec<u8> {
    let end = format!(
        " HTTP/1.1\r\nHost: go.example\r\nUser-Agent: {CHROME}\r\nConnection: {connection}\r\n\r\n"
    );
    [b"GET ", target, end.as_bytes()].concat()
}

/// The response to exactly these bytes as a target.
fn click(edge: &Edge, target: &[u8]) -> Response {
    parse(&edge.raw(&head(target, "close")))
}

/// The part of the destination after the click id.
fn after_click_id(response: &Response) -> &str {
    let rest = response
        .location()
        .strip_prefix("https://shop.example/?cid=")
        .expect("the destination");
    &rest[rest.find('&').expect("parameter")..]
}

#[test]
fn malformed_queries_redirect_and_are_marked() {
    let long = "x".repeat(600);
    let kept = "x".repeat(512);
    let many = vec!["a=1"; 80].join("&");
    let cases: Vec<(Vec<u8>, String, &str, Flags)> = [
        // Long or many.
        (
            format!("sub1=a&fbclid={long}"),
            format!("&s=a&fbclid={long}"),
            "a",
            NONE,
        ),
        (
            format!("sub1={long}"),
            format!("&s={kept}"),
            &*kept,
            TRUNCATED,
        ),
        (many.clone(), format!("&s=&{many}"), "", NONE),
        // Control characters.
        (
            "sub1=a&utm_content=x%0A".into(),
            "&s=a&utm_content=x%0A".into(),
            "a",
            MALFORMED,
        ),
        (
            "sub1=hello%0D%0A".into(),
            "&s=hello".into(),
            "hello",
            MALFORMED,
        ),
        ("sub1=a%00b%7f".into(), "&s=ab".into(), "ab", MALFORMED),
        // Other encodings.
        (
            "sub1=%CF%F0%E8%E2%E5%F2".into(),
            "&s=%CF%F0%E8%E2%E5%F2".into(),
            "Ïðèâåò",
            MALFORMED,
        ),
        (
            "city=H%E4me".into(),
            "&s=&city=H%E4me".into(),
            "",
            MALFORMED,
        ),
        // Byte for byte.
        (
            "_inputs_&n=200".into(),
            "&s=&_inputs_&n=200".into(),
            "",
            NONE,
        ),
        (
            "a=%c3%bc+%2b&b=(1),[2]".into(),
            "&s=&a=%c3%bc+%2b&b=(1),[2]".into(),
            "",
            NONE,
        ),
        (
            "a=100%&b=%zz".into(),
            "&s=&a=100%&b=%zz".into(),
            "",
            MALFORMED,
        ),
        ("sub1=100%".into(), "&s=100%25".into(), "100%", MALFORMED),
        // Out of HTML.
        (
            "sub2=x&amp;sub1=hello".into(),
            "&s=hello".into(),
            "hello",
            MALFORMED,
        ),
        (
            "sub2=x&amp;y=1&amp;cid=FORGED".into(),
            "&s=&y=1".into(),
            "",
            MALFORMED,
        ),
    ]
    .into_iter()
    .map(|(query, location, sub1, flags)| (query.into_bytes(), location, sub1, flags))
    .chain([
        // Bytes that are to be encoded and are not.
        (
            b"sub1=\xe4&q=\"<>`\xc3\xbc".into(),
            "&s=%E4&q=%22%3C%3E%60%C3%BC".into(),
            "ä",
            MALFORMED,
        ),
        (b"sub1=\"a\"".into(), "&s=%22a%22".into(), "\"a\"", NONE),
    ])
    .collect();
    let edge = edge(&links(&["spring"]), "");
    for (query, location, ..) in &cases {
        let response = click(&edge, &[b"/c/spring?", &query[..]].concat());
        let query = query.escape_ascii();
        assert_eq!(response.status, 302, "{query}");
        assert_eq!(after_click_id(&response), location, "{query}");
    }
    let dir = edge.kill9();
    let mended = |flags: Flags| Flags(flags.0 & (MALFORMED.0 | TRUNCATED.0));
    let rows = journal::visits(dir.path(), 1, |visit| {
        (visit.subs[0].to_owned(), mended(visit.flags))
    });
    assert_eq!(rows.len(), cases.len());
    for ((query, _, sub1, flags), row) in cases.iter().zip(rows) {
        assert_eq!(
            row,
            ((*sub1).to_owned(), *flags),
            "{}",
            query.escape_ascii()
        );
    }
}

#[test]
fn referrer_parameter_is_truncated_like_the_header() {
    let edge = edge(&links(&["spring"]), "");
    for length in [580, 1_024, 1_025] {
        let target = format!("/c/spring?referrer={}", "x".repeat(length));
        assert_eq!(edge.get(&target).status, 302, "{length}");
    }
    let dir = edge.kill9();
    let rows = journal::visits(dir.path(), 1, |visit| {
        (visit.referrer.len(), visit.flags.any(TRUNCATED))
    });
    assert_eq!(rows, [(580, false), (1_024, false), (1_024, true)]);
}

#[test]
fn changed_paths_lead_to_the_original_link() {
    let slugs = ["spring", "LaRge", "dot.", "dot", "both", "BOTH"];
    let edge = edge(&links(&slugs), "");
    let cases: [(&[u8], Option<&str>); 32] = [
        (b"/c/spring", Some("spring")),
        (b"/c/spring/", Some("spring")),
        (b"/c/spring.", Some("spring")),
        (b"/c/spring,", Some("spring")),
        (b"/c/spring;", Some("spring")),
        (b"/c/spring:", Some("spring")),
        (b"/c/spring)", Some("spring")),
        (b"/c/spring]", Some("spring")),
        (b"/c/spring\"", Some("spring")),
        (b"/c/spring'", Some("spring")),
        (b"/c/spring%22", Some("spring")),
        (b"/c/spring).", None),
        (b"/c/springs", None),
        (b"/c/spr%69ng", Some("spring")),
        (b"/c%2Fspring", None),
        (b"//c/spring", Some("spring")),
        (b"/c//spring", Some("spring")),
        (b"/C/SPRING", Some("spring")),
        (b"/C/spring", Some("spring")),
        (b"/c/Spring", Some("spring")),
        (b"//C//SPR%49NG/", Some("spring")),
        (b"/c/large", Some("LaRge")),
        (b"/c/LARGE.", Some("LaRge")),
        // An exact match takes precedence.
        (b"/c/dot.", Some("dot.")),
        (b"/c/dot", Some("dot")),
        (b"/c/dot..", Some("dot.")),
        (b"/c/DOT.", Some("dot.")),
        // Nothing decides between the two.
        (b"/c/both", Some("both")),
        (b"/c/BOTH", Some("BOTH")),
        (b"/c/BOTH/", Some("BOTH")),
        (b"/c/Both", None),
        (b"/c/\xfc", None),
    ];
    for (path, slug) in cases {
        let response = click(&edge, path);
        let expected = if slug.is_some() { 302 } else { 404 };
        assert_eq!(response.status, expected, "{}", path.escape_ascii());
    }
    for pixel in ["/i/spring.gif", "/I/SPRING.GIF", "/i//Spring.gif/"] {
        assert_eq!(edge.get(pixel).status, 200, "{pixel}");
    }
    assert_eq!(edge.request("POST", "/c/spring/", &[]).status, 405);
    assert_eq!(edge.request("POST", "//c/spring", &[]).status, 405);
    let dir = edge.kill9();
    let rows = journal::visits(dir.path(), 1, |visit| visit.link.slug.to_owned());
    let expected: Vec<_> = cases.iter().filter_map(|(_, slug)| *slug).collect();
    assert_eq!(rows, expected);
}

#[test]
fn spaces_and_control_characters_in_targets_are_refused() {
    let edge = edge(&links(&["spring"]), "");
    for target in [
        &b"/c/spring?a=b c"[..],
        b"/c/spring?a=\t",
        b"/c/spring?a=\x7f",
    ] {
        let response = click(&edge, target);
        assert_eq!(response.status, 400, "{}", target.escape_ascii());
    }
}

#[test]
fn raw_bytes_are_escaped_in_every_request_of_a_connection() {
    let edge = edge(&links(&["spring"]), "");
    let mut stream = edge.connect();
    let mut responses = Vec::new();
    for target in [
        &b"/c/spring?a=\xe4"[..],
        b"/c/spring?b=<",
        b"/c/spring?c=%e4",
    ] {
        let head = head(target, "keep-alive");
        // Byte by byte.
        for byte in &head {
            stream.write_all(&[*byte]).expect("writable");
        }
        let mut response = [0; 2_048];
        let length = stream.read(&mut response).expect("response");
        responses.push(after_click_id(&parse(&response[..length])).to_owned());
    }
    assert_eq!(responses, ["&s=&a=%E4", "&s=&b=%3C", "&s=&c=%e4"]);
}

#[test]
fn hosts_with_a_final_dot_are_the_same() {
    let edge = edge(
        &links(&["spring"]),
        "hosts = [\"go.example\", \"other.example.\"]",
    );
    for (host, status) in [
        ("go.example.", 302),
        ("GO.example.:8080", 302),
        ("other.example", 302),
        ("go.example..", 421),
        (".", 421),
    ] {
        let headers = [("Host", host)];
        let response = edge.request("GET", "/c/spring", &headers);
        assert_eq!(response.status, status, "{host}");
    }
    let dir = edge.kill9();
    let hosts = journal::visits(dir.path(), 1, |visit| visit.host.to_owned());
    assert_eq!(hosts, ["go.example", "go.example", "other.example"]);
}

#[test]
fn international_destinations_and_308_are_served() {
    let links = links(&["spring"])
        .replace("shop.example", "www.bücher.example")
        .replace("pass_query", "code = 308\npass_query");
    let edge = edge(&links, "");
    let response = edge.get("/c/spring");
    assert_eq!(response.status, 308);
    let host = "https://www.xn--bcher-kva.example/?cid=";
    assert!(
        response.location().starts_with(host),
        "{}",
        response.location()
    );
    let encoded = links.replace("bücher", "b%C3%BCcher");
    std::fs::write(edge.dir.path().join("links.toml"), encoded).expect("writable");
    edge.await_metric("edge_reloads_total", "outcome=\"refused\"", 1);
    let log = edge.await_log("links.toml:7");
    let advice = "a host can't be percent-encoded; write www.xn--bcher-kva.example";
    assert!(log.contains(advice), "{log}");
}

#[test]
fn prefetch_is_refused_and_the_click_counts() {
    let edge = edge(&links(&["spring"]), "");
    for purpose in [
        "prefetch",
        "prefetch;prerender",
        "prefetch;anonymous-client-ip",
    ] {
        let headers = [("User-Agent", CHROME), ("Sec-Purpose", purpose)];
        let response = edge.request("GET", "/c/spring", &headers);
        assert_eq!(response.status, 503, "{purpose}");
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(
            response.text().ends_with("(reason 31)\n"),
            "{}",
            response.text()
        );
        // A pixel is served: a page does not request it again.
        assert_eq!(edge.request("GET", "/i/spring.gif", &headers).status, 200);
    }
    assert_eq!(edge.get("/c/spring").status, 302);
    assert_eq!(edge.metric("edge_refused_total", "\"prefetch\""), 3);
    assert_eq!(edge.metric("edge_marked_total", "\"prefetch\""), 6);
    let dir = edge.kill9();
    let rows = journal::visits(dir.path(), 1, |visit| (visit.status, visit.flags));
    let prefetch = (503, Flags::PREFETCH);
    assert_eq!(rows, [prefetch, prefetch, prefetch, (302, NONE)]);
}

#[test]
fn settings_of_earlier_versions_are_accepted() {
    let edge = edge(&links(&["spring"]), "max_parameters = 64");
    let many = vec!["a=1"; 80].join("&");
    assert_eq!(edge.get(&format!("/c/spring?{many}")).status, 302);
    edge.await_log("http.max_parameters has no effect");
}
