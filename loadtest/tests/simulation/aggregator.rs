//! The aggregator's process on a model disk.

use crate::database;
use crate::network::Network;
use aggregator::Aggregator;
use aggregator::settings::Settings;
use prometheus::Registry;
use std::time::Duration;
use storage::model::ModelDisk;
use tokio::task::JoinSet;
use tokio::time::sleep;

const SETTINGS: &str = r#"
    data_dir = "/aggregator"
    [tls]
    dir = "/none"
    [clickhouse]
    url = "http://127.0.0.1:9"
    [blocks]
    max_rows = 200
    max_bytes = "64KiB"
    max_age = "200ms"
"#;

/// Runs until the task is aborted or the machine stops.
pub(crate) async fn run(disk: ModelDisk, network: Network, database: database::Model) {
    let settings: Settings = toml::from_str(SETTINGS).expect("settings");
    let Ok(centre) = Aggregator::open(disk.clone(), &settings, &Registry::new()) else {
        return;
    };
    let mut arriving = network.listen();
    let edges = centre.edges();
    let mut tasks = JoinSet::new();
    // Boxed: the compiler's limit for nested futures is reached otherwise.
    let running = Box::pin(centre.run(database));
    tasks.spawn(async move {
        let ended = running.await;
        ended.expect("no other aggregator takes over");
    });
    while !disk.has_stopped() {
        tokio::select! {
            biased;
            Some((send, receive)) = arriving.recv() => {
                let edges = edges.clone();
                tasks.spawn(async move { edges.converse(send, receive).await });
            }
            () = sleep(Duration::from_millis(20)) => {}
        }
    }
}
