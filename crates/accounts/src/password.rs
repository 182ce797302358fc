//! Passwords: their rules, and Argon2id with bounded memory.

use crate::error::{AccountsError, Refusal, Result};
use crate::secret::{random_bytes, random_token, secret_text};
use argon2::password_hash::PasswordVerifier as _;
use argon2::{Algorithm, Argon2, Params, Version};
use argon2::{PasswordHasher as _, password_hash::phc::PasswordHash};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

/// Argon2id with 19 MiB, 2 passes and 1 lane, the first choice of OWASP's Password Storage Cheat Sheet
/// (<https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// RFC 9106, section 3.1.
const SALT_BYTES: usize = 16;

/// NIST SP 800-63B, section 3.1.1.2, demands 15 characters where a password is the only factor, and no rules about
/// kinds of characters.
const MIN_PASSWORD_CHARS: usize = 15;
const MAX_PASSWORD_BYTES: usize = 1_024;
const MIN_DISTINCT_CHARS: usize = 5;

secret_text! {
    /// A password of a local user.
    pub struct Password
}

impl Password {
    /// Checks a password that a user chose.
    pub(crate) fn check_rules(&self, email: &str) -> Result<()> {
        let text = self.expose();
        let mut distinct: Vec<char> = text.to_lowercase().chars().collect();
        let length = distinct.len();
        distinct.sort_unstable();
        distinct.dedup();
        let message = if length < MIN_PASSWORD_CHARS {
            "a password has at least 15 characters; several words are easy to remember"
        } else if text.len() > MAX_PASSWORD_BYTES {
            "a password has at most 1024 bytes"
        } else if distinct.len() < MIN_DISTINCT_CHARS {
            "the password repeats few characters; several words are easy to remember"
        } else if text.trim().eq_ignore_ascii_case(email) {
            "the password is the e-mail address; choose another one"
        } else {
            return Ok(());
        };
        Err(AccountsError::invalid("/password", message))
    }

    /// The same bytes for the same text on every system (NIST SP 800-63B: NFKC).
    fn normalised(&self) -> Zeroizing<Vec<u8>> {
        let normalised: Zeroizing<String> = Zeroizing::new(self.expose().nfkc().collect());
        Zeroizing::new(normalised.as_bytes().to_vec())
    }
}

/// Hashes passwords, only some at the same time: each takes 19 MiB, so that unlimited sign-ins would exhaust memory.
#[derive(Clone)]
pub(crate) struct PasswordHasher {
    permits: Arc<Semaphore>,
    wait: Duration,
    /// The hash of a random password, which is checked for users without one: it takes the same time.
    dummy: Arc<OnceLock<String>>,
}

impl fmt::Debug for PasswordHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHasher")
    }
}

impl PasswordHasher {
    pub(crate) fn new(max_parallel: usize, wait: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(max_parallel.max(1))),
            wait,
            dummy: Arc::default(),
        }
    }

    /// The hash of a password that passed its rules, in the PHC string format.
    pub(crate) async fn hash(&self, password: &Password) -> Result<String> {
        let bytes = password.normalised();
        self.run(move || hash(&bytes)).await
    }

    /// Whether the password belongs to `stored`; without a stored hash it takes as long and returns false.
    pub(crate) async fn verify(&self, password: &Password, stored: Option<String>) -> Result<bool> {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let bytes = password.normalised();
        let dummy = Arc::clone(&self.dummy);
        self.run(move || {
            let is_known = stored.is_some();
            let stored = stored.unwrap_or_else(|| {
                dummy
                    .get_or_init(|| hash(random_token().as_bytes()))
                    .clone()
            });
            argon2().verify_password(&bytes, stored.as_str()).is_ok() && is_known
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = self.permit().await?;
        // The permit moves along: if the client leaves, the work still runs and still has its memory.
        let worked = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        worked.await.map_err(|_| Refusal::Busy.into())
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(self.wait, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy.into()),
        }
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None);
    let params = params.expect("the parameters are within the algorithm's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &[u8]) -> String {
    let salt: [u8; SALT_BYTES] = random_bytes();
    let hash: PasswordHash = argon2()
        .hash_password_with_salt(password, &salt)
        .expect("the lengths are within the algorithm's limits");
    hash.to_string()
}
