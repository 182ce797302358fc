//! The real ClickHouse on a directory of its own, on the same port whenever it is started again.

use super::PORTS;
use clickhouse::Client;
use clickhouse_embedded::{Credentials, Launch, RunningEngine, launcher_exe};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::PoisonError;

pub struct Engine {
    launch: Launch,
    running: Option<RunningEngine>,
}

impl Engine {
    pub fn start(directory: &Path) -> Self {
        let _alone = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let launch = Launch {
            data_dir: directory.join("clickhouse"),
            http_port: free.local_addr().expect("bound").port(),
            launcher: launcher_exe().expect("`cargo build -p clickhouse-embedded` was run"),
        };
        drop(free);
        let running = Some(launch.start().expect("the engine starts"));
        Self { launch, running }
    }

    pub fn kill(&mut self) {
        self.running
            .take()
            .expect("running")
            .kill()
            .expect("killed");
    }

    pub fn up(&mut self) {
        self.running = Some(self.launch.start().expect("the engine starts again"));
    }

    /// The keys of the aggregator's `[clickhouse]`.
    pub fn settings(&self) -> String {
        self.settings_at(&self.url())
    }

    /// As [`Engine::settings`], for an address that leads here.
    pub fn settings_at(&self, url: &str) -> String {
        let credentials = self.launch.data_dir.join("credentials.json");
        let credentials = credentials.display();
        format!("url = \"{url}\"\ncredentials = \"{credentials}\"")
    }

    /// A client that may only read.
    pub fn reader(&self) -> Client {
        let credentials = Credentials::load(&self.launch.data_dir).expect("made at the start");
        Client::default()
            .with_url(self.url())
            .with_user("analyst")
            .with_password(credentials.analyst.password)
            .with_database("tracking")
    }

    /// The aggregator's own client.
    pub fn writer(&self) -> Client {
        let credentials = Credentials::load(&self.launch.data_dir).expect("made at the start");
        Client::default()
            .with_url(self.url())
            .with_user(credentials.tracker.user)
            .with_password(credentials.tracker.password)
            .with_database("tracking")
    }

    pub fn port(&self) -> u16 {
        self.launch.http_port
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.launch.http_port)
    }
}
