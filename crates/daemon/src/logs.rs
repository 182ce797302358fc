//! Logging to standard error, filtered by `RUST_LOG` (default `info`), as text or as JSON.

use crate::traces::SpanExport;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

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
    init_with_traces(format, None);
}

/// As [`init`], and starts the export of spans.
pub fn init_with_traces(format: LogFormat, export: Option<&SpanExport>) {
    if FORMAT.set(format).is_err() {
        return;
    }
    let (filter, invalid) = filter(std::env::var(EnvFilter::DEFAULT_ENV).ok().as_deref());
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            lines.with_target(false).with_ansi(is_terminal).boxed()
        }
        LogFormat::Json => {
            std::panic::set_hook(Box::new(
                |panic| tracing::error!(%panic, "a thread panicked"),
            ));
            lines.json().flatten_event(true).boxed()
        }
    };
    let layers = tracing_subscriber::registry().with(lines.with_filter(filter));
    let _ = layers.with(export.map(SpanExport::layer)).try_init();
    if let Some(error) = invalid {
        tracing::warn!(error, "RUST_LOG is invalid and has no effect");
    }
}

/// Reports the error with which `program` ends, in the format of its log.
pub fn report_failure(program: &str, error: &dyn Display) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::error!(program, %error, "the program ends"),
        Some(LogFormat::Text) | None => eprintln!("{program}: {error}"),
    }
}

/// The filter that the variable asks for, and why it can't be used.
fn filter(variable: Option<&str>) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new("info");
    match variable.filter(|text| !text.is_empty()) {
        None => (default(), None),
        Some(text) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, None),
            Err(error) => (default(), Some(error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_filter_is_reported_and_replaced() {
        for (variable, used, is_invalid) in [
            (None, "info", false),
            (Some(""), "info", false),
            (Some("warn"), "warn", false),
            (Some("info=loud"), "info", true),
        ] {
            let (filter, invalid) = filter(variable);
            assert_eq!(filter.to_string(), used, "{variable:?}");
            assert_eq!(invalid.is_some(), is_invalid, "{variable:?}: {invalid:?}");
        }
    }
}
