//! Signals: the wish to stop (SIGTERM, SIGINT), and SIGHUP, which must not end a daemon.

use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Returns once the process has been asked to stop.
///
/// # Errors
/// When the signals can't be listened to.
pub async fn requested() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Keeps SIGHUP from ending the process; to be called in a runtime, before anything else.
///
/// # Errors
/// When the signal can't be listened to.
pub fn ignore_hangups() -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            tracing::info!(
                "SIGHUP: nothing to do; changed files are read again within seconds, the settings file at start"
            );
        }
    });
    Ok(())
}
