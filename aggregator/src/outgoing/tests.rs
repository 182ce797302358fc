//! Requests to affiliates' servers over real sockets: their content, and the outcome of each response.

use super::client::{Client, PostbackResponse, SendError};
use super::connect::Names;
use super::dispatcher::RetryPolicy;
use super::message::{self, PostbackRequest};
use super::subscriptions::Subscription;
use crate::click::ClickFacts;
use crate::store::{
    Attempt, AttemptOutcome, EndpointHealth, LeasedPostback, PostbackKey, PostbackSale,
};
use data_encoding::BASE64;
use domain::{Currency, Micros, Money};
use hmac::{Hmac, Mac as _};
use http::StatusCode;
use ipnet::IpNet;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

const TEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that always sends the same response, and counts connections.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    root: RootCertStore,
}

impl Server {
    /// Without TLS, or with a self-signed certificate for `localhost`.
    async fn start(response: &'static str, tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("valid request");
        let mut root = RootCertStore::empty();
        root.add(made.cert.der().clone()).expect("certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .expect("usable");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if !tls {
                        respond(stream, response).await;
                    } else if let Ok(stream) = acceptor.accept(stream).await {
                        respond(stream, response).await;
                    }
                });
            }
        });
        Self {
            address,
            connections,
            root,
        }
    }
}

async fn respond(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &str) {
    let mut head = [0; 4_096];
    let _ = stream.read(&mut head).await;
    let _ = stream.write_all(response.as_bytes()).await;
    if response.is_empty() {
        // Sends nothing, and stays connected.
        let _ = stream.read(&mut head).await;
    }
}

/// An unsigned postback to `url`.
fn get(url: &str) -> PostbackRequest {
    let subscription = subscription(url, "");
    PostbackRequest::new(&subscription, &leased(), &click(CLICK), Micros(0)).expect("valid request")
}

fn here() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().expect("valid network")]
}

fn client(allowed: &[IpNet], roots: RootCertStore) -> Client {
    Client::new(allowed, roots, TEST_TIMEOUT)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn rejects_private_ip_targets() {
    let server = Server::start(OK, false).await;
    let port = server.address.port();
    let client = client(&[], RootCertStore::empty());
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
    ] {
        let sent = client.send(&get(&format!("http://{host}:{port}/"))).await;
        let Err(SendError::Broken(why)) = sent else {
            panic!("{host}: {sent:?}")
        };
        assert!(
            why.contains("no public address") || why.contains("look up"),
            "{host}: {why}"
        );
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    let allowed = Client::new(&here(), RootCertStore::empty(), TEST_TIMEOUT);
    let response = allowed
        .send(&get(&format!("http://localhost:{port}/")))
        .await;
    assert_eq!(response.expect("response").status, StatusCode::OK);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn certificates_are_checked() {
    let server = Server::start(OK, true).await;
    let url = format!("https://localhost:{}/", server.address.port());
    let stranger = client(&here(), super::client::public_roots());
    let Err(SendError::Broken(why)) = stranger.send(&get(&url)).await else {
        panic!("accepted an untrusted certificate")
    };
    assert!(why.contains("certificate"), "{why}");
    let friend = client(&here(), server.root.clone());
    let response = friend.send(&get(&url)).await;
    assert_eq!(response.expect("response").status, StatusCode::OK);
}

#[tokio::test]
async fn responses_contain_status_and_retry_after() {
    for (response, status, retry_after) in [
        (OK, 200, None),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            302,
            None,
        ),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            429,
            Some(7),
        ),
        (
            "HTTP/1.1 503 No\r\nretry-after: 9999999\r\ncontent-length: 0\r\n\r\n",
            503,
            Some(3_600),
        ),
        // A date of the server's clock, which may be wrong, and of ours.
        (
            "HTTP/1.1 503 No\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:50:37 GMT\r\ncontent-length: 0\r\n\r\n",
            503,
            Some(60),
        ),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\ncontent-length: 0\r\n\r\n",
            429,
            Some(3_600),
        ),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: Sunday, 06-Nov-94 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n",
            429,
            Some(0),
        ),
        (
            "HTTP/1.1 429 Slow\r\nretry-after: tomorrow\r\ncontent-length: 0\r\n\r\n",
            429,
            None,
        ),
        // A body that is interrupted.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nx",
            200,
            None,
        ),
    ] {
        let server = Server::start(response, false).await;
        let client = client(&here(), RootCertStore::empty());
        let response = client
            .send(&get(&format!("http://{}/", server.address)))
            .await;
        assert_eq!(
            response.expect("response"),
            PostbackResponse {
                status: StatusCode::from_u16(status).expect("valid status"),
                retry_after: retry_after.map(Duration::from_secs),
            }
        );
    }
}

/// A client that resolves these names to these addresses.
fn client_knowing(names: &[(&'static str, &[SocketAddr])], timeout: Duration) -> Client {
    let names = names.iter().map(|(name, found)| (*name, found.to_vec()));
    let names = Names::Fixed(Arc::new(names.collect()));
    Client::with_names(&here(), RootCertStore::empty(), timeout, names)
}

/// A server whose accept queue is full, so that packets of further clients are dropped; and the clients that fill it.
async fn swallowing() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().expect("socket");
    socket
        .bind("127.0.0.1:0".parse().expect("valid address"))
        .expect("free port");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    let soon = Duration::from_millis(200);
    while let Ok(stream) = timeout(soon, TcpStream::connect(address)).await {
        queued.push(stream.expect("the connection is accepted or pending"));
        assert!(queued.len() < 100, "the accept queue is limited");
    }
    (address, listener, queued)
}

#[tokio::test]
async fn silent_addresses_delay_no_postback() {
    let server = Server::start(OK, false).await;
    let (silent, _listener, _queued) = swallowing().await;
    let client = client_knowing(
        &[
            ("both.example", &[silent, server.address]),
            ("silent.example", &[silent, silent]),
        ],
        Duration::from_secs(3),
    );
    let begun = Instant::now();
    let response = client.send(&get("http://both.example/")).await;
    assert_eq!(response.expect("response").status, StatusCode::OK);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let sent = client.send(&get("http://silent.example/")).await;
    assert!(matches!(sent, Err(SendError::TimedOut(_))), "{sent:?}");
}

#[tokio::test]
async fn refused_connection_tries_the_next_address_at_once() {
    let server = Server::start(OK, false).await;
    // A closed port.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let closed = gone.local_addr().expect("bound");
    drop(gone);
    let client = client_knowing(&[("two.example", &[closed, server.address])], TEST_TIMEOUT);
    let response = client.send(&get("http://two.example/")).await;
    assert_eq!(response.expect("response").status, StatusCode::OK);
    let client = client_knowing(&[("none.example", &[closed, closed])], TEST_TIMEOUT);
    let Err(SendError::Broken(why)) = client.send(&get("http://none.example/")).await else {
        panic!("the port is closed")
    };
    assert!(why.contains(&closed.to_string()), "{why}");
}

#[tokio::test]
async fn endless_body_does_not_cause_a_retry() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("connection");
        let _ = stream.read(&mut [0; 4_096]).await;
        let head = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut written = stream.write_all(head.as_bytes()).await;
        while written.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            written = stream.write_all(b"1\r\nx\r\n").await;
        }
    });
    let limit = Duration::from_millis(500);
    let client = Client::new(&here(), RootCertStore::empty(), limit);
    let response = client.send(&get(&format!("http://{address}/"))).await;
    assert_eq!(response.expect("response").status, StatusCode::ACCEPTED);
}

/// A server that redirects by path: `/307/HOST` leads to `/done` at the host. Keeps the heads of requests.
async fn redirecting() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let target = head.split(' ').nth(1).unwrap_or_default();
            let path = target.split('?').next().unwrap_or_default();
            let response = match path.trim_start_matches('/').split_once('/') {
                Some((status, to)) => format!(
                    "HTTP/1.1 {status} Elsewhere\r\nlocation: http://{to}?a=1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                ),
                None => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".into(),
            };
            kept.lock().expect("unpoisoned").push(head);
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    (address, heads)
}

#[tokio::test]
async fn one_redirect_within_the_registrable_domain_is_followed() {
    for (target, status, requests) in [
        ("307/www.shop.example/done", Ok(200), 2),
        ("302/shop.example/done", Ok(200), 2),
        // A second redirect.
        ("307/www.shop.example/307/shop.example/done", Ok(307), 2),
        // Another owner.
        ("307/other.example/done", Ok(307), 1),
        // A GET of another resource.
        ("303/www.shop.example/done", Ok(303), 1),
        // The same domain at a private address.
        ("307/inside.shop.example/done", Err("no public address"), 1),
    ] {
        let (server, heads) = redirecting().await;
        let inside = "10.0.0.1:80".parse().expect("valid address");
        let client = client_knowing(
            &[
                ("shop.example", &[server]),
                ("www.shop.example", &[server]),
                ("other.example", &[server]),
                ("inside.shop.example", &[inside]),
            ],
            TEST_TIMEOUT,
        );
        let url = format!("http://shop.example/{target}");
        match (client.send(&get(&url)).await, status) {
            (Ok(response), Ok(status)) => assert_eq!(response.status, status, "{target}"),
            (Err(SendError::Broken(why)), Err(part)) => assert!(why.contains(part), "{why}"),
            (sent, _) => panic!("{target}: {sent:?}"),
        }
        assert_eq!(
            heads.lock().expect("unpoisoned").len(),
            requests,
            "{target}"
        );
    }
}

#[tokio::test]
async fn redirected_postback_is_signed_for_its_new_target() {
    let (server, heads) = redirecting().await;
    let client = client_knowing(
        &[("shop.example", &[server]), ("www.shop.example", &[server])],
        TEST_TIMEOUT,
    );
    let key = "key = \"0123456789abcdef\"";
    let subscription = subscription("http://shop.example/307/www.shop.example/done", key);
    let now = Micros(1_800_000_123_000_000);
    let message =
        PostbackRequest::new(&subscription, &leased(), &click(CLICK), now).expect("valid request");
    assert_eq!(client.send(&message).await.expect("response").status, 200);
    let heads = heads.lock().expect("unpoisoned");
    let signed = |target: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(b"0123456789abcdef").expect("valid key");
        let id = "0123456789abcdef0123456789abcdef-abc-2";
        let mac = mac.chain_update(format!("{id}.1800000123.{target}"));
        let signature = BASE64.encode(&mac.finalize().into_bytes());
        format!("webhook-signature: v1,{signature}\r\n")
    };
    assert!(
        heads[0].contains(&signed("/307/www.shop.example/done")),
        "{}",
        heads[0]
    );
    assert!(heads[1].starts_with("GET /done?a=1 "), "{}", heads[1]);
    assert!(
        heads[1].contains("host: www.shop.example\r\n"),
        "{}",
        heads[1]
    );
    assert!(heads[1].contains(&signed("/done?a=1")), "{}", heads[1]);
}

#[tokio::test]
async fn silent_server_times_out() {
    let server = Server::start("", false).await;
    let patience = Duration::from_millis(100);
    let client = Client::new(&here(), RootCertStore::empty(), patience);
    let sent = client
        .send(&get(&format!("http://{}/", server.address)))
        .await;
    assert!(matches!(sent, Err(SendError::TimedOut(_))), "{sent:?}");
}

fn leased() -> LeasedPostback {
    LeasedPostback {
        key: PostbackKey {
            identity: "0123456789abcdef".repeat(4),
            revision: 2,
        },
        epoch: 0xabc,
        receiver: "spring/ann".into(),
        click: CLICK.into(),
        since: Micros(1_000_000_000_000),
        attempts: 3,
        failures: 1,
        sale: PostbackSale {
            click_id: "CLICK".into(),
            kind: "custom".into(),
            kind_name: "step 2".into(),
            transaction_id: "a/b&c".into(),
            status: "approved".into(),
            payout: Money {
                minor: 1_999,
                currency: Currency(*b"USD"),
            },
            time: Micros(1_800_000_000_000_000),
        },
    }
}

fn subscription(url: &str, more: &str) -> Subscription {
    toml::from_str(&format!("campaign = \"spring\"\nurl = {url:?}\n{more}"))
        .expect("valid subscription")
}

fn click(text: &str) -> ClickFacts {
    serde_json::from_str(text).expect("click facts")
}

const CLICK: &str = r#"{"link":"l","offer":"o","campaign":"spring","affiliate":"ann","country":"NO",
    "device":"phone","source":"s","external_id":"x y","subs":["one","","","","","","","","","ten"]}"#;

#[test]
fn macros_are_expanded_and_the_request_is_signed() {
    let address = "https://t.example/p?c={click_id}&e={event}&t={transaction_id}&s={status}&p={payout}\
                   &u={currency}&x={external_id}&a={sub1}&z={sub10}&i={conversion_id}&r={revision}\
                   &m={timestamp}#here";
    let subscription = subscription(address, "key = \"0123456789abcdef\"");
    let now = Micros(1_800_000_123_000_000);
    let message = PostbackRequest::new(&subscription, &leased(), &click(CLICK), now);
    let request = message.expect("valid request").request();
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(
        request.uri().to_string(),
        format!(
            "https://t.example/p?c=CLICK&e=step%202&t=a%2Fb%26c&s=approved&p=19.99&u=USD&x=x%20y&a=one\
             &z=ten&i={id}&r=2&m=1800000000"
        )
    );
    let header = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
    assert_eq!(header("webhook-id"), format!("{id}-abc-2"));
    assert_eq!(header("webhook-timestamp"), "1800000123");
    // Computed by Python's hmac module from `ID.TIME.TARGET`.
    assert_eq!(
        header("webhook-signature"),
        "v1,tHVF4xWobrTdeUUoq9INe/y0VmcaHQXWqmbMU1ju2XU="
    );
}

#[test]
fn message_without_key_is_unsigned_and_errors_are_reported() {
    let plain = subscription("https://t.example/{_sub1}", "");
    let now = Micros(0);
    let message = PostbackRequest::new(&plain, &leased(), &click(CLICK), now);
    let request = message.expect("valid request").request();
    assert!(!request.headers().contains_key("webhook-signature"));
    let long = CLICK.replace("one", &"x".repeat(20_000));
    assert_eq!(
        PostbackRequest::new(&plain, &leased(), &click(&long), now).expect_err("too long"),
        message::RequestError::TooLong
    );
}

#[test]
fn signature_covers_the_sent_target_without_a_path() {
    let subscription = subscription("https://t.example?a={_sub1}", "key = \"0123456789abcdef\"");
    let now = Micros(1_800_000_123_000_000);
    let hash = click(&CLICK.replace("one", "x#y"));
    let message = PostbackRequest::new(&subscription, &leased(), &hash, now);
    let request = message.expect("valid request").request();
    assert_eq!(request.uri().to_string(), "https://t.example/?a=x%23y");
    // Computed by Python's hmac module from `ID.TIME./?a=x%23y`.
    let signature = request.headers()["webhook-signature"].to_str();
    assert_eq!(
        signature.expect("text"),
        "v1,h70WfYq3XFHnDaAg142qZZZ+yeK3FtqPQTHBslM5c+E="
    );
}

fn evaluated(status: u16, tried: Duration, retry_after: Option<u64>) -> Attempt {
    let policy = RetryPolicy {
        first_retry: Duration::from_secs(10),
        give_up_after: Duration::from_secs(1_000),
    };
    let postback = leased();
    let now = Micros(postback.since.0 + u64::try_from(tried.as_micros()).expect("in range"));
    let response = PostbackResponse {
        status: StatusCode::from_u16(status).expect("valid status"),
        retry_after: retry_after.map(Duration::from_secs),
    };
    policy.evaluate(postback, Ok(response), now)
}

#[test]
fn transient_failures_are_retried_with_backoff() {
    let soon = Duration::from_secs(1);
    for taken in [200, 202, 204] {
        let attempt = evaluated(taken, soon, None);
        let end = (attempt.outcome, attempt.endpoint_health);
        assert_eq!(
            end,
            (AttemptOutcome::Delivered, EndpointHealth::Healthy),
            "{taken}"
        );
    }
    for refused in [301, 302, 400, 401, 404, 410, 422] {
        let attempt = evaluated(refused, soon, None);
        let end = (attempt.outcome, attempt.endpoint_health);
        assert_eq!(
            end,
            (AttemptOutcome::Refused, EndpointHealth::Healthy),
            "{refused}"
        );
    }
    let now = leased().since.0 + 1_000_000;
    for may_change in [408, 425, 429, 500, 502, 503, 504] {
        let attempt = evaluated(may_change, soon, None);
        let (AttemptOutcome::Retry(due), EndpointHealth::Failing { held_until }) =
            (attempt.outcome, attempt.endpoint_health)
        else {
            panic!("{may_change} is not retried")
        };
        let (due, held) = (due.0 - now, held_until.0 - now);
        // The third attempt of the postback, the second consecutive one at the receiver.
        assert!((90_000_000..108_000_000).contains(&due), "{due}");
        assert!((30_000_000..36_000_000).contains(&held), "{held}");
    }
    let held_until = Micros(now + 500_000_000);
    let wish = evaluated(429, soon, Some(500)).endpoint_health;
    assert_eq!(wish, EndpointHealth::Failing { held_until });
    let long = Duration::from_secs(1_000);
    let given_up = evaluated(503, long, None);
    assert_eq!(given_up.outcome, AttemptOutcome::GivenUp);
    assert!(matches!(
        given_up.endpoint_health,
        EndpointHealth::Failing { .. }
    ));
    assert_eq!(
        evaluated(200, long, None).outcome,
        AttemptOutcome::Delivered
    );
}
