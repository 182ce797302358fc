//! Shared parts of the tests of a whole aggregator: settings, requests to the admin port, and a client's connection.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

pub mod aggregator;
pub mod authority;
pub mod cluster;
pub mod edge;
pub mod engine;
pub mod process;
pub mod receiver;
pub mod reports;

use ::aggregator::settings::{self, Settings};
use event_shipping::tls::{self, Identity, SERVER_NAME, Subject};
use event_shipping::{
    AggregatorMessage, Batch, BatchSpan, EdgeMessage, Hello, LaneHello, MAX_CONTROL_MESSAGE_BYTES,
    PROTOCOL_VERSION, ReadError, Sealer, Welcome, read_message, write_message,
};
use hmac::{Hmac, Mac as _};
use parking_lot::Mutex;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use sha2::Sha256;
use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const NODE: u16 = 21;
pub const JOURNAL: u64 = 77;

/// Held while a port is chosen that is bound only later, so that no other test takes it meanwhile.
pub static PORTS: Mutex<()> = Mutex::new(());

/// Writes a settings file and returns its path.
pub fn write_settings(directory: &Path, clickhouse: &str, more: &str) -> PathBuf {
    let text = format!(
        r#"
        data_dir = "{0}/data"
        listen = "127.0.0.1:0"
        admin_listen = "127.0.0.1:0"
        [tls]
        dir = "{0}/tls"
        development = true
        [clickhouse]
        {clickhouse}
        {more}
        "#,
        directory.display()
    );
    let path = directory.join("aggregator.toml");
    std::fs::write(&path, text).expect("written");
    path
}

/// Settings of an aggregator without a reachable ClickHouse.
pub fn without_clickhouse(directory: &Path, more: &str) -> Settings {
    let path = write_settings(directory, r#"url = "http://127.0.0.1:9""#, more);
    settings::read(&path).expect("valid settings")
}

/// The QUIC configuration of simulated edges: their certificate names the nodes 1 to 32.
pub fn client(directory: &Path) -> ClientConfig {
    let nodes: Vec<u16> = (1..=32).collect();
    client_of(directory, "fleet", &nodes)
}

/// The QUIC configuration of an edge whose certificate names `nodes`, in the directory `name` next to that of the
/// aggregator in `directory`.
pub fn client_of(directory: &Path, name: &str, nodes: &[u16]) -> ClientConfig {
    let config = identity_of(directory, name, nodes).client_config();
    config.expect("usable")
}

pub fn identity_of(directory: &Path, name: &str, nodes: &[u16]) -> Identity {
    let subject = Subject::Edge(nodes.to_vec());
    tls::load_or_create(&directory.join(name), &subject).expect("certificates")
}

/// A connection with its stream.
pub struct ClientConnection {
    pub connection: Connection,
    pub send: SendStream,
    pub receive: RecvStream,
}

impl ClientConnection {
    pub async fn open(address: SocketAddr, config: ClientConfig) -> Result<Self, String> {
        let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("socket");
        endpoint.set_default_client_config(config);
        let connecting = endpoint.connect(address, SERVER_NAME).expect("valid");
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let (send, receive) = connection
            .open_bi()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Self {
            connection,
            send,
            receive,
        })
    }

    /// Connects, and sends a valid `Hello` for lane 0.
    pub async fn welcomed(address: SocketAddr, config: ClientConfig) -> (Self, Welcome) {
        Self::welcomed_as(address, config, NODE, JOURNAL).await
    }

    /// Connects, and sends a valid `Hello` for lane 0 of a node's journal.
    pub async fn welcomed_as(
        address: SocketAddr,
        config: ClientConfig,
        node: u16,
        journal: u64,
    ) -> (Self, Welcome) {
        let mut this = Self::open(address, config).await.expect("connected");
        this.say(&hello_of(PROTOCOL_VERSION, node, journal)).await;
        match this.receive().await {
            Ok(Some(AggregatorMessage::Welcome(welcome))) => (this, welcome),
            other => panic!("not a welcome: {other:?}"),
        }
    }

    pub async fn say(&mut self, message: &EdgeMessage) {
        write_message(&mut self.send, message)
            .await
            .expect("written");
    }

    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.expect("written");
    }

    pub async fn receive(&mut self) -> Result<Option<AggregatorMessage>, ReadError> {
        read_message(&mut self.receive, MAX_CONTROL_MESSAGE_BYTES).await
    }

    /// The code and message with which the aggregator closes the connection.
    pub async fn refusal(&mut self) -> (u16, String) {
        let received = tokio::time::timeout(Duration::from_secs(10), self.receive()).await;
        match received.expect("response in time") {
            Ok(Some(AggregatorMessage::Refuse(refuse))) => (refuse.code, refuse.message),
            other => panic!("not a refusal: {other:?}"),
        }
    }
}

pub fn hello(protocol: u16) -> EdgeMessage {
    hello_of(protocol, NODE, JOURNAL)
}

pub fn hello_of(protocol: u16, node: u16, journal: u64) -> EdgeMessage {
    let lanes = vec![LaneHello {
        lane: 0,
        journal,
        acknowledged: 0,
        released: 0,
    }];
    EdgeMessage::Hello(Hello {
        protocol,
        node,
        software: "test 1.0".into(),
        lanes,
    })
}

/// A batch of lane 0 with the sequences `first` to `last`, for tests that do not decode its frames.
pub fn batch(after: u64, first: u64, last: u64, frames: &[u8]) -> Batch {
    let span = BatchSpan {
        lane: 0,
        journal: JOURNAL,
        format_version: 1,
        after,
        first,
        last,
        events: u32::try_from(last - first + 1).expect("in range"),
    };
    let mut sealer = Sealer::new().expect("compressor");
    sealer.seal(&span, frames, 1).expect("seals")
}

/// HMAC-SHA256.
pub fn hmac(key: &str, text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Puts a file that only its owner can read there in one step.
pub fn write_private(path: &Path, text: &str) {
    let aside = path.with_extension("aside");
    std::fs::write(&aside, text).expect("written");
    std::fs::set_permissions(&aside, Permissions::from_mode(0o600)).expect("permitted");
    std::fs::rename(aside, path).expect("renamed");
}

/// Status and body of a page of the admin port.
pub async fn page(admin: SocketAddr, path: &str) -> (u16, String) {
    ask(admin, &format!("GET {path}"), "").await
}

/// Status and body for a request to the admin port, with additional header lines.
pub async fn ask(admin: SocketAddr, request: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).await.expect("connected");
    let text =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut response = String::new();
    stream
        .read_to_string(&mut response)
        .await
        .expect("response");
    let status = response.split(' ').nth(1).and_then(|it| it.parse().ok());
    let (_, body) = response.split_once("\r\n\r\n").expect("response body");
    (status.expect("status line"), body.to_owned())
}

/// The value of a metric; `name` includes its labels.
pub async fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let (_, text) = page(admin, "/metrics").await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("number"))
}

/// Polls `condition` until it is true.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
