//! The wish to stop: SIGTERM or SIGINT.

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
