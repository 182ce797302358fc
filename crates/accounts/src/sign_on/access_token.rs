//! Access tokens of the provider as credentials (RFC 9068).

use super::SignOn;
use super::claims::Claims;
use super::identity;
use super::jwt::VerifiedToken;
use super::settings::ProviderSettings;
use crate::error::{Refusal, Result};
use crate::fault::TokenFault;
use crate::ids::UserId;
use crate::roles::{Credential, Principal, Scopes};
use crate::secret::secret_text;
use crate::user::UserStatus;
use domain::Micros;

secret_text! {
    /// An access token of the provider: a JWT.
    pub struct AccessToken
}

impl SignOn {
    /// The principal of an access token. Its subject must have signed on before.
    ///
    /// # Errors
    /// When the token is not valid here, its subject has no active account, or provider or store can't be used.
    pub async fn authenticate_access_token(&self, token: &AccessToken) -> Result<Principal> {
        let settings = &self.provider.settings;
        let verified = self
            .provider
            .verified(token.expose(), |token, now| check(token, settings, now));
        let claims = verified.await?.claims;
        let scopes = scopes(&claims, settings)?;
        let expires = claims.time("exp")?;
        let mut tx = self.accounts.database.begin().await?;
        let found = identity::find(&mut tx, &settings.issuer, claims.subject()?).await?;
        let user = found.map(|found| found.user);
        let user = user
            .filter(|user| user.status == UserStatus::Active)
            .ok_or(Refusal::NoAccount)?;
        Ok(
            Principal::new(user.id, user.membership, scopes, Credential::AccessToken)
                .until(Some(expires)),
        )
    }

    /// Checks that an access token is valid and belongs to this user.
    ///
    /// # Errors
    /// As [`Self::authenticate_access_token`], and when its subject is another user.
    pub async fn validate(&self, token: &AccessToken, user: &UserId) -> Result<Principal> {
        let principal = self.authenticate_access_token(token).await?;
        if principal.user == *user {
            Ok(principal)
        } else {
            Err(TokenFault::Subject.into())
        }
    }
}

/// RFC 9068, section 4.
fn check(
    token: &VerifiedToken,
    settings: &ProviderSettings,
    now: Micros,
) -> Result<(), TokenFault> {
    token.check_type(&["at+jwt"], false)?;
    let claims = &token.claims;
    claims.check(&settings.issuer, now)?;
    if !claims.audiences()?.contains(&settings.audience.as_str()) {
        return Err(TokenFault::Audience);
    }
    if claims.has("cnf") {
        return Err(TokenFault::SenderConstrained);
    }
    claims.subject()?;
    claims.text("client_id")?;
    claims.text("jti")?;
    Ok(())
}

/// All scopes for the one that stands for them; otherwise those of the table that the token names.
fn scopes(claims: &Claims, settings: &ProviderSettings) -> Result<Scopes, TokenFault> {
    let text = claims.optional_text("scope")?.unwrap_or_default();
    let has_full = text
        .split_ascii_whitespace()
        .any(|it| it == settings.full_access_scope);
    Ok(if has_full {
        Scopes::ALL
    } else {
        Scopes::known_in(text)
    })
}
