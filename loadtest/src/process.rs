//! One child process with a log file and a ready line. Knows nothing of what the process does.

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

/// Bytes of a log that an error shows.
const TAIL_BYTES: usize = 2000;

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: mpsc::Receiver<String>,
}

impl Process {
    /// Starts it; standard error is appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the program not be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let errors: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        // In a group of its own, so that a Ctrl-C reaches only us and we stop it in order.
        // An error's backtrace would push what it says out of the log's tail.
        command
            .env("RUST_LIB_BACKTRACE", "0")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdout = child
            .stdout
            .take()
            .context("standard output was asked for")?;
        let (sender, lines) = mpsc::channel();
        // Reads to the end even when nobody listens, or a chatty process would block.
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

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its ready line: the first line of standard output that is a JSON object.
    ///
    /// # Errors
    /// When it ends or the deadline passes first; the message has the log's tail.
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
                    bail!("{} ended before it was ready:\n{}", self.name, self.tail());
                }
            }
        }
    }

    /// Ends it and what it started as `kill -9` does and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        killpg(self.group()?, Signal::SIGKILL)
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it is still there after `within` or ended with an error.
    pub fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        kill(self.group()?, Signal::SIGTERM)
            .with_context(|| format!("cannot stop {}", self.name))?;
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "{} ended with {status}:\n{}",
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

    /// Its process group, which has its number: what it started itself is in it.
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
        // Already gone is what is wanted.
        let _ = self.group().map(|group| killpg(group, Signal::SIGKILL));
        let _ = self.child.wait();
    }
}
