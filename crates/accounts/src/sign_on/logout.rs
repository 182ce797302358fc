//! Back-channel logout (OpenID Connect Back-Channel Logout 1.0, section 2.6).

use super::SignOn;
use super::claims::Claims;
use super::identity;
use super::jwt::VerifiedToken;
use super::settings::ProviderSettings;
use crate::accounts::transaction;
use crate::error::Result;
use crate::fault::TokenFault;
use crate::sessions::{ProviderSession, end_of_provider, end_of_subject};
use crate::used_values::use_once;
use domain::Micros;
use sql_store::Transaction;
use std::time::Duration;

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// The specification recommends at most two minutes of validity.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Its `jti` is remembered until it would be too old, with the difference of clocks.
const REMEMBER: Duration = Duration::from_secs(900);

impl SignOn {
    /// Ends the sessions that a logout token of the provider names, and returns their number.
    ///
    /// # Errors
    /// When the token is not valid or was used, or provider or store can't be used.
    pub async fn back_channel_logout(&self, logout_token: &str) -> Result<u64> {
        let settings = &self.provider.settings;
        let verified = self
            .provider
            .verified(logout_token, |token, now| check(token, settings, now));
        let claims = verified.await?.claims;
        transaction!(self.accounts, tx => self.end(&mut tx, &claims))
    }

    async fn end(&self, tx: &mut Transaction, claims: &Claims) -> Result<u64> {
        let issuer = &self.provider.settings.issuer;
        let until = self.accounts.clock.now().saturating_add(REMEMBER);
        let id = format!("{issuer} {}", claims.text("jti")?);
        if !use_once(tx, "logout token", &id, until).await? {
            return Err(TokenFault::Replayed.into());
        }
        let sid = claims.optional_text("sid")?;
        let mut ended = 0;
        if let Some(sid) = sid {
            ended += end_of_provider(tx, ProviderSession { issuer, sid }).await?;
        }
        if claims.has("sub")
            && let Some(found) = identity::find(tx, issuer, claims.subject()?).await?
        {
            // With a session, those of the subject that can't be told from it.
            let only_unnamed = sid.is_some();
            ended += end_of_subject(tx, &found.user.id, issuer, only_unnamed).await?;
        }
        Ok(ended)
    }
}

fn check(
    token: &VerifiedToken,
    settings: &ProviderSettings,
    now: Micros,
) -> Result<(), TokenFault> {
    // Providers of earlier drafts write JWT or nothing; the event and the forbidden nonce still tell the kinds apart.
    token.check_type(&["logout+jwt", "jwt"], true)?;
    let claims = &token.claims;
    claims.check(&settings.issuer, now)?;
    claims.check_age(MAX_AGE, now)?;
    if claims.audiences()? != [settings.client_id.as_str()] {
        return Err(TokenFault::Audience);
    }
    let event = claims.value("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(serde_json::Value::is_object) || claims.has("nonce") {
        return Err(TokenFault::NotALogout);
    }
    claims.text("jti")?;
    let sid = claims.optional_text("sid")?;
    if sid.is_some_and(str::is_empty) {
        return Err(TokenFault::Claim("sid"));
    }
    if sid.is_none() || claims.has("sub") {
        claims.subject()?;
    }
    Ok(())
}
