//! A fake aggregator that sends the fleet's state in its welcome and accepts no batches.

use super::listener::EdgeListener;
use domain::Micros;
use event_shipping::{
    AggregatorMessage, EdgeMessage, LaneState, MAX_CONTROL_MESSAGE_BYTES, VisitorSalt, Welcome,
    read_message, write_message,
};
use quinn::Connection;
use std::net::SocketAddr;
use std::path::Path;

/// Welcomes edges, with a certificate of the authority in `dir`.
pub struct WelcomingAggregator {
    pub address: SocketAddr,
    _listener: EdgeListener,
}

impl WelcomingAggregator {
    pub fn start(dir: &Path, salt: Option<VisitorSalt>) -> Self {
        let listener = EdgeListener::start(dir, move |connection| welcome(connection, salt));
        Self {
            address: listener.address,
            _listener: listener,
        }
    }
}

async fn welcome(connection: Connection, salt: Option<VisitorSalt>) -> Option<()> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let first = read_message(&mut receive, MAX_CONTROL_MESSAGE_BYTES).await;
    let Some(EdgeMessage::Hello(hello)) = first.ok()? else {
        return None;
    };
    let lanes = hello.lanes.iter().map(|it| LaneState {
        lane: it.lane,
        journal: it.journal,
        received: 0,
        taken: 0,
    });
    let welcome = AggregatorMessage::Welcome(Welcome {
        lanes: lanes.collect(),
        time_micros: Micros::now().0,
        visitor_salt: salt,
    });
    write_message(&mut send, &welcome).await.ok()?;
    connection.closed().await;
    Some(())
}
