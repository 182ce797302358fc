//! The commands `drain` and `adopt`, with their progress as JSON.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A running command.
pub struct DrainCommand {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stderr: String,
}

impl DrainCommand {
    /// Starts `drain` with JSON.
    pub fn start(config: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edge-tracker"))
            .args(["drain", "--json", "--config"])
            .arg(config)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let stdout = child.stdout.take().expect("piped");
        Self {
            child,
            lines: BufReader::new(stdout),
        }
    }

    /// Reads progress until the stage is reached, and returns that line.
    pub fn await_stage(&mut self, stage: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("readable");
            assert!(read > 0, "ended before it was {stage}: {:?}", self.end());
            let progress: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if progress["stage"] == stage {
                return progress;
            }
        }
    }

    pub fn end(&mut self) -> Ended {
        let mut stderr = String::new();
        let errors = self.child.stderr.as_mut().expect("piped");
        errors.read_to_string(&mut stderr).expect("text");
        let status = self.child.wait().expect("waitable");
        Ended {
            code: status.code(),
            stderr,
        }
    }
}

/// Runs `drain` or `adopt` to its end.
pub fn run(command: &str, config: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edge-tracker"))
        .args([command, "--config"])
        .arg(config)
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Runs a command that succeeds, and returns its standard output.
pub fn succeeds(command: &str, config: &Path, arguments: &[&str]) -> String {
    let output = run(command, config, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout
}

/// Runs a command that ends with `code`, and returns its standard error.
pub fn fails(command: &str, config: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(command, config, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    stderr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
