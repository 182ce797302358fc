//! The wish to stop early: Ctrl-C or SIGTERM, noticed between and within steps so that everything
//! started is stopped and every folder removed.

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells whether the wish was uttered.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens from now on, for the rest of the process.
    ///
    /// # Errors
    /// When the signals can't be listened to.
    pub fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (wished, receiver) = watch::channel(false);
        let (mut terminate, mut interrupt) = {
            let _inside = runtime.enter();
            let listen = |kind| signal(kind).context("cannot listen to signals");
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
            wished.send_replace(true);
        });
        Ok(Self(receiver))
    }

    /// # Errors
    /// When the wish was uttered.
    pub fn check(&self) -> anyhow::Result<()> {
        if *self.0.borrow() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits for the wish.
    pub async fn wished(&mut self) {
        // The listening thread ends only after it has told us.
        let _ = self.0.wait_for(|wished| *wished).await;
    }
}
