//! The provider: its metadata and keys, kept for an hour, and requests to its endpoints.

use super::discovery::{ClientAuthentication, Metadata, metadata_url};
use super::http_client::HttpClient;
use super::jwks::KeySet;
use super::jwt::{UnverifiedToken, VerifiedToken};
use super::settings::{ClientSecret, ProviderSettings};
use crate::clock::Clock;
use crate::error::{Refusal, Result};
use crate::fault::{ProviderFault, TokenFault};
use bytes::Bytes;
use data_encoding::BASE64;
use domain::Micros;
use http::{Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

/// Metadata and keys are fetched again after this time, in the background.
const MAX_AGE: Duration = Duration::from_secs(3_600);
/// Older ones are not used: requests wait for fresh ones.
const MAX_STALE_AGE: Duration = Duration::from_secs(86_400);
/// The pause between two requests for keys or metadata: tokens with invented key ids must not flood the provider.
const REFETCH_INTERVAL: Duration = Duration::from_secs(30);

/// Sign-ons that exchange a code at the same time: visitors must not make this program flood the provider.
const MAX_PARALLEL_EXCHANGES: usize = 8;

const TOKEN_ENDPOINT: &str = "token_endpoint";

/// A provider.
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    http: Arc<dyn HttpClient>,
    clock: Clock,
    fetched: Mutex<Option<Arc<Fetched>>>,
    /// The time of the last request for metadata and keys. Its lock is held during one.
    last_fetch: Arc<tokio::sync::Mutex<Option<Micros>>>,
    exchanges: Semaphore,
}

/// Metadata and keys, as fetched together.
pub(super) struct Fetched {
    pub(super) metadata: Metadata,
    keys: KeySet,
    time: Micros,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("issuer", &self.settings.issuer)
            .finish_non_exhaustive()
    }
}

impl Provider {
    pub(super) fn new(settings: ProviderSettings, http: Arc<dyn HttpClient>, clock: Clock) -> Self {
        Self {
            settings,
            http,
            clock,
            fetched: Mutex::new(None),
            last_fetch: Arc::default(),
            exchanges: Semaphore::new(MAX_PARALLEL_EXCHANGES),
        }
    }

    /// The present metadata and keys. Requests do not wait for the provider, unless those are older than a day.
    pub(super) async fn fetched(self: &Arc<Self>) -> Result<Arc<Fetched>> {
        let present = self.fetched.lock().clone();
        let age = |it: &Arc<Fetched>| self.clock.now().since(it.time);
        match present {
            Some(fetched) if age(&fetched) < MAX_AGE => Ok(fetched),
            Some(stale) if age(&stale) < MAX_STALE_AGE => {
                self.fetch_in_background();
                Ok(stale)
            }
            unusable => Ok(self.fetch(unusable.as_ref()).await?),
        }
    }

    /// Fetches metadata and keys, unless that happens already or happened just now.
    fn fetch_in_background(self: &Arc<Self>) {
        let Ok(last_fetch) = Arc::clone(&self.last_fetch).try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            match this.fetch_now(last_fetch).await {
                Ok(_) | Err(ProviderFault::RequestedJustNow) => {}
                Err(error) => tracing::warn!(%error, "failed to fetch the sign-on provider's keys"),
            }
        });
    }

    /// A turn to exchange a code, after at most `wait`.
    pub(super) async fn permit(&self, wait: Duration) -> Result<SemaphorePermit<'_>, Refusal> {
        match tokio::time::timeout(wait, self.exchanges.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy),
        }
    }

    /// Verifies a token's signature. If its key is unknown, the keys are fetched again, at most every 30 seconds.
    async fn verify(self: &Arc<Self>, token: &str) -> Result<VerifiedToken> {
        let token = UnverifiedToken::parse(token)?;
        let mut fetched = self.fetched().await?;
        if !token.is_known_to(&fetched.keys) {
            match self.fetch(Some(&fetched)).await {
                Ok(fresh) => fetched = fresh,
                Err(ProviderFault::RequestedJustNow) => {}
                Err(error) => tracing::warn!(%error, "failed to fetch the sign-on provider's keys"),
            }
        }
        Ok(token.verify(&fetched.keys)?)
    }

    /// Fetches metadata and keys, unless another request has replaced `known` meanwhile.
    async fn fetch(&self, known: Option<&Arc<Fetched>>) -> Result<Arc<Fetched>, ProviderFault> {
        let last_fetch = Arc::clone(&self.last_fetch).lock_owned().await;
        let present = self.fetched.lock().clone();
        let is_known =
            |present: &Arc<Fetched>| known.is_some_and(|known| Arc::ptr_eq(known, present));
        if let Some(replacement) = present.filter(|present| !is_known(present)) {
            return Ok(replacement);
        }
        self.fetch_now(last_fetch).await
    }

    async fn fetch_now(
        &self,
        mut last_fetch: OwnedMutexGuard<Option<Micros>>,
    ) -> Result<Arc<Fetched>, ProviderFault> {
        let now = self.clock.now();
        if last_fetch.is_some_and(|last| now.since(last) < REFETCH_INTERVAL) {
            return Err(ProviderFault::RequestedJustNow);
        }
        *last_fetch = Some(now);
        let fetched = Arc::new(self.request_all(now).await?);
        *self.fetched.lock() = Some(Arc::clone(&fetched));
        Ok(fetched)
    }

    async fn request_all(&self, time: Micros) -> Result<Fetched, ProviderFault> {
        let body = self
            .get("metadata", &metadata_url(&self.settings.issuer), None)
            .await?;
        let metadata = Metadata::parse(&self.settings.issuer, &body)?;
        let body = self
            .get("jwks_uri", metadata.jwks_uri.as_str(), None)
            .await?;
        let keys = KeySet::parse(&body).ok_or(ProviderFault::Document("jwks_uri"))?;
        if keys.is_empty() {
            return Err(ProviderFault::NoKeys);
        }
        Ok(Fetched {
            metadata,
            keys,
            time,
        })
    }

    /// Exchanges a code for tokens.
    pub(super) async fn exchange(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
    ) -> Result<Bytes> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.settings.redirect_uri)
            .append_pair("code_verifier", verifier);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(metadata.token_endpoint.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        match (&self.settings.client_secret, metadata.client_authentication) {
            (Some(secret), ClientAuthentication::Basic) => {
                let value = basic(&self.settings.client_id, secret);
                request = request.header(header::AUTHORIZATION, value);
            }
            (Some(secret), ClientAuthentication::Post) => {
                form.append_pair("client_id", &self.settings.client_id)
                    .append_pair("client_secret", secret.expose());
            }
            (None, _) => {
                form.append_pair("client_id", &self.settings.client_id);
            }
        }
        let response = self.send(TOKEN_ENDPOINT, request, form.finish()).await?;
        if is_refused_grant(&response) {
            return Err(Refusal::InvalidSignOn.into());
        }
        Ok(successful(TOKEN_ENDPOINT, response)?)
    }

    /// The provider's claims about the owner of an access token.
    pub(super) async fn user_information(
        &self,
        endpoint: &Url,
        access_token: &str,
    ) -> Result<Bytes, ProviderFault> {
        self.get("userinfo_endpoint", endpoint.as_str(), Some(access_token))
            .await
    }

    async fn get(
        &self,
        endpoint: &'static str,
        url: &str,
        access_token: Option<&str>,
    ) -> Result<Bytes, ProviderFault> {
        let mut request = Request::builder()
            .uri(url)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = access_token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = self.send(endpoint, request, String::new()).await?;
        successful(endpoint, response)
    }

    async fn send(
        &self,
        endpoint: &'static str,
        request: http::request::Builder,
        body: String,
    ) -> Result<Response<Bytes>, ProviderFault> {
        let request = request.body(Bytes::from(body));
        let request = request.map_err(|_| ProviderFault::Endpoint(endpoint))?;
        Ok(self.http.send(request).await?)
    }

    /// Checks that a token is one of a kind, by its own rules; `check` gets the present time.
    pub(super) async fn verified(
        self: &Arc<Self>,
        token: &str,
        check: impl FnOnce(&VerifiedToken, Micros) -> Result<(), TokenFault>,
    ) -> Result<VerifiedToken> {
        let verified = self.verify(token).await?;
        check(&verified, self.clock.now())?;
        Ok(verified)
    }
}

fn successful(endpoint: &'static str, response: Response<Bytes>) -> Result<Bytes, ProviderFault> {
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => Err(ProviderFault::Status { endpoint, status }),
    }
}

/// Whether the code is unknown, used, expired or of another client or verifier (RFC 6749, section 5.2). Other errors are
/// those of the configuration.
fn is_refused_grant(response: &Response<Bytes>) -> bool {
    #[derive(Deserialize)]
    struct Refused {
        error: String,
    }
    let refused = serde_json::from_slice::<Refused>(response.body());
    response.status() == StatusCode::BAD_REQUEST
        && refused.is_ok_and(|refused| refused.error == "invalid_grant")
}

/// RFC 6749, section 2.3.1: both parts are form-encoded before Base64.
fn basic(client_id: &str, secret: &ClientSecret) -> String {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = format!("{}:{}", encode(client_id), encode(secret.expose()));
    format!("Basic {}", BASE64.encode(credentials.as_bytes()))
}
