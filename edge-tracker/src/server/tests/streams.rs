//! Connections over a pipe and over TLS through a pipe, which have no descriptor.

use super::limits;
use crate::click_path::{ClickPath, EdgeState};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::server::activity::Transport;
use crate::server::connection;
use crate::server::connections::{CloseReason, ConnectionState, ConnectionTable};
use crate::server::{Limits, LocalOptions};
use crate::settings::Http2;
use crate::{links, secrets};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Bytes that a pipe holds until they are read.
const PIPE_BYTES: usize = 2_048;
/// More requests than have responses that fit into a pipe.
const PIPELINED: usize = 32;
const HOST: &str = "go.example";
const LINKS: &str = r#"
[[link]]
id = 1
slug = "spring"
offer = "offer-1"
campaign = "campaign-1"
affiliate = "ann"
destination = "https://shop.example/?cid={click_id}"
"#;
const CLICK: &[u8] = b"GET /c/spring HTTP/1.1\r\nHost: go.example\r\n\r\n";
/// Of [`CLICK`].
const HALF_HEAD_BYTES: usize = 30;

#[derive(Debug, Clone, Copy)]
enum StreamKind {
    Pipe,
    Tls,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One worker without a listener.
struct Worker {
    path: Rc<ClickPath>,
    table: Rc<ConnectionTable>,
    _dir: TempDir,
}

/// A client, and the task that serves it.
struct Client {
    stream: Box<dyn Stream>,
    state: Rc<ConnectionState>,
    served: JoinHandle<Result<(), CloseReason>>,
}

impl Worker {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("links.toml");
        std::fs::write(&file, LINKS).expect("writable");
        let table = links::load(&file).expect("links");
        let keys = dir.path().join("secrets.toml");
        secrets::create_absent(&keys).expect("created");
        let secrets = secrets::load(&keys).expect("secrets");
        let shared = EdgeState::with_defaults(table, secrets.click_ids);
        let journal = event_journal::open(&event_journal::Options {
            dir: dir.path().join("journal"),
            lanes: 1,
            format_version: tracking_events::FORMAT_VERSION,
            segment_bytes: 1 << 20,
            max_bytes: 8 << 20,
            sync_interval: Duration::from_secs(60),
        });
        let lane = journal.expect("journal").writers.remove(0);
        let metrics = Metrics::new().worker(0);
        Self {
            path: Rc::new(ClickPath::new(Arc::new(shared), metrics, lane)),
            table: ConnectionTable::new(),
            _dir: dir,
        }
    }

    async fn connect(&self, over: StreamKind, limits: Limits) -> Client {
        let (client, server) = duplex(PIPE_BYTES);
        match over {
            StreamKind::Pipe => self.serve(client, server, limits),
            StreamKind::Tls => {
                let (connector, acceptor) = tls();
                let name = ServerName::try_from(HOST).expect("name");
                let (client, server) =
                    tokio::join!(connector.connect(name, client), acceptor.accept(server));
                let (client, server) = (client.expect("client"), server.expect("server"));
                self.serve(client, server, limits)
            }
        }
    }

    fn serve(
        &self,
        client: impl Stream + 'static,
        server: impl Transport,
        limits: Limits,
    ) -> Client {
        let (guard, path) = (self.table.insert(), self.path.clone());
        let peer = SocketAddr::from(([192, 0, 2, 7], 4_711));
        Client {
            stream: Box::new(client),
            state: guard.state.clone(),
            served: spawn_local(async move {
                connection::serve(server, peer, &path, &guard.state, limits).await
            }),
        }
    }
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
        self.stream.flush().await.expect("sent");
    }

    /// The head of the next response, which has no body.
    async fn response(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.expect("response"));
        }
        String::from_utf8(head).expect("ASCII")
    }

    /// The bytes that the edge sends until it closes the connection.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // TLS may end without a notice, after an eviction for example.
        let _ = self.stream.read_to_end(&mut rest).await;
        rest
    }

    async fn closed(self) -> Result<(), CloseReason> {
        self.served.await.expect("the task ended")
    }
}

/// A client and a server that trust one certificate made for them.
fn tls() -> (TlsConnector, TlsAcceptor) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([HOST.to_owned()]).expect("certificate");
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("key of the certificate");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("certificate");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        TlsConnector::from(Arc::new(client)),
        TlsAcceptor::from(Arc::new(server)),
    )
}

/// Runs `scenario` with a client over each kind of stream.
fn over_each_stream(limits: Limits, scenario: impl AsyncFn(&Worker, Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("runtime");
    for over in [StreamKind::Pipe, StreamKind::Tls] {
        println!("over {over:?}");
        runtime.block_on(async {
            let worker = Worker::new();
            let client = worker.connect(over, limits).await;
            scenario(&worker, client).await;
            assert_eq!(worker.table.count(), 0, "no connection is left");
        });
    }
}

/// Lets other tasks run until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        yield_now().await;
    }
    panic!("the condition does not become true");
}

fn assert_redirected(response: &str) {
    assert!(response.starts_with("HTTP/1.1 302 "), "{response}");
    assert!(
        response.contains("location: https://shop.example/?cid="),
        "{response}"
    );
}

#[test]
fn any_stream_is_kept_alive_between_requests() {
    over_each_stream(limits(), async |worker, mut client| {
        // Byte by byte: the protocol is detected from the first bytes.
        for byte in CLICK {
            client.send(std::slice::from_ref(byte)).await;
        }
        assert_redirected(&client.response().await);
        for _ in 0..3 {
            client.send(CLICK).await;
            assert_redirected(&client.response().await);
        }
        assert_eq!(worker.path.metrics().clicks.get(), 4);
        // As a client without more requests.
        client.stream.shutdown().await.expect("shut down");
        assert_eq!(client.rest().await, b"");
        assert_eq!(client.closed().await, Ok(()));
    });
}

#[test]
fn any_stream_times_out_between_requests() {
    over_each_stream(limits(), async |worker, mut client| {
        client.send(CLICK).await;
        client.response().await;
        until(|| client.state.is_idle()).await;
        worker.table.close_timed_out(limits().header_timeout);
        client.send(CLICK).await;
        assert_redirected(&client.response().await);
        until(|| client.state.is_idle()).await;
        worker.table.close_timed_out(Duration::ZERO);
        assert_eq!(client.rest().await, b"");
        assert_eq!(client.closed().await, Err(CloseReason::Idle));
    });
}

#[test]
fn slow_head_over_any_stream_is_refused() {
    over_each_stream(limits(), async |worker, mut client| {
        client.send(&CLICK[..HALF_HEAD_BYTES]).await;
        until(|| !client.state.is_idle()).await;
        assert!(!worker.table.evict_oldest_idle(), "it is not idle");
        worker.table.close_timed_out(Duration::ZERO);
        let closed = client.closed().await;
        assert_eq!(closed, Err(CloseReason::Refused(Refusal::TooSlow)));
    });
}

#[test]
fn drain_over_any_stream_finishes_the_request() {
    over_each_stream(limits(), async |worker, mut client| {
        let idle = worker.connect(StreamKind::Pipe, limits()).await;
        let (sent, unsent) = CLICK.split_at(HALF_HEAD_BYTES);
        client.send(sent).await;
        until(|| !client.state.is_idle()).await;
        worker.table.shut_down();
        assert_eq!(idle.closed().await, Ok(()));
        client.send(unsent).await;
        let response = client.response().await;
        assert_redirected(&response);
        assert!(response.contains("connection: close"), "{response}");
        assert_eq!(client.rest().await, b"");
        assert_eq!(client.closed().await, Ok(()));
    });
}

#[test]
fn evicts_any_stream_that_is_idle_or_not_read() {
    over_each_stream(limits(), async |worker, mut client| {
        client.send(CLICK).await;
        client.response().await;
        until(|| client.state.is_idle()).await;
        assert!(worker.table.evict_oldest_idle());
        assert_eq!(client.closed().await, Err(CloseReason::Evicted));
    });
    over_each_stream(limits(), async |worker, mut client| {
        client.send(&CLICK.repeat(PIPELINED)).await;
        until(|| client.state.is_blocked()).await;
        assert!(worker.table.evict_oldest_idle());
        assert_eq!(client.closed().await, Err(CloseReason::Evicted));
    });
}

#[test]
fn http2_over_any_stream_is_served_or_refused() {
    over_each_stream(limits(), async |worker, client| {
        let Client { stream, served, .. } = client;
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("connection");
        let connection = spawn_local(connection);
        let request = Request::get("http://go.example/c/spring").body(Empty::<Bytes>::new());
        let response = sender.send_request(request.expect("valid")).await;
        let response = response.expect("response");
        assert_eq!(response.status(), StatusCode::FOUND);
        assert!(response.headers().contains_key(header::LOCATION));
        worker.table.shut_down();
        let ended = connection.await.expect("the task ended");
        ended.expect("drained");
        // At GOAWAY the client closes a pipe, perhaps before the edge has flushed it.
        let closed = served.await.expect("the task ended");
        let broken = CloseReason::Refused(Refusal::ConnectionBroken);
        assert!(closed == Ok(()) || closed == Err(broken), "{closed:?}");
    });
    let off = Limits {
        http2: Http2::Off,
        ..limits()
    };
    over_each_stream(off, async |_, mut client| {
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let sent = client.rest().await;
        // Of GOAWAY: the code HTTP_1_1_REQUIRED.
        assert!(sent.ends_with(&[0, 0, 0, 0x0d]), "{sent:?}");
        let closed = client.closed().await;
        assert_eq!(closed, Err(CloseReason::Refused(Refusal::Http2NotServed)));
    });
}

#[test]
fn broken_stream_ends_its_connection() {
    over_each_stream(limits(), async |_, mut client| {
        client.send(&CLICK[..HALF_HEAD_BYTES]).await;
        until(|| !client.state.is_idle()).await;
        drop(client.stream);
        let served = client.served.await.expect("the task ended");
        let broken = CloseReason::Refused(Refusal::ConnectionBroken);
        assert_eq!(served, Err(broken));
    });
}
