//! Logging to standard error, filtered by `RUST_LOG` (default `info`), as text or as JSON.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// The format of this process's log.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// The format of lines on standard error. `json`: an object for each event, with `timestamp`, `level`, `target`,
    /// `message` and the event's fields, also for the error with which the program ends.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Starts logging for the process; later calls have no effect.
pub fn init(format: LogFormat) {
    if FORMAT.set(format).is_err() {
        return;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => {
            std::panic::set_hook(Box::new(
                |panic| tracing::error!(%panic, "a thread panicked"),
            ));
            lines.json().flatten_event(true).try_init()
        }
    };
}

/// Reports the error with which `program` ends, in the format of its log.
pub fn report_failure(program: &str, error: &dyn Display) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::error!(program, %error, "the program ends"),
        Some(LogFormat::Text) | None => eprintln!("{program}: {error}"),
    }
}
