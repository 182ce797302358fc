//! Why a drain did not succeed, with the exit code and what to do next.

use daemon::settings::ByteSize;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// The directory is not drained.
#[derive(Debug, Error)]
pub enum DrainError {
    /// The settings, the directory or the certificate can't be used; nothing was changed.
    #[error(transparent)]
    Unusable(#[from] anyhow::Error),
    /// Events were not acknowledged in time.
    #[error("{}", left(*events, *bytes, problem.as_deref(), next))]
    EventsLeft {
        /// How many; `None` while the edge still accepts some.
        events: Option<u64>,
        /// Their bytes in the journal.
        bytes: Option<u64>,
        /// Why nothing is shipped, if so.
        problem: Option<String>,
        /// What to do.
        next: &'static str,
    },
    /// A process has the journal open and does not listen on its control socket.
    #[error(
        "a process has the journal of {} open and does not listen on control.sock: it starts, ends or is an earlier \
         build. Try again when it has started or ended; stop an earlier build before you drain its directory",
        .0.display()
    )]
    InUse(PathBuf),
    /// An edge runs on a directory that was to be adopted.
    #[error(
        "an edge runs on {}: an orphaned directory is adopted, a running edge is drained. Use `edge-tracker drain`, or \
         stop that edge first",
        .0.display()
    )]
    Running(PathBuf),
    /// The edge ended, or its response was not understood.
    #[error(
        "the edge ended or stopped responding before every event was acknowledged ({0}); the events are in its journal. \
         Run the command again: it ships the journal itself if no edge runs"
    )]
    EdgeEnded(String),
}

/// What to do when a running edge has events left.
pub(super) const RUNNING_EDGE_NEXT: &str = "the edge keeps shipping and accepts no clicks: run the command again to \
     wait longer, or keep the directory and ship it later with `edge-tracker adopt`";
/// What to do when a journal has events left.
pub(super) const OFFLINE_NEXT: &str =
    "keep the directory and run the command again: it continues where it ended";

impl DrainError {
    /// The exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        // 2 is for wrong arguments.
        ExitCode::from(match self {
            Self::Unusable(_) => 1,
            Self::EventsLeft { .. } => 3,
            Self::InUse(_) | Self::Running(_) => 4,
            Self::EdgeEnded(_) => 5,
        })
    }
}

fn left(events: Option<u64>, bytes: Option<u64>, problem: Option<&str>, next: &str) -> String {
    let amount = match (events, bytes) {
        (Some(events), Some(bytes)) => {
            format!("{events} events ({}) are not acknowledged", human(bytes))
        }
        _ => "the edge still accepts events".to_owned(),
    };
    let problem = problem.map_or(String::new(), |problem| {
        format!("; nothing is shipped: {problem}")
    });
    format!("{amount}{problem}; {next}")
}

/// Bytes in a unit that people read.
pub(super) fn human(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => ByteSize(bytes >> 10 << 10).to_string(),
        _ => ByteSize(bytes >> 20 << 20).to_string(),
    }
}
