//! Listeners, and connections over streams that are no sockets.

mod streams;

use super::*;
use socket2::SockRef;

fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(7),
        stop_timeout: Duration::from_secs(1),
        connections: 1,
        shed_lag: Duration::from_millis(50),
        head_bytes: 8_192,
        proxy_protocol: false,
        http2: Http2::Any,
    }
}

#[test]
fn accepted_connections_inherit_listener_options() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (listeners, address) = bind(any, 1, limits()).expect("bound");
    let _client = std::net::TcpStream::connect(address).expect("connected");
    let accepted = loop {
        match listeners[0].accept() {
            Ok((stream, _)) => break stream,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    };
    let accepted = SockRef::from(&accepted);
    assert!(accepted.tcp_nodelay().expect("readable"));
    let timeout = accepted.tcp_user_timeout().expect("readable");
    assert_eq!(timeout, Some(limits().write_timeout));
    let congestion = accepted.tcp_congestion().expect("readable");
    assert!(congestion.starts_with(b"reno\0"), "{congestion:?}");
}
