//! Sign-on with an OpenID Connect provider: authorization code flow with PKCE, accounts and roles from its claims,
//! access tokens as credentials, and back-channel logout.
//!
//! A small client on `ring` instead of the crate `openidconnect`, which would add some 50 crates, a second stack of
//! elliptic curves and an `rsa` with an open advisory; it leaves RFC 9068 and back-channel logout to its user.
//!
//! Invariant: `none` and `HS…` do not exist here; a token names its key by `kid` only, and the key's own type decides
//! the algorithm. No provider's text reaches a log line or an error.

mod access_token;
mod algorithm;
mod callback;
mod claims;
mod discovery;
mod flow;
mod http_client;
mod id_token;
mod identity;
mod jwks;
mod jwt;
mod logout;
mod provider;
mod return_path;
mod settings;

pub use crate::fault::{HttpError, ProviderFault, TokenFault};
pub use access_token::AccessToken;
pub use callback::Callback;
pub use flow::{AccountEvent, SignOnCookie, SignOnRequest, SignedOn};
pub use http_client::{HttpClient, HyperClient};
pub use return_path::ReturnPath;
pub use settings::{ClientSecret, InvalidProviderSettings, ProviderSettings, RoleRule, Unmapped};

use crate::accounts::Accounts;
use provider::Provider;
use std::sync::Arc;

/// Sign-on with one provider. Clones share its metadata and keys.
#[derive(Debug, Clone)]
pub struct SignOn {
    accounts: Accounts,
    provider: Arc<Provider>,
}

impl SignOn {
    /// Sign-on with a provider. Nothing is requested from it before the first use.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn new(
        accounts: Accounts,
        settings: ProviderSettings,
        http: Arc<dyn HttpClient>,
    ) -> Result<Self, InvalidProviderSettings> {
        settings.validate()?;
        let clock = accounts.clock.clone();
        let provider = Arc::new(Provider::new(settings, http, clock));
        Ok(Self { accounts, provider })
    }
}
