//! Allocations of a click by a warm worker, counted over a real socket. There are none, except one by the `http` crate
//! for the name of each header that it does not know (`HeaderName::from_bytes`), such as `X-Forwarded-For`.

use dhat::HeapStats;
use edge_tracker::click_path::{ClickPath, EdgeState};
use edge_tracker::metrics::Metrics;
use edge_tracker::server::{self, Limits};
use edge_tracker::settings::Http2;
use edge_tracker::visitor::address::{ClientAddress, ForwardedHeader};
use edge_tracker::{links, secrets};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const LINKS: &str = r#"
[[link]]
id = 1
slug = "spring"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/{offer}?cid={click_id}&s={sub1}&c={country}&ip={ip}&t={timestamp}"
"#;

const WARM_UP_CLICKS: u32 = 3_000;
const COUNTED: u32 = 2_000;

#[test]
fn click_allocates_only_names_of_unknown_headers() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (address, stop) = serve(dir.path());
    let mut client = TcpStream::connect(address).expect("connected");
    client.set_nodelay(true).expect("socket option set");
    let profiler = dhat::Profiler::builder().testing().build();
    let mut request = Vec::with_capacity(2_048);
    let mut clicks = |proxied: bool, visitors: std::ops::Range<u32>| {
        let before = HeapStats::get().total_blocks;
        for visitor in visitors {
            click(&mut client, &mut request, proxied, visitor);
        }
        HeapStats::get().total_blocks - before
    };
    clicks(true, 0..WARM_UP_CLICKS);
    let started = Instant::now();
    let direct = clicks(false, 0..COUNTED);
    // Half of the visitors have visited before.
    let proxied = clicks(
        true,
        WARM_UP_CLICKS - COUNTED / 2..WARM_UP_CLICKS + COUNTED / 2,
    );
    drop(profiler);
    stop.send_replace(true);
    // Work that a worker does once a second, independently of traffic, is not part of a click.
    let periodic = started.elapsed().as_secs() + 1;
    assert!(
        direct <= periodic,
        "{direct} allocations during {COUNTED} clicks"
    );
    let names = u64::from(2 * COUNTED);
    assert!(
        (names..=names + periodic).contains(&proxied),
        "{proxied} allocations during {COUNTED} clicks with two headers that the http crate does \
         not know"
    );
}

/// Sends the click of a visitor and reads its response, without allocating.
fn click(client: &mut TcpStream, request: &mut Vec<u8>, proxied: bool, visitor: u32) {
    request.clear();
    write!(
        request,
        "GET /c/spring?sub1=story+{visitor}&source=profile&cost=0.25&other=x HTTP/1.1\r\n\
         Host: go.fanz.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) \
         Gecko/20100101 Firefox/143.0\r\nAccept: text/html,*/*;q=0.8\r\n\
         Accept-Language: en-US,en;q=0.9\r\nReferer: https://creator.example/page\r\n"
    )
    .expect("Vec");
    if proxied {
        let [_, a, b, c] = visitor.to_be_bytes();
        write!(
            request,
            "X-Forwarded-For: 81.{a}.{b}.{c}\r\nSec-Fetch-Mode: navigate\r\n"
        )
        .expect("Vec");
    }
    request.extend_from_slice(b"\r\n");
    client.write_all(request).expect("sent");
    let mut response = [0; 2_048];
    let length = client.read(&mut response).expect("response");
    let response = &response[..length];
    assert!(
        response.starts_with(b"HTTP/1.1 302 ") && response.ends_with(b"\r\n\r\n"),
        "{}",
        response.escape_ascii()
    );
}

/// One worker as the node creates it, without the node's other tasks.
fn serve(dir: &Path) -> (SocketAddr, watch::Sender<bool>) {
    let limits = Limits {
        header_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(60),
        stop_timeout: Duration::from_secs(1),
        connections: 16,
        shed_lag: Duration::from_secs(60),
        head_bytes: 16 << 10,
        proxy_protocol: false,
        http2: Http2::default(),
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (mut listeners, address) = server::bind(any, 1, limits).expect("bound");
    let listener: TcpListener = listeners.remove(0);
    let shared = shared(dir);
    let journal = event_journal::open(&event_journal::Options {
        dir: dir.join("journal"),
        lanes: 1,
        format_version: tracking_events::FORMAT_VERSION,
        segment_bytes: 32 << 20,
        max_bytes: 1 << 30,
        sync_interval: Duration::from_secs(60),
    });
    let mut journal = journal.expect("journal");
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        let metrics = Metrics::new().worker(0);
        let path = ClickPath::new(shared, metrics, journal.writers.remove(0));
        server::run(listener, path, limits, stopped).expect("served");
    });
    (address, stop)
}

fn shared(dir: &Path) -> Arc<EdgeState> {
    let file = dir.join("links.toml");
    std::fs::write(&file, LINKS).expect("writable");
    let keys = dir.join("secrets.toml");
    secrets::create_absent(&keys).expect("created");
    let secrets = secrets::load(&keys).expect("secrets");
    let local = "127.0.0.0/8".parse().expect("network");
    let table = links::load(&file).expect("links");
    Arc::new(EdgeState {
        client_address: ClientAddress::new(vec![local], ForwardedHeader::default()),
        ..EdgeState::with_defaults(table, secrets.click_ids)
    })
}
