//! A child process with a log file and a ready line. Invariant: no knowledge of the program.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Bytes of the log that an error includes.
const TAIL_BYTES: usize = 2000;

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Process {
    /// Starts a process; its standard error is appended to `log`.
    ///
    /// # Errors
    /// If the log can't be opened or the program can't be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let errors: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        // A group of its own, so that Ctrl-C reaches only this program, which stops the process in order. A
        // backtrace would push the error message out of the log's tail.
        command
            .env("RUST_LIB_BACKTRACE", "0")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (sender, lines) = mpsc::channel();
        // Reads to the end even without a receiver: otherwise a process that prints much would block.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            lines,
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The ready line: the first line of standard output that is a JSON object.
    ///
    /// # Errors
    /// If the process exits first or is not ready within `within`; the message includes the log's tail.
    pub fn ready_line(&mut self, within: Duration) -> anyhow::Result<serde_json::Value> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Ok(value @ serde_json::Value::Object(_)) = serde_json::from_str(&line) {
                        return Ok(value);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!(
                        "{} was not ready within {within:?}:\n{}",
                        self.name,
                        self.tail()
                    );
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    bail!("{} exited before it was ready:\n{}", self.name, self.tail());
                }
            }
        }
    }

    /// Kills the process group (SIGKILL) and waits for the exit.
    ///
    /// # Errors
    /// If the signal can't be sent.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        killpg(self.group()?, Signal::SIGKILL)
            .with_context(|| format!("failed to kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("failed to wait for {}", self.name))?;
        Ok(())
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Errors
    /// If the process still runs after `within` or exited with an error.
    pub fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        kill(self.group()?, Signal::SIGTERM)
            .with_context(|| format!("failed to stop {}", self.name))?;
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "{} exited with {status}:\n{}",
                    self.name,
                    self.tail()
                );
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!(
            "{} did not stop within {within:?}:\n{}",
            self.name,
            self.tail()
        )
    }

    /// The process group, which includes the process's own children.
    fn group(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(
            i32::try_from(self.child.id()).context("process id")?,
        ))
    }

    fn tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = bytes.len().saturating_sub(TAIL_BYTES);
        format!(
            "--- {} ---\n{}",
            self.log.display(),
            String::from_utf8_lossy(&bytes[from..])
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.group().map(|group| killpg(group, Signal::SIGKILL));
        let _ = self.child.wait();
    }
}
