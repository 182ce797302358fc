//! Certificates on disk and real QUIC: only members of the same authority can connect.

use event_shipping::tls::{
    self, Authority, Certificate, CertificateRejection, IdentityFiles, Role, SERVER_NAME, Subject,
    TlsError,
};
use event_shipping::{Ack, AggregatorMessage, read_message, write_message};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig};
use rcgen::{CertificateParams, Issuer, KeyPair};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// The node of the edges in these tests.
const NODE: u16 = 7;

fn edge() -> Subject {
    Subject::Edge(vec![NODE])
}

fn server(dir: &Path) -> ServerConfig {
    let dir = dir.join("aggregator");
    let identity = tls::load_or_create(&dir, &Subject::Aggregator).expect("certificates");
    identity.server_config().expect("usable")
}

fn client(dir: &Path) -> ClientConfig {
    let identity = tls::load_or_create(&dir.join("edge"), &edge()).expect("certificates");
    identity.client_config().expect("usable")
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Connects, waits until the server has checked the client's certificate, and returns that.
async fn connect(
    server: ServerConfig,
    client: ClientConfig,
) -> Result<Certificate, ConnectionError> {
    let listening = Endpoint::server(server, local()).expect("socket");
    let address = listening.local_addr().expect("bound");
    let serving = tokio::spawn(async move {
        let connection = listening.accept().await.expect("attempt").await?;
        let (mut send, mut receive) = connection.accept_bi().await?;
        let message = read_message::<AggregatorMessage>(&mut receive, 1_000)
            .await
            .expect("message");
        write_message(&mut send, &message.expect("one"))
            .await
            .expect("written");
        send.finish().expect("open");
        let certificate = Certificate::of_peer(&connection).expect("certificate");
        connection.closed().await;
        Ok::<_, ConnectionError>(certificate)
    });
    let mut endpoint = Endpoint::client(local()).expect("socket");
    endpoint.set_default_client_config(client);
    let connection: Connection = endpoint
        .connect(address, SERVER_NAME)
        .expect("valid")
        .await?;
    let request = AggregatorMessage::Ack(Ack {
        lane: 1,
        journal: 2,
        taken: 3,
    });
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await?;
        write_message(&mut send, &request).await.ok();
        Ok::<_, ConnectionError>(read_message::<AggregatorMessage>(&mut receive, 1_000).await)
    };
    match exchange.await? {
        Ok(response) => assert_eq!(response, Some(request)),
        Err(_) => return Err(connection.close_reason().expect("the server rejected it")),
    }
    connection.close(0_u8.into(), b"");
    tokio::time::timeout(Duration::from_secs(5), serving)
        .await
        .expect("ends")
        .expect("no panic")
}

#[tokio::test]
async fn members_of_one_authority_connect() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("tls");
    let certificate = connect(server(&dir), client(&dir))
        .await
        .expect("connected");
    assert_eq!(certificate.nodes(), [NODE]);
    let own = tls::load_or_create(&dir.join("edge"), &edge()).expect("certificates");
    assert_eq!(&certificate, own.certificate());
}

#[tokio::test]
async fn foreign_authority_is_rejected_by_either_side() {
    let root = tempfile::tempdir().expect("temporary directory");
    let (ours, theirs) = (root.path().join("ours"), root.path().join("theirs"));
    // The client rejects a server of another authority.
    assert!(connect(server(&theirs), client(&ours)).await.is_err());
    // The server rejects a client of another authority, although the client trusts the server.
    client(&theirs);
    let authority = (ours.join("authority/ca.pem"), theirs.join("edge/ca.pem"));
    std::fs::copy(authority.0, authority.1).expect("copied");
    let rejected = connect(server(&ours), client(&theirs))
        .await
        .expect_err("foreign certificate");
    assert!(
        matches!(rejected, ConnectionError::ConnectionClosed(_)),
        "{rejected}"
    );
}

#[tokio::test]
async fn edge_certificate_is_rejected_as_aggregator() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("tls");
    let client = client(&dir);
    server(&dir);
    for kind in ["pem", "key"] {
        let to = dir.join(format!("aggregator/aggregator.{kind}"));
        std::fs::copy(dir.join(format!("edge/edge.{kind}")), to).expect("copied");
    }
    assert!(connect(server(&dir), client).await.is_err());
}

#[test]
fn concurrent_starts_create_one_authority() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path();
    let authorities: BTreeSet<Vec<u8>> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8_u16)
            .map(|number| {
                scope.spawn(move || {
                    // Several nodes, and several processes of each.
                    let node = number / 2;
                    let (name, subject) = match node {
                        0 => ("aggregator".to_owned(), Subject::Aggregator),
                        node => (format!("edge-{node}"), Subject::Edge(vec![node])),
                    };
                    let own = dir.join(name);
                    tls::load_or_create(&own, &subject).expect("certificates");
                    std::fs::read(own.join("ca.pem")).expect("created")
                })
            })
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().expect("no panic"))
            .collect()
    });
    assert_eq!(authorities.len(), 1);
    assert_eq!(
        names(dir),
        ["aggregator", "authority", "edge-1", "edge-2", "edge-3"]
    );
}

/// The names in a directory, in order.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("readable");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("readable").file_name().into_string())
        .collect::<Result<_, _>>()
        .expect("UTF-8");
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("created");
    metadata.permissions().mode() & 0o777
}

#[test]
fn edge_directory_lacks_authority_key_and_is_private() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path();
    tls::load_or_create(&dir.join("edge"), &edge()).expect("certificates");
    tls::load_or_create(&dir.join("aggregator"), &Subject::Aggregator).expect("certificates");
    assert_eq!(names(&dir.join("edge")), ["ca.pem", "edge.key", "edge.pem"]);
    assert_eq!(names(&dir.join("authority")), ["ca.key", "ca.pem"]);
    for name in ["edge", "aggregator", "authority"] {
        assert_eq!(mode(&dir.join(name)), 0o700, "{name}");
    }
    for name in [
        "authority/ca.key",
        "edge/edge.key",
        "aggregator/aggregator.key",
    ] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
}

#[test]
fn keys_readable_by_others_are_rejected() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path();
    client(dir);
    for key in ["edge/edge.key", "authority/ca.key"] {
        let open = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(dir.join(key), open).expect("permissions set");
    }
    let rejected =
        tls::load_or_create(&dir.join("edge"), &edge()).expect_err("readable by a group");
    assert!(rejected.to_string().contains("chmod 600"), "{rejected}");
    let rejected = Authority::open(&dir.join("authority")).expect_err("readable by a group");
    assert!(matches!(rejected, TlsError::Key(_)), "{rejected}");
}

#[test]
fn directory_with_other_files_is_left_unchanged() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("tls");
    std::fs::create_dir(&dir).expect("created");
    std::fs::write(dir.join("letter.txt"), "dear").expect("written");
    let rejected = tls::load_or_create(&dir, &edge());
    assert!(
        matches!(rejected, Err(TlsError::Foreign(_))),
        "{rejected:?}"
    );
    assert_eq!(names(&dir), ["letter.txt"]);
}

#[test]
fn invalid_certificate_file_is_named() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("edge");
    tls::load_or_create(&dir, &edge()).expect("certificates");
    std::fs::write(dir.join("edge.pem"), "not PEM").expect("written");
    let rejected = tls::load_or_create(&dir, &edge()).expect_err("no certificate");
    assert!(rejected.to_string().contains("edge.pem"), "{rejected}");
}

#[test]
fn wrong_node_or_expired_certificate_is_rejected() {
    let root = tempfile::tempdir().expect("temporary directory");
    let identity = tls::load_or_create(&root.path().join("edge"), &edge()).expect("certificates");
    identity.require_node(NODE).expect("its own");
    identity.require_unexpired().expect("new");
    let rejected = identity
        .require_node(NODE + 1)
        .expect_err("of another node");
    assert!(rejected.to_string().contains("--node 8"), "{rejected}");

    let authority = Authority::open(&root.path().join("authority")).expect("created");
    let dir = root.path().join("expired");
    authority.issue(&edge(), 0, &dir).expect("issued");
    let expired = tls::load(&IdentityFiles::of(&dir, Role::Edge)).expect("readable");
    // It is valid to the end of this second.
    std::thread::sleep(Duration::from_millis(1_100));
    let rejected = expired.require_unexpired().expect_err("expired");
    assert!(matches!(rejected, TlsError::Expired(_)), "{rejected}");
    let trust = identity.trust().expect("usable");
    trust.check(identity.certificate()).expect("valid");
    let rejected = trust.check(expired.certificate()).expect_err("expired");
    assert!(
        matches!(rejected, CertificateRejection::Invalid(_)),
        "{rejected}"
    );
}

#[test]
fn revocation_list_allows_comments_and_names_bad_lines() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("edge");
    let identity = tls::load_or_create(&dir, &edge()).expect("certificates");
    let fingerprint = identity.certificate().fingerprint();
    let list = format!("# stolen on Monday\n\n{fingerprint}   # edge 7\n");
    std::fs::write(dir.join("revoked.txt"), &list).expect("written");
    let revoking = tls::load_or_create(&dir, &edge()).expect("certificates");
    assert!(revoking.revoked().contains(identity.certificate()));
    let trust = revoking.trust().expect("usable");
    assert_eq!(
        trust.check(identity.certificate()),
        Err(CertificateRejection::Revoked)
    );
    // As openssl shows it.
    let shown = fingerprint.to_string().to_uppercase();
    let (bytes, _) = shown.as_bytes().as_chunks::<2>();
    let pairs = bytes.iter().map(|it| str::from_utf8(it).expect("digits"));
    let pairs = pairs.collect::<Vec<_>>().join(":");
    for label in ["sha256 Fingerprint", "SHA256 Fingerprint"] {
        std::fs::write(dir.join("revoked.txt"), format!("{label}={pairs}\n")).expect("written");
        let revoking = tls::load_or_create(&dir, &edge()).expect("certificates");
        assert!(revoking.revoked().contains(identity.certificate()));
    }
    std::fs::write(dir.join("revoked.txt"), format!("{list}nonsense\n")).expect("written");
    let rejected = tls::load_or_create(&dir, &edge()).expect_err("nonsense");
    assert!(
        rejected.to_string().contains("revoked.txt:4: "),
        "{rejected}"
    );
}

#[tokio::test]
async fn dns_name_of_a_foreign_ca_names_the_node() {
    let root = tempfile::tempdir().expect("temporary directory");
    let server = server(root.path());
    let read = |name: &str| {
        let path = root.path().join("authority").join(name);
        std::fs::read_to_string(path).expect("created")
    };
    let key = KeyPair::from_pem(&read("ca.key")).expect("key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("authority");
    let names = ["edge-7.fanzfiliate.internal", "www.example.com"].map(ToOwned::to_owned);
    let params = CertificateParams::new(names).expect("DNS names");
    let key = KeyPair::generate().expect("key");
    let certificate = params.signed_by(&key, &issuer).expect("signed");
    client(root.path());
    let dir = root.path().join("edge");
    std::fs::write(dir.join("edge.pem"), certificate.pem()).expect("written");
    std::fs::write(dir.join("edge.key"), key.serialize_pem()).expect("written");
    let seen = connect(server, client(root.path())).await.expect("member");
    assert_eq!(seen.nodes(), [7]);
}

const PAYLOAD: &[u8] = b"hello";

/// A server that returns the payload; shutting down its runtime closes the socket without a message.
fn start_killable_server(dir: &Path, address: SocketAddr) -> (SocketAddr, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("runtime");
    let own = dir.join("aggregator");
    let identity = tls::load_or_create(&own, &Subject::Aggregator).expect("certificates");
    let endpoint = runtime.block_on(async { identity.listen(address).expect("socket") });
    let address = endpoint.local_addr().expect("bound");
    runtime.spawn(async move {
        let connection = endpoint
            .accept()
            .await
            .expect("attempt")
            .await
            .expect("member");
        let (mut send, mut receive) = connection.accept_bi().await.expect("stream");
        let mut received = [0; PAYLOAD.len()];
        receive.read_exact(&mut received).await.expect("received");
        send.write_all(&received).await.expect("sent");
        connection.closed().await;
    });
    (address, runtime)
}

#[test]
fn restarted_aggregator_resets_old_connections_at_once() {
    let root = tempfile::tempdir().expect("temporary directory");
    let dir = root.path().join("tls");
    let (address, first) = start_killable_server(&dir, local());
    let edge = tokio::runtime::Runtime::new().expect("runtime");
    let connection = edge.block_on(async {
        let mut endpoint = Endpoint::client(local()).expect("socket");
        endpoint.set_default_client_config(client(&dir));
        let connecting = endpoint.connect(address, SERVER_NAME).expect("valid");
        let connection = connecting.await.expect("connected");
        // The server responds after it has confirmed the handshake. Until then the client repeats its
        // last handshake packet, which is not reset.
        let (mut send, mut receive) = connection.open_bi().await.expect("stream");
        send.write_all(PAYLOAD).await.expect("sent");
        let mut received = [0; PAYLOAD.len()];
        receive.read_exact(&mut received).await.expect("received");
        connection
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let (_, _second) = start_killable_server(&dir, address);
    let reason = edge.block_on(async {
        let closed = tokio::time::timeout(Duration::from_secs(15), connection.closed());
        closed.await.expect("noticed")
    });
    // Not `TimedOut`, which would come after the idle timeout.
    assert!(matches!(reason, ConnectionError::Reset), "{reason}");
}
