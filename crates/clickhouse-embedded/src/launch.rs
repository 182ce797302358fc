//! Starts the launcher as a child process, waits until the engine responds, and stops it.

use crate::credentials::Credentials;
use crate::ports::free_port;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use thiserror::Error;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const PING_INTERVAL: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LAUNCHER_NAME: &str = "clickhouse-embedded";

/// The options of an engine to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The data directory, which is kept between runs.
    pub data_dir: PathBuf,
    /// The HTTP port on 127.0.0.1; 0 chooses a free one.
    pub http_port: u16,
    /// The launcher program; see [`launcher_exe`].
    pub launcher: PathBuf,
}

/// An engine running as a child process; dropping it stops the engine.
#[derive(Debug)]
pub struct RunningEngine {
    child: Child,
    port: u16,
    credentials: Credentials,
}

/// The engine did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The launcher program does not exist.
    #[error("{} is not built; run: cargo build --package clickhouse-embedded", .0.display())]
    NotBuilt(PathBuf),
    /// A system call failed.
    #[error("failed to start the engine: {0}")]
    Io(#[from] io::Error),
    /// The engine ended, or did not respond in time.
    #[error("the engine {failure}; its log ends with:\n{log}")]
    Failed {
        /// The kind of failure.
        failure: String,
        /// The last lines of its log.
        log: String,
    },
}

/// The launcher in the directory of the current program, or in the parent directory as for tests.
///
/// # Errors
/// When the launcher does not exist; the message names the build command.
pub fn launcher_exe() -> Result<PathBuf, StartError> {
    let here = std::env::current_exe()?;
    let directories = here.ancestors().skip(1).take(2);
    let mut candidates = directories.map(|dir| dir.join(LAUNCHER_NAME));
    let found = candidates.find(|candidate| candidate.is_file());
    found.ok_or_else(|| StartError::NotBuilt(here.with_file_name(LAUNCHER_NAME)))
}

impl Launch {
    /// Starts the engine and waits until it responds.
    ///
    /// # Errors
    /// When the engine can't be started or does not respond within a minute.
    pub fn start(&self) -> Result<RunningEngine, StartError> {
        if !self.launcher.is_file() {
            return Err(StartError::NotBuilt(self.launcher.clone()));
        }
        let mut dir = DirBuilder::new();
        dir.recursive(true).mode(0o700).create(&self.data_dir)?;
        let port = if self.http_port == 0 {
            free_port()?
        } else {
            self.http_port
        };
        let log = self.data_dir.join("engine.log");
        let mut output = File::options();
        let output = output.create(true).append(true).mode(0o600).open(&log)?;
        let child = Command::new(&self.launcher)
            .args([
                "serve",
                "--die-with-parent",
                "--http-port",
                &port.to_string(),
                "--data",
            ])
            .arg(&self.data_dir)
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        await_ready(child, port, &log, &self.data_dir)
    }
}

fn await_ready(
    mut child: Child,
    port: u16,
    log: &Path,
    data: &Path,
) -> Result<RunningEngine, StartError> {
    let deadline = Instant::now() + START_TIMEOUT;
    let failed = |failure: String| StartError::Failed {
        failure,
        log: tail(log),
    };
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(failed(format!("ended with {status}")));
        }
        // Another engine may respond at the port; a launcher that finds it in use ends before it writes credentials.
        if Credentials::file(data).is_file() && ping(port) {
            let credentials = Credentials::load(data)?;
            return Ok(RunningEngine {
                child,
                port,
                credentials,
            });
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(failed(format!("did not respond within {START_TIMEOUT:?}")));
        }
        std::thread::sleep(PING_INTERVAL);
    }
}

/// Logs that the engine of this process responds, once it does.
pub(crate) fn announce(port: u16) {
    while !ping(port) {
        std::thread::sleep(PING_INTERVAL);
    }
    tracing::info!("ClickHouse is ready");
}

/// Whether ClickHouse, and not another server, responds at the port.
fn ping(port: u16) -> bool {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(2)))
        .proxy(None)
        .build();
    let response = ureq::Agent::new_with_config(config)
        .get(format!("http://127.0.0.1:{port}/ping"))
        .call();
    let text = response.and_then(|mut response| response.body_mut().read_to_string());
    text.is_ok_and(|text| text == "Ok.\n")
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

impl RunningEngine {
    /// The URL of the HTTP interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The HTTP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The engine's users.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the engine, as in a crash.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Requests the shutdown and waits for its end.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn stop(mut self) -> io::Result<ExitStatus> {
        self.stop_child()
    }

    fn stop_child(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        let _ = self.stop_child();
    }
}
