//! The files of one side, read again while running when one changes.

use super::{Identity, IdentityFiles, TlsError, load};
use daemon::files::WatchedFiles;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Certificate, key, authorities and revocation list, which may be replaced.
#[derive(Debug)]
pub struct WatchedIdentity {
    files: IdentityFiles,
    watched: WatchedFiles,
}

impl WatchedIdentity {
    /// Reads `files`.
    ///
    /// # Errors
    /// When they can't be used.
    pub fn load(files: IdentityFiles) -> Result<(Self, Identity), TlsError> {
        let watched = WatchedFiles::new(files.paths());
        let identity = load(&files)?;
        show(&identity);
        Ok((Self { files, watched }, identity))
    }

    /// Returns when a file has changed since the last time.
    pub async fn changed(&mut self) {
        while !self.watched.changed() {
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Reads the files again and passes them to `prepare`. Files that can't be used are logged, and change nothing until one
    /// of them changes again.
    ///
    /// # Panics
    /// When `prepare` does.
    pub async fn reload<T: Send + 'static>(
        &self,
        prepare: impl FnOnce(&Identity) -> Result<T, TlsError> + Send + 'static,
    ) -> Option<(Identity, T)> {
        let files = self.files.clone();
        let read = move || {
            let identity = load(&files)?;
            identity.require_unexpired()?;
            let prepared = prepare(&identity)?;
            Ok::<_, TlsError>((identity, prepared))
        };
        let read = spawn_blocking(read).await;
        let read = read.expect("it does not panic and is not cancelled");
        read.inspect(|(identity, _)| show(identity))
            .inspect_err(
                |error| tracing::error!(%error, "rejected the certificates, keeping the active ones"),
            )
            .ok()
    }
}

fn show(identity: &Identity) {
    let certificate = identity.certificate();
    tracing::info!(fingerprint = %certificate.fingerprint(), expires = certificate.expiry_date(), revoked = identity.revoked().len(), "certificate in use");
}
