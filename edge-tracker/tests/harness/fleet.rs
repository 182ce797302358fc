//! A fake aggregator that sends the fleet's state in its welcome and accepts no batches.

use domain::Micros;
use event_shipping::tls::{self, Subject};
use event_shipping::{
    AggregatorMessage, EdgeMessage, LaneState, MAX_CONTROL_MESSAGE_BYTES, VisitorSalt, Welcome,
    read_message, write_message,
};
use std::net::SocketAddr;
use std::path::Path;

/// Welcomes edges from threads of its own, with a certificate of the authority in `dir`.
pub struct WelcomingAggregator {
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl WelcomingAggregator {
    pub fn start(dir: &Path, salt: Option<VisitorSalt>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let guard = runtime.enter();
        let identity = tls::load_or_create(&dir.join("aggregator"), &Subject::Aggregator);
        let endpoint = identity
            .expect("certificates")
            .listen(([127, 0, 0, 1], 0).into());
        let endpoint = endpoint.expect("free port");
        let address = endpoint.local_addr().expect("bound");
        drop(guard);
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let connection = incoming.await.ok()?;
                    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
                    let hello = read_message(&mut receive, MAX_CONTROL_MESSAGE_BYTES)
                        .await
                        .ok()?;
                    let Some(EdgeMessage::Hello(hello)) = hello else {
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
                });
            }
        });
        Self {
            address,
            _runtime: runtime,
        }
    }
}
