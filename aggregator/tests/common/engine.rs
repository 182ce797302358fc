//! The real ClickHouse in a directory of its own, on the same port after each restart.

use super::PORTS;
use clickhouse::Client;
use clickhouse_embedded::{Credentials, Launch, RunningEngine, launcher_exe};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

pub struct Engine {
    launch: Launch,
    running: Option<RunningEngine>,
}

impl Engine {
    pub fn start(directory: &Path) -> Self {
        let _alone = PORTS.lock();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("free port");
        let launch = Launch {
            data_dir: directory.join("clickhouse"),
            http_port: free.local_addr().expect("bound").port(),
            launcher: launcher_exe().expect("`cargo build -p clickhouse-embedded` was run"),
        };
        drop(free);
        let running = Some(launch.start().expect("engine starts"));
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
        self.running = Some(self.launch.start().expect("engine restarts"));
    }

    /// The keys of the aggregator's `[clickhouse]`.
    pub fn settings(&self) -> String {
        self.settings_at(&self.url())
    }

    /// As [`Engine::settings`], for another URL that leads to the engine.
    pub fn settings_at(&self, url: &str) -> String {
        let credentials = self.launch.data_dir.join("credentials.json");
        let credentials = credentials.display();
        format!("url = \"{url}\"\ncredentials = \"{credentials}\"")
    }

    /// A read-only client.
    pub fn reader(&self) -> Client {
        let credentials = Credentials::load(&self.launch.data_dir).expect("created at the start");
        Client::default()
            .with_url(self.url())
            .with_user("analyst")
            .with_password(credentials.analyst.password)
            .with_database("tracking")
    }

    /// A client with the aggregator's credentials.
    pub fn writer(&self) -> Client {
        let credentials = Credentials::load(&self.launch.data_dir).expect("created at the start");
        Client::default()
            .with_url(self.url())
            .with_user(credentials.tracker.user)
            .with_password(credentials.tracker.password)
            .with_database("tracking")
    }

    pub fn port(&self) -> u16 {
        self.launch.http_port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.launch.http_port)
    }
}
