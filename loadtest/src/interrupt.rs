//! Early termination by Ctrl-C or SIGTERM, checked between and within steps, so that all processes are stopped and
//! all directories removed.

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether a signal was received.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Handles the signals from now on until the process exits.
    ///
    /// # Errors
    /// If the signals can't be handled.
    pub fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (received, receiver) = watch::channel(false);
        let (mut terminate, mut interrupt) = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).context("failed to handle signals");
            (
                listen(SignalKind::terminate())?,
                listen(SignalKind::interrupt())?,
            )
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            });
            received.send_replace(true);
        });
        Ok(Self(receiver))
    }

    /// Returns an error once a signal was received.
    ///
    /// # Errors
    /// If a signal was received.
    pub fn check(&self) -> anyhow::Result<()> {
        if *self.0.borrow() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits for a signal.
    pub async fn received(&mut self) {
        // The sender is dropped only after it has sent.
        let _ = self.0.wait_for(|received| *received).await;
    }
}
