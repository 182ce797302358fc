//! Cleartext HTTP/2, as load balancers speak it to what is behind them.
#![allow(missing_docs)]

mod harness;

use bytes::Bytes;
use harness::{CHROME, Edge};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};

#[tokio::test]
async fn many_streams_of_one_connection_are_answered() {
    let edge = Edge::start();
    let stream = tokio::net::TcpStream::connect(&edge.listening)
        .await
        .expect("the edge listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for number in 0..50 {
        let request = http::Request::get(format!("http://go.example/c/spring?sub1={number}"))
            .header("user-agent", CHROME)
            .body(Empty::<Bytes>::new())
            .expect("valid");
        answers.push((number, sender.clone().send_request(request)));
    }
    for (number, answer) in answers {
        let answer = answer.await.expect("answered");
        assert_eq!(answer.status(), 302);
        let location = answer.headers()["location"].to_str().expect("ASCII");
        assert!(location.contains(&format!("&s={number}&")), "{location}");
    }
    assert_eq!(edge.metric("edge_click_log_seconds_count", ""), 50);
}
