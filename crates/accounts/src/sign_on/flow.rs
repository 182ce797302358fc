//! The authorization code flow with PKCE (RFC 6749, RFC 7636, RFC 9207, OpenID Connect Core 1.0).
//!
//! A sign-on that has begun is in the browser's cookie, sealed, and not in the store: visitors can begin any number of
//! them without a write. Its state is stored before the code is exchanged, and is accepted once.

use super::SignOn;
use super::callback::Callback;
use super::claims::Claims;
use super::id_token::{self, Expected};
use super::identity::{Account, Identity};
use super::provider::Fetched;
use super::return_path::ReturnPath;
use crate::accounts::transaction;
use crate::error::{Refusal, Result};
use crate::fault::{ProviderFault, TokenFault};
use crate::ids::UserId;
use crate::secret::{is_equal, random_token, secret_text};
use crate::sessions::{Client, NewSession, ProviderSession, SessionMethod, SessionToken};
use crate::used_values::use_once;
use data_encoding::BASE64URL_NOPAD;
use domain::Micros;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sql_store::Transaction;
use std::time::Duration;

/// The time that a user has at the provider.
const LIFETIME: Duration = Duration::from_secs(600);
const SEALING_CONTEXT: &str = "sign-on";

secret_text! {
    /// The cookie `__Host-…` that binds a sign-on to its browser: `Secure`, `HttpOnly`, `SameSite=Lax`. It is valid
    /// for ten minutes and cleared at the end.
    pub struct SignOnCookie
}
secret_text! {
    /// A token of the provider's response.
    struct ResponseToken
}

/// A sign-on that begins.
#[derive(Debug)]
pub struct SignOnRequest {
    /// The cookie to set.
    pub cookie: SignOnCookie,
    /// The provider's page to redirect to.
    url: zeroize::Zeroizing<String>,
}

impl SignOnRequest {
    /// The provider's page to redirect to. It contains state and nonce.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A sign-on that succeeded.
#[derive(Debug)]
pub struct SignedOn {
    /// The session.
    pub session: NewSession,
    /// The page to return to.
    pub return_to: ReturnPath,
    /// What subscribers should know.
    pub events: Vec<AccountEvent>,
}

/// Something that happened to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountEvent {
    /// `user_registered`: the first sign-on created an account.
    UserRegistered {
        /// The account.
        user: UserId,
    },
}

/// The content of the cookie.
#[derive(Serialize, Deserialize)]
struct Pending {
    state: String,
    nonce: String,
    verifier: String,
    issuer: String,
    return_to: ReturnPath,
    expires: Micros,
}

#[derive(Deserialize)]
struct RawTokens {
    id_token: String,
    access_token: Option<String>,
}

/// The tokens of the provider's response.
struct Tokens {
    id: ResponseToken,
    access: Option<ResponseToken>,
}

impl SignOn {
    /// Begins a sign-on that returns to a page of this site.
    ///
    /// # Errors
    /// When the provider can't be used.
    pub async fn begin(&self, return_to: ReturnPath) -> Result<SignOnRequest> {
        let fetched = self.provider.fetched().await?;
        let settings = &self.provider.settings;
        let pending = Pending {
            state: random_token(),
            nonce: random_token(),
            verifier: random_token(),
            issuer: settings.issuer.clone(),
            return_to,
            expires: self.accounts.clock.now().saturating_add(LIFETIME),
        };
        let scopes: Vec<&str> = std::iter::once("openid")
            .chain(settings.scopes.iter().map(String::as_str))
            .collect();
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(&pending.verifier));
        let mut url = fetched.metadata.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", &settings.redirect_uri)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", &pending.state)
            .append_pair("nonce", &pending.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        let content = serde_json::to_vec(&pending).expect("texts and numbers are JSON");
        let sealed = self.accounts.sealing_keys.seal(SEALING_CONTEXT, &content);
        Ok(SignOnRequest {
            cookie: SignOnCookie::new(sealed),
            url: String::from(url).into(),
        })
    }

    /// Ends a sign-on: verifies the provider's redirect and tokens, creates or updates the account, and begins a
    /// session; the browser's `previous` one is ended.
    ///
    /// # Errors
    /// When the redirect does not belong to the cookie, the provider refused, a token is not valid, the user has no role
    /// or is disabled, too many sign-ons end at this moment, or the provider or the store can't be used.
    pub async fn finish(
        &self,
        callback: &Callback,
        cookie: &SignOnCookie,
        client: &Client,
        previous: Option<&SessionToken>,
    ) -> Result<SignedOn> {
        let pending = self.pending(cookie)?;
        let fetched = self.provider.fetched().await?;
        let code = self.check_redirect(callback, &pending, &fetched)?;
        // Before the state is used up, so that a client refused as busy may repeat the redirect.
        let permit = self
            .provider
            .permit(self.accounts.settings.hash_wait)
            .await?;
        self.use_state(&pending).await?;
        let body = self
            .provider
            .exchange(&fetched.metadata, code, &pending.verifier)
            .await?;
        let tokens = parse_tokens(&body)?;
        let access_token = tokens.access.as_ref().map(ResponseToken::expose);
        let verified = self.provider.verified(tokens.id.expose(), |token, now| {
            let settings = &self.provider.settings;
            let expected = Expected {
                issuer: &settings.issuer,
                client_id: &settings.client_id,
                nonce: &pending.nonce,
                access_token,
                now,
            };
            id_token::check(token, &expected)
        });
        let claims = verified.await?.claims;
        let information = self.information(&fetched, &claims, access_token).await?;
        drop(permit);
        let identity = Identity::new(&self.provider.settings, &claims, information.as_ref())?;
        let sid = claims.optional_text("sid")?.unwrap_or_default();
        let client = (client, previous);
        let return_to = &pending.return_to;
        let signed_on = transaction!(self.accounts, tx => self.enter(&mut tx, return_to, &identity, sid, client))?;
        // Outside of the transaction: a suspended account stays so.
        signed_on.ok_or_else(|| Refusal::NoRole.into())
    }

    /// Marks the state as used. Before the exchange: one sign-on must not cause many requests to the provider.
    async fn use_state(&self, pending: &Pending) -> Result<()> {
        let (state, expires) = (pending.state.as_str(), pending.expires);
        let is_first = transaction!(self.accounts, ReadCommitted, tx => use_once(&mut tx, "sign-on state", state, expires))?;
        if is_first {
            Ok(())
        } else {
            Err(Refusal::InvalidSignOn.into())
        }
    }

    /// The content of a cookie that was sealed here, for this provider, not too long ago.
    fn pending(&self, cookie: &SignOnCookie) -> Result<Pending> {
        let opened = self
            .accounts
            .sealing_keys
            .open(SEALING_CONTEXT, cookie.expose());
        let pending = opened
            .ok()
            .and_then(|content| serde_json::from_slice::<Pending>(&content).ok());
        let is_valid = |pending: &Pending| {
            pending.issuer == self.provider.settings.issuer
                && self.accounts.clock.now() < pending.expires
        };
        Ok(pending.filter(is_valid).ok_or(Refusal::InvalidSignOn)?)
    }

    /// The code of a redirect that belongs to this browser's sign-on and comes from this provider.
    fn check_redirect<'c>(
        &self,
        callback: &'c Callback,
        pending: &Pending,
        fetched: &Fetched,
    ) -> Result<&'c str> {
        let state = callback.state.as_deref().unwrap_or_default();
        let issuer = &self.provider.settings.issuer;
        let is_issuer = match &callback.issuer {
            Some(named) => named == issuer,
            None => !fetched.metadata.names_issuer,
        };
        if !is_equal(state, &pending.state) || !is_issuer {
            return Err(Refusal::InvalidSignOn.into());
        }
        if callback.has_error {
            return Err(Refusal::SignOnDeclined.into());
        }
        let code = callback.code.as_ref().map(|code| code.expose());
        Ok(code
            .filter(|code| !code.is_empty())
            .ok_or(Refusal::InvalidSignOn)?)
    }

    /// The provider's claims about the user, if the ID token lacks some.
    async fn information(
        &self,
        fetched: &Fetched,
        claims: &Claims,
        access_token: Option<&str>,
    ) -> Result<Option<Claims>> {
        let needed = [self.provider.settings.groups_claim.as_str(), "email"];
        let is_complete = needed.iter().all(|name| claims.value(name).is_some());
        let endpoint = fetched.metadata.userinfo_endpoint.as_ref();
        let (false, Some(endpoint), Some(token)) = (is_complete, endpoint, access_token) else {
            return Ok(None);
        };
        let body = self.provider.user_information(endpoint, token).await?;
        let information =
            Claims::parse(&body).map_err(|_| ProviderFault::Document("userinfo_endpoint"))?;
        // OpenID Connect Core, section 5.3.2: claims of another subject must not be used.
        if information.subject()? != claims.subject()? {
            return Err(TokenFault::Subject.into());
        }
        Ok(Some(information))
    }

    /// Creates or updates the account, and begins the session; `None` without a role.
    async fn enter(
        &self,
        tx: &mut Transaction,
        return_to: &ReturnPath,
        identity: &Identity<'_>,
        sid: &str,
        (client, previous): (&Client, Option<&SessionToken>),
    ) -> Result<Option<SignedOn>> {
        let account = self
            .accounts
            .provision(tx, identity, &self.provider.settings)
            .await?;
        let (user, events) = match account {
            Account::WithoutRole => return Ok(None),
            Account::Updated(user) => (user, Vec::new()),
            Account::Registered(user) => {
                let event = AccountEvent::UserRegistered {
                    user: user.id.clone(),
                };
                (user, vec![event])
            }
        };
        let provider = ProviderSession {
            issuer: identity.issuer,
            sid,
        };
        let session = self.accounts.begin_session(
            tx,
            user,
            SessionMethod::SignOn,
            client,
            previous,
            Some(provider),
        );
        Ok(Some(SignedOn {
            session: session.await?,
            return_to: return_to.clone(),
            events,
        }))
    }
}

fn parse_tokens(body: &[u8]) -> Result<Tokens, ProviderFault> {
    let raw: RawTokens =
        serde_json::from_slice(body).map_err(|_| ProviderFault::Document("token_endpoint"))?;
    Ok(Tokens {
        id: ResponseToken::new(raw.id_token),
        access: raw.access_token.map(ResponseToken::new),
    })
}
