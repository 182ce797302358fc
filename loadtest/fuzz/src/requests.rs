//! Requests as a whole and in parts. Invariants: every answered click is logged, and redirects lead to the link's
//! host.

use crate::destinations::host_of;
use crate::input::Input;
use crate::temp_dir::temp_dir;
use arc_swap::ArcSwap;
use domain::NodeId;
use edge_tracker::click_path::{ClickPath, EdgeState, Root};
use edge_tracker::links::{self, ActiveLinks};
use edge_tracker::metrics::Metrics;
use edge_tracker::query::{self, Query, passed_on};
use edge_tracker::refusal::Refusal;
use edge_tracker::request::{self, RepairedPath, RequestHeaders, Target};
use edge_tracker::unique::{Filters, UniqueSettings};
use edge_tracker::visitor::address::{self, AddressStorage, ClientAddress, ForwardedHeader};
use edge_tracker::visitor::agent::Agents;
use edge_tracker::visitor::geo::{Geo, GeoSettings};
use edge_tracker::visitor::identity::Identity;
use edge_tracker::visitor::salt::{Ratchet, SaltState};
use event_journal::{JournalMaintenance, LaneReader, Options, frames, open_manual};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::Disk;
use tempfile::TempDir;
use tracking_events::{
    Event, FORMAT_VERSION, Flags, KeyId, KeyRing, MAX_EVENT_BYTES, MacKey, decode,
};
use trusted_clock::{EARLIEST_TIME, StepTolerance, TrustedClock};

const MAX_URL_BYTES: usize = 8 << 10;
const MAX_AGENT_BYTES: usize = 512;
const MAX_PARAMETER_BYTES: usize = 512;

/// A request in lines; `None` if the server's own parser would reject it.
fn parsed(bytes: &[u8]) -> Option<Request<()>> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines.filter(|line| !line.is_empty()) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(halves.next()?).ok()?;
        let value = HeaderValue::from_bytes(halves.next()?.trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// A method and a target, then one header per line.
pub(crate) fn request(bytes: &[u8]) {
    let Some(request) = parsed(bytes) else {
        return;
    };
    let path = request.uri().path();
    match request::parse_target(&request, MAX_URL_BYTES) {
        Ok(target) => {
            assert!(matches!(*request.method(), Method::GET | Method::HEAD));
            let again = match target {
                Target::Click(slug) => format!("/c/{slug}"),
                Target::Pixel(slug) => format!("/i/{slug}.gif"),
            };
            assert!(again.eq_ignore_ascii_case(path), "{again} of {path}");
        }
        Err(refusal) => assert!(refusal.status().is_client_error()),
    }
    let mended = RepairedPath::of(path);
    let targets = mended.iter().flat_map(RepairedPath::targets);
    targets.for_each(|target| assert!(target.slug().len() < path.len()));
    let heads = RequestHeaders::find(request.headers(), &header::FORWARDED);
    let mut text = String::from("left from before");
    if request::host(request.uri(), &heads, &mut text) {
        assert!((1..=253).contains(&text.len()));
        assert_eq!(text, text.to_ascii_lowercase());
    } else {
        assert!(text.is_empty());
    }
    request::language(&heads, &mut text);
    assert!(text.len() <= 35);
    assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    );
    let marks = request::marks(request.method(), &heads);
    assert_eq!(marks.any(Flags::HEAD), request.method() == Method::HEAD);
    assert_eq!(marks.0 & !(Flags::HEAD.0 | Flags::PREFETCH.0), 0);
    let referrer = heads.referrer();
    let (cut, taken) = query::truncate(&referrer, query::MAX_REFERRER_BYTES);
    assert!(cut.len() <= query::MAX_REFERRER_BYTES && referrer.starts_with(cut));
    assert_eq!(taken, cut.len() < referrer.len());
    let lines: Vec<_> = heads.hops().collect();
    let sent = request.headers().get_all(header::FORWARDED).iter();
    let sent: Vec<_> = sent.map(HeaderValue::as_bytes).collect();
    assert!(lines.iter().rev().eq(sent.iter()), "{lines:?} of {sent:?}");
}

/// A length limit, then the text after `?`.
pub(crate) fn query(bytes: &[u8]) {
    let mut input = Input(bytes);
    let value_bytes = 16 + usize::from(input.u8());
    let Ok(raw) = std::str::from_utf8(input.0) else {
        return;
    };
    // Earlier content must not affect the next query.
    let mut query = Query::default();
    query.read("sub1=before&other=%zz&sub9=%ff&source=b&sub8=x%ff", 1);
    query.read(raw, value_bytes);
    let expected = reference_query(raw);
    let sent = |name: &str| expected.named.get(name).map_or(&[][..], |it| it);
    for (number, (text, octets)) in query.subs().into_iter().zip(query.sub_octets()).enumerate() {
        check(
            sent(&format!("sub{}", number + 1)),
            text,
            octets,
            value_bytes,
        );
    }
    let source = (query.source(), query.source_octets());
    check(sent("source"), source.0, source.1, value_bytes);
    let external_id = (query.external_id(), query.external_id_octets());
    check(
        sent("external_id"),
        external_id.0,
        external_id.1,
        value_bytes,
    );
    assert!(query.referrer().len() <= query::MAX_REFERRER_BYTES);
    assert!(passed_on(raw).eq(expected.rest.iter().map(|it| &**it)));
    assert_eq!(query.malformed(), expected.malformed);
    let cost = std::str::from_utf8(sent("cost"));
    if let Ok(cost) = cost
        && cost.len() <= value_bytes
    {
        assert_eq!(query.cost().map(|it| it.0), reference_cost(cost));
    }
    let longest = expected.named.values().map(Vec::len).max();
    assert!(query.truncated() || longest.is_none_or(|length| length <= query::MAX_REFERRER_BYTES));
    assert!(!query.truncated() || longest.is_some_and(|length| 3 * length > value_bytes));
}

/// Asserts that a `sent` value of ours became the right text and octets.
fn check(sent: &[u8], text: &str, octets: &[u8], value_bytes: usize) {
    assert!(text.len() <= value_bytes && octets.len() <= value_bytes);
    assert!(sent.starts_with(octets));
    if std::str::from_utf8(sent).is_ok() {
        assert_eq!(text.as_bytes(), octets);
        assert!(sent.len() <= value_bytes || octets.len() + 4 > value_bytes);
        return;
    }
    assert_eq!(octets.len(), sent.len().min(value_bytes));
    for (character, byte) in text.chars().zip(sent) {
        match byte {
            0x80..=0x9f => assert!(u32::from(character) > 0xff),
            other => assert_eq!(character, char::from(*other)),
        }
    }
}

#[derive(Default)]
struct ReferenceQuery {
    named: BTreeMap<String, Vec<u8>>,
    rest: Vec<String>,
    malformed: bool,
}

/// A straightforward parser of queries.
fn reference_query(raw: &str) -> ReferenceQuery {
    let mut query = ReferenceQuery::default();
    for mut pair in raw.split('&') {
        while let Some(rest) = pair.strip_prefix("amp;") {
            query.malformed = true;
            pair = rest;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = String::from_utf8(reference_decode(name, &mut false));
        let own = name.ok().filter(|name| {
            let is_sub = (1..=10).any(|number| *name == format!("sub{number}"));
            is_sub || ["source", "external_id", "cost", "referrer"].contains(&&**name)
        });
        match own {
            Some(name) => {
                if !query.named.contains_key(&name) {
                    let mut value = reference_decode(value, &mut query.malformed);
                    value.retain(|byte| !byte.is_ascii_control());
                    query.named.insert(name, value);
                }
            }
            None => {
                reference_decode(pair, &mut query.malformed);
                if !pair.is_empty() {
                    query.rest.push(pair.to_owned());
                }
            }
        }
    }
    query
}

fn reference_decode(raw: &str, malformed: &mut bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let byte = raw.as_bytes()[at];
        let digits = raw
            .get(at + 1..at + 3)
            .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        match (byte, digits) {
            (b'%', Some(digits)) => {
                bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                at += 2;
            }
            (b'%', None) => {
                *malformed = true;
                bytes.push(b'%');
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
        at += 1;
    }
    *malformed |= std::str::from_utf8(&bytes).is_err();
    *malformed |= bytes.iter().any(u8::is_ascii_control);
    bytes
}

fn reference_cost(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part = if part.is_empty() { "0" } else { part };
    let fits = (1..=12).contains(&whole.len()) && part.len() <= 6;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (fits && digits(whole) && digits(part))
        .then(|| format!("{whole}{part:0<6}").parse().expect("18 digits"))
}

const LINKS: &str = r#"
[[link]]
id = 1
slug = "spring"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/{offer}/{_sub1}?s={sub2}&{_source}={_external_id}&c={country}&ip={ip}&t={timestamp}&b={_browser}&l={language}#{_sub3}"
pass_query = true

[[link]]
id = 2
slug = "bare"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example"
code = 307
pass_query = true

[[link]]
id = 3
slug = "resting"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://elsewhere.example/"
state = "paused"
fallback = "https://shop.example?{_sub1}"
"#;

/// A worker with its journal.
struct Edge {
    path: ClickPath,
    shared: Arc<EdgeState>,
    reader: LaneReader<Disk>,
    _upkeep: JournalMaintenance<Disk>,
    _dir: TempDir,
}

impl Edge {
    fn new() -> Self {
        let dir = temp_dir();
        let file = dir.path().join("links.toml");
        std::fs::write(&file, LINKS).expect("writable");
        let key = KeyId::new(0).expect("below 32");
        let keys = KeyRing::new(key, [(key, MacKey::new([7; 32]))]).expect("the key is there");
        let small = UniqueSettings {
            expected_visits: 10_000,
            ..UniqueSettings::default()
        };
        let shared = Arc::new(EdgeState {
            node: NodeId(1),
            links: Arc::new(ActiveLinks::new(links::load(&file).expect("links"))),
            geo: Geo::open(&GeoSettings::default()),
            agents: Agents::new(1_000, MAX_AGENT_BYTES),
            identity: Identity::fixed(
                Ratchet::new(86_400_000_000, 20_000, SaltState([9; 32])).keys(),
            ),
            filters: Filters::new(&small).expect("valid settings"),
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            clock: Arc::new(TrustedClock::new(StepTolerance::default(), EARLIEST_TIME)),
            client_address: ClientAddress::new(
                vec!["10.0.0.0/8".parse().expect("range")],
                ForwardedHeader::XForwardedFor,
            ),
            address_storage: AddressStorage::Full,
            hosts: Vec::new(),
            max_parameter_bytes: MAX_PARAMETER_BYTES,
            max_url_bytes: MAX_URL_BYTES,
            root: Root::default(),
            functions: None,
        });
        let options = Options {
            dir: dir.path().join("journal"),
            lanes: 1,
            format_version: FORMAT_VERSION,
            segment_bytes: 1 << 20,
            max_bytes: 8 << 20,
            sync_interval: Duration::from_secs(60),
        };
        let mut journal = open_manual(Disk, &options).expect("journal");
        Self {
            path: ClickPath::new(
                shared.clone(),
                Metrics::new().worker(0),
                journal.writers.remove(0),
            ),
            shared,
            reader: journal.readers.remove(0),
            _upkeep: journal.maintenance,
            _dir: dir,
        }
    }

    fn check(&mut self, peer: IpAddr, request: Request<()>) {
        let method = request.method().clone();
        let is_bare_domain = request.uri().path() == "/";
        let response = self.path.respond(peer, request, Instant::now());
        let mut bytes = Vec::new();
        let run = self.reader.read(1 << 20, &mut bytes).expect("readable");
        let status = response.status();
        if status.is_client_error() || is_bare_domain {
            assert_eq!(run, None, "only visits of links are logged");
            return;
        }
        let run = run.expect("answered clicks are logged");
        assert_eq!(run.events, 1);
        self.reader.release(run.last);
        let frame = frames(&bytes)
            .next()
            .expect("event")
            .expect("complete frame");
        assert!(frame.payload.len() <= MAX_EVENT_BYTES);
        let event = decode(FORMAT_VERSION, frame.payload).expect("event");
        let (Event::Click(visit) | Event::Impression(visit)) = &event else {
            panic!("not a visit: {event:?}");
        };
        assert!(matches!(method, Method::GET | Method::HEAD));
        assert_eq!(visit.flags.any(Flags::HEAD), method == Method::HEAD);
        assert_eq!(visit.status, status.as_u16());
        let parts = self.shared.keys.load().verify(&visit.id).expect("ours");
        assert_eq!((parts.seq.0, parts.link), (frame.seq, visit.link.id));
        let texts = visit.subs.iter().chain([&visit.source, &visit.external_id]);
        texts.for_each(|text| assert!(text.len() <= MAX_PARAMETER_BYTES));
        assert!(visit.referrer.len() <= query::MAX_REFERRER_BYTES);
        assert!(visit.agent.raw.len() <= MAX_AGENT_BYTES);
        assert!(visit.host.len() <= 253 && visit.language.len() <= 35);
        if !self.path.trusts(peer) {
            assert_eq!(visit.address, address::store(peer, AddressStorage::Full));
        }
        match event {
            Event::Click(_) if status == Refusal::Prefetch.status() => {
                assert!(visit.flags.any(Flags::PREFETCH));
            }
            Event::Click(_) => {
                let location = response.headers()[header::LOCATION].as_bytes();
                let location = std::str::from_utf8(location).expect("ASCII");
                assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
                assert_eq!(
                    host_of(location).as_deref(),
                    Some("shop.example"),
                    "{location}"
                );
            }
            _ => assert_eq!(status, StatusCode::OK),
        }
    }
}

thread_local! {
    static EDGE: std::cell::RefCell<Edge> = std::cell::RefCell::new(Edge::new());
}

/// The peer, then a request in lines.
pub(crate) fn click(bytes: &[u8]) {
    let mut input = Input(bytes);
    let peer = if input.u8() & 1 == 0 {
        Ipv4Addr::new(192, 0, 2, 7)
    } else {
        Ipv4Addr::new(10, 0, 0, 1)
    };
    if let Some(request) = parsed(input.0) {
        EDGE.with_borrow_mut(|edge| edge.check(peer.into(), request));
    }
}

pub(crate) mod seeds {
    //! Requests of browsers, crawlers and attackers.

    const REQUESTS: [&str; 11] = [
        "GET /c/spring?sub1=a&sub2=b%20c&source=news&cost=0.25&x=1&external_id=77\nHost: go.example:8080\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\nAccept-Language: en-US,en;q=0.9\nReferer: https://blog.example/post",
        "HEAD /i/spring.gif\nHost: [2001:DB8::1]:80\nX-Forwarded-For: 198.51.100.1, 10.0.0.2\nX-Forwarded-For: 10.0.0.3",
        "GET /c/bare?%2f%2fevil.example=@evil.example&a=b&sub1=100%\nHost: go.example\nSec-Purpose: prefetch;prerender\nForwarded: for=192.0.2.1\nForwarded: for=\"[2001:db8::1]\"",
        "GET /c/resting?sub1=%2f..%2f%5c%09&sub2=%ff%fe\nHost: go.example",
        "GET /c/resting?sub1=//evil.example/%23%3f%40&sub3=%F0%9F%98%80\nHost: go.example\nAccept-Language: de;q=1\nX-Moz: Prefetch",
        "POST /c/spring\nHost: go.example",
        "GET /c/nothing?cost=abc&cost=1&=&&=x\nHost:",
        "GET http://other.example/c/spring?referrer=https%3A%2F%2Fx.example\nHost: go.example",
        "OPTIONS *\nHost: go.example",
        "GET //%43/SPR%69NG%29?sub1=%CF%F0&amp;sub2=%0a&s=FORGED&x=1;%53=FORGED\nHost: go.example.",
        "GET /c/bare.?city=H%E4me&_inputs_&%73ub1=%ff\nHost: go.example",
    ];

    pub(crate) fn request() -> Vec<Vec<u8>> {
        REQUESTS.map(|request| request.as_bytes().to_vec()).into()
    }

    pub(crate) fn click() -> Vec<Vec<u8>> {
        let peers = [0_u8, 1].into_iter();
        let seeds =
            peers.flat_map(|peer| REQUESTS.map(|request| [&[peer], request.as_bytes()].concat()));
        seeds.collect()
    }

    pub(crate) fn query() -> Vec<Vec<u8>> {
        let queries = [
            "sub1=a&sub2=b%20c&source=news&cost=0.25&x=1",
            "sub1=100%&sub2=%zz&sub3=%F0%9F%98%80&sub4=%ff%fe%fd&sub10=z&sub11=no",
            "a=1&a=2&sub1=first&sub1=second&&=&=v&n=",
            "cost=999999999999.999999&referrer=https%3A%2F%2Fx.example%2F%3Fq%3D1&external_id=%2B1+2",
            "sub1=%00&sub2=%0d%0a",
            "sub2=x&amp;sub1=hello&amp;amp;%73ource=%CF%F0%80%81&_inputs_&n=200&city=H%E4me%0a",
            "cost=.5&cost=1",
        ];
        let limits = [255_u8, 4];
        let seeds = queries
            .into_iter()
            .flat_map(|query| limits.map(|limit| [&[limit], query.as_bytes()].concat()));
        seeds.collect()
    }
}
