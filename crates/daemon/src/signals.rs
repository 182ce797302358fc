//! Signals: SIGTERM and SIGINT request the shutdown; SIGHUP is ignored.

use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Returns once the process receives SIGTERM or SIGINT.
///
/// # Errors
/// When the signal handlers can't be installed.
pub async fn shutdown_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Prevents SIGHUP from ending the process; call this first in a runtime.
///
/// # Errors
/// When the signal handler can't be installed.
pub fn ignore_hangups() -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!(
                "SIGHUP ignored; changed files are read again within seconds, the settings file at start"
            );
        }
    });
    Ok(())
}
