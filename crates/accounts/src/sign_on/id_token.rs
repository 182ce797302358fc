//! The rules of ID tokens (OpenID Connect Core 1.0, section 3.1.3.7).

use super::jwt::VerifiedToken;
use crate::fault::TokenFault;
use crate::secret::is_equal;
use data_encoding::BASE64URL_NOPAD;
use domain::Micros;
use ring::digest::digest;
use std::time::Duration;

/// An ID token is used within seconds.
const MAX_AGE: Duration = Duration::from_secs(600);

/// What an ID token must be bound to.
pub(super) struct Expected<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) nonce: &'a str,
    /// The access token of the same response.
    pub(super) access_token: Option<&'a str>,
    pub(super) now: Micros,
}

pub(super) fn check(token: &VerifiedToken, expected: &Expected<'_>) -> Result<(), TokenFault> {
    token.check_type(&["jwt"], true)?;
    let claims = &token.claims;
    claims.check(expected.issuer, expected.now)?;
    claims.check_age(MAX_AGE, expected.now)?;
    claims.subject()?;
    // Further audiences are parties that this program does not trust.
    let audiences = claims.audiences()?;
    if audiences.is_empty() || audiences.iter().any(|it| *it != expected.client_id) {
        return Err(TokenFault::Audience);
    }
    let party = claims.optional_text("azp")?;
    if party.is_some_and(|party| party != expected.client_id) {
        return Err(TokenFault::AuthorizedParty);
    }
    if !is_equal(claims.text("nonce")?, expected.nonce) {
        return Err(TokenFault::Nonce);
    }
    check_access_token(token, expected.access_token)
}

fn check_access_token(token: &VerifiedToken, access_token: Option<&str>) -> Result<(), TokenFault> {
    let hash = token.claims.optional_text("at_hash")?;
    let (Some(hash), Some(access_token)) = (hash, access_token) else {
        return Ok(());
    };
    let digest = digest(token.algorithm.digest(), access_token.as_bytes());
    let half = &digest.as_ref()[..digest.as_ref().len() / 2];
    if is_equal(&BASE64URL_NOPAD.encode(half), hash) {
        Ok(())
    } else {
        Err(TokenFault::AccessTokenHash)
    }
}
