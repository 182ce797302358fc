//! Certificates on disk and real QUIC: only members of the same authority talk to each other.

use event_shipping::tls::{self, Role, SERVER_NAME, TlsError};
use event_shipping::{Ack, ToEdge, read_message, write_message};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn server(dir: &Path) -> ServerConfig {
    let identity = tls::load_or_create(dir, Role::Aggregator).expect("certificates");
    identity.server_config().expect("usable")
}

fn client(dir: &Path) -> ClientConfig {
    let identity = tls::load_or_create(dir, Role::Edge).expect("certificates");
    identity.client_config().expect("usable")
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Connects and waits until the server has judged the client's certificate too.
async fn meet(server: ServerConfig, client: ClientConfig) -> Result<(), ConnectionError> {
    let listening = Endpoint::server(server, local()).expect("a socket");
    let address = listening.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        let connection = listening.accept().await.expect("an attempt").await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let message = read_message::<ToEdge>(&mut receive, 1_000)
            .await
            .expect("a message");
        write_message(&mut send, &message.expect("one"))
            .await
            .expect("written");
        send.finish().expect("open");
        connection.closed().await;
        Ok::<_, ConnectionError>(())
    });
    let mut endpoint = Endpoint::client(local()).expect("a socket");
    endpoint.set_default_client_config(client);
    let connection: Connection = endpoint
        .connect(address, SERVER_NAME)
        .expect("valid")
        .await?;
    let asked = ToEdge::Ack(Ack {
        lane: 1,
        journal: 2,
        taken: 3,
    });
    let answer = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        write_message(&mut send, &asked).await.ok();
        Ok::<_, ConnectionError>(read_message::<ToEdge>(&mut receive, 1_000).await)
    };
    match answer.await? {
        Ok(answer) => assert_eq!(answer, Some(asked)),
        Err(_) => return Err(connection.close_reason().expect("the server refused")),
    }
    connection.close(0_u8.into(), b"");
    tokio::time::timeout(Duration::from_secs(5), serving)
        .await
        .expect("ends")
        .expect("no panic")
}

#[tokio::test]
async fn members_of_one_authority_talk() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("tls");
    meet(server(&dir), client(&dir))
        .await
        .expect("they know each other");
}

#[tokio::test]
async fn a_stranger_is_refused_by_either_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    // The client refuses a server that its authority did not sign.
    assert!(meet(server(&theirs), client(&ours)).await.is_err());
    // The server refuses a client that its authority did not sign, though the client trusts it.
    std::fs::copy(ours.join("ca.pem"), theirs.join("ca.pem")).expect("copied");
    let refused = meet(server(&ours), client(&theirs))
        .await
        .expect_err("a stranger");
    assert!(
        matches!(refused, ConnectionError::ConnectionClosed(_)),
        "{refused}"
    );
}

#[tokio::test]
async fn an_edge_can_not_pose_as_an_aggregator() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("tls");
    let client = client(&dir);
    std::fs::copy(dir.join("edge.pem"), dir.join("aggregator.pem")).expect("copied");
    std::fs::copy(dir.join("edge.key"), dir.join("aggregator.key")).expect("copied");
    assert!(meet(server(&dir), client).await.is_err());
}

#[test]
fn processes_that_start_at_once_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("tls");
    let authorities: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|number| {
                let dir = &dir;
                scope.spawn(move || {
                    let role = if number % 2 == 0 {
                        Role::Edge
                    } else {
                        Role::Aggregator
                    };
                    tls::load_or_create(dir, role).expect("certificates");
                    std::fs::read(dir.join("ca.pem")).expect("made")
                })
            })
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().expect("no panic"))
            .collect()
    });
    assert_eq!(authorities.len(), 1);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .collect();
    assert_eq!(left.len(), 1, "nothing half-made stays: {left:?}");
}

#[test]
fn keys_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("tls");
    tls::load_or_create(&dir, Role::Edge).expect("certificates");
    for name in ["ca.key", "edge.key", "aggregator.key"] {
        let mode = std::fs::metadata(dir.join(name))
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path().join("tls");
    for (role, name) in [
        (Role::Edge, "edge.key"),
        (Role::Aggregator, "aggregator.key"),
    ] {
        tls::load_or_create(&dir, role).expect("certificates");
        let key = dir.join(name);
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&key, mode).expect("settable");
        let error = tls::load_or_create(&dir, role)
            .expect_err("exposed")
            .to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", key.display())),
            "{error}"
        );
    }
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("letter.txt"), "dear").expect("written");
    let refused = tls::load_or_create(folder.path(), Role::Edge);
    assert!(matches!(refused, Err(TlsError::Foreign(_))), "{refused:?}");
}

#[test]
fn a_key_without_its_certificate_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("tls");
    tls::load_or_create(&dir, Role::Edge).expect("certificates");
    std::fs::write(dir.join("edge.pem"), "not PEM").expect("written");
    let refused = tls::load_or_create(&dir, Role::Edge).expect_err("no certificate");
    assert!(refused.to_string().contains("edge.pem"), "{refused}");
}

const GREETING: &[u8] = b"hello";

/// A server that returns a greeting and dies without a word: its runtime, and the socket with it, is gone.
fn killed_server(dir: &Path, address: SocketAddr) -> (SocketAddr, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let identity = tls::load_or_create(dir, Role::Aggregator).expect("certificates");
    let endpoint = runtime.block_on(async { identity.listen(address).expect("a socket") });
    let address = endpoint.local_addr().expect("bound");
    runtime.spawn(async move {
        let connection = endpoint
            .accept()
            .await
            .expect("an attempt")
            .await
            .expect("a member");
        let (mut answer, mut question) = connection.accept_bi().await.expect("a stream");
        let mut heard = [0; GREETING.len()];
        question.read_exact(&mut heard).await.expect("greeted");
        answer.write_all(&heard).await.expect("taken");
        connection.closed().await;
    });
    (address, runtime)
}

#[test]
fn a_killed_aggregator_that_is_back_says_so_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("tls");
    let (address, first) = killed_server(&dir, local());
    let edge = tokio::runtime::Runtime::new().expect("a runtime");
    let connection = edge.block_on(async {
        let mut endpoint = Endpoint::client(local()).expect("a socket");
        endpoint.set_default_client_config(client(&dir));
        let connecting = endpoint.connect(address, SERVER_NAME).expect("valid");
        let connection = connecting.await.expect("connected");
        // The server answers once it has confirmed the handshake. Until then the client repeats its
        // end of it, and nobody resets that.
        let (mut question, mut answer) = connection.open_bi().await.expect("a stream");
        question.write_all(GREETING).await.expect("taken");
        let mut heard = [0; GREETING.len()];
        answer.read_exact(&mut heard).await.expect("greeted");
        connection
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let (_, _second) = killed_server(&dir, address);
    let why = edge.block_on(async {
        let closed = tokio::time::timeout(Duration::from_secs(15), connection.closed());
        closed.await.expect("noticed")
    });
    // Not `TimedOut`, which would come after the idle time-out.
    assert!(matches!(why, ConnectionError::Reset), "{why}");
}
