//! The aggregator as a process of its own, so that it can be killed.

use super::{metric, until};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

pub struct Process {
    config: PathBuf,
    child: Child,
    pub listening: SocketAddr,
    pub admin: SocketAddr,
}

impl Process {
    pub fn start(config: &Path) -> Self {
        let (child, listening, admin) = spawn(config);
        Self {
            config: config.to_owned(),
            child,
            listening,
            admin,
        }
    }

    /// `kill -9`, then a new process with the same directory.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().expect("alive");
        self.restart();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("alive");
    }

    /// Sends SIGTERM and returns the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().expect("process ends")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until no report is pending: edges are acknowledged before.
    pub async fn evaluated(&self) {
        until("evaluated", async || {
            metric(self.admin, "aggregator_pending_reports").await == Some(0.0)
        })
        .await;
    }

    /// Starts a new process after the old one has ended.
    pub fn restart(&mut self) {
        self.child.wait().expect("process has ended");
        (self.child, self.listening, self.admin) = spawn(&self.config);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(config: &Path) -> (Child, SocketAddr, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aggregator"))
        .args(["serve", "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("program starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("readable");
    let printed: serde_json::Value = serde_json::from_str(&line).expect("one line of JSON");
    let address = |name: &str| printed[name].as_str().and_then(|text| text.parse().ok());
    let (listening, admin) = (address("listening"), address("admin"));
    (
        child,
        listening.expect("valid address"),
        admin.expect("valid address"),
    )
}
