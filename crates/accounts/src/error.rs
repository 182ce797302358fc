//! Errors of this crate: numbered refusals for clients, and faults of the store.

use crate::fault::{ProviderFault, TokenFault};
use crate::roles::{Action, Denied};
use crate::secret::NotSealed;
use sql_store::{IsConflict, SqlError};
use std::fmt;
use std::time::Duration;
use thiserror::Error;

numbered_reasons::numbered_reasons! {
    /// Why a request about users, keys, sessions or sign-on is refused. Numbers are never given to another reason.
    pub enum Refusal: u16;

    /// The role, key or token lacks the scope that the response names. Use a key or a user that has it.
    MissingScope = 700, "missing_scope", 403;
    /// There is no such object, or it belongs to another owner.
    NotFound = 701, "not_found", 404;
    /// E-mail, password or code is wrong, or the user can't sign in this way. The response does not say which.
    InvalidCredentials = 702, "invalid_credentials", 401;
    /// The password is right. Repeat the request with a code of the authenticator or a recovery code.
    SecondFactorRequired = 703, "second_factor_required", 401;
    /// Too many failed attempts for this account or from this address. Retry after `Retry-After`.
    TooManyAttempts = 704, "too_many_attempts", 429;
    /// Too many passwords or sign-ons are being checked at this moment. Retry in a second.
    Busy = 705, "busy", 503;
    /// The session is unknown, ended or expired. Sign in again.
    InvalidSession = 706, "invalid_session", 401;
    /// The request's CSRF token is not that of the session. Reload the page.
    InvalidCsrfToken = 707, "invalid_csrf_token", 403;
    /// The text is not an API key: its form or checksum is wrong. Copy the whole key.
    MalformedKey = 708, "malformed_key", 401;
    /// The API key is unknown, revoked or expired, or its user is disabled. Create another one.
    InvalidKey = 709, "invalid_key", 401;
    /// The one-time link is unknown, used or expired. Restart the program for the first admin; ask an admin otherwise.
    InvalidOneTimeToken = 710, "invalid_one_time_token", 401;
    /// The field that the response names has a value that can't be accepted; the response says what would be right.
    InvalidField = 711, "invalid_field", 422;
    /// Another user signs in with this e-mail address.
    EmailTaken = 712, "email_taken", 409;
    /// The change would leave the deployment without an admin that can sign in locally. Name another one first.
    LastAdmin = 713, "last_admin", 409;
    /// The user has as many keys as one may have. Revoke one.
    TooManyKeys = 714, "too_many_keys", 409;
    /// The user has no second factor, or has one already.
    SecondFactorState = 715, "second_factor_state", 409;
    /// The request needs a session: API keys and tokens can't change credentials. Sign in.
    SessionRequired = 716, "session_required", 403;
    /// A user's own password or second factor can't be reset. Change it with the present password, or ask another admin.
    OwnCredentials = 717, "own_credentials", 403;
    /// The key is valid, and its user has not signed on for 30 days (a setting). Sign on once with a browser.
    SignOnTooOld = 718, "sign_on_too_old", 401;
    /// The provider's response to a sign-on does not belong to this browser, is too old, or was used. Begin again.
    InvalidSignOn = 720, "invalid_sign_on", 400;
    /// The sign-on provider refused the user, or the user declined. Begin again.
    SignOnDeclined = 721, "sign_on_declined", 401;
    /// A token of the sign-on provider is not valid here; the response says which rule it breaks.
    InvalidToken = 722, "invalid_token", 401;
    /// The sign-on provider can't be reached or breaks the protocol. Retry later; operators find the cause in the log.
    ProviderUnavailable = 723, "provider_unavailable", 503;
    /// None of the user's groups has a role here. Ask an admin of the sign-on provider.
    NoRole = 724, "no_role", 403;
    /// The token is valid and its subject has no account here, or a disabled one. Sign in once with a browser.
    NoAccount = 725, "no_account", 401;
}

/// A request that is refused, or a store that can't be used now.
#[derive(Error)]
pub enum AccountsError {
    /// The request is refused.
    #[error("{} ({}):{}", .0.name(), .0.number(), .0.meaning())]
    Refused(Refusal),
    /// The principal may not do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Too many failed attempts.
    #[error("too many failed attempts; retry in {} s", .0.as_secs())]
    TooManyAttempts(Duration),
    /// A field is invalid.
    #[error("{pointer}: {message}")]
    Invalid {
        /// The field's JSON pointer in the request.
        pointer: &'static str,
        /// What would be right.
        message: String,
    },
    /// A token of the sign-on provider breaks a rule.
    #[error("the token is not valid here: {0}")]
    Token(#[from] TokenFault),
    /// The sign-on provider can't be used now.
    #[error("the sign-on provider can't be used: {0}")]
    Provider(#[from] ProviderFault),
    /// A value in the store was sealed with another key, or altered.
    #[error(transparent)]
    NotSealed(#[from] NotSealed),
    /// The store can't be used now.
    #[error(transparent)]
    Store(#[from] SqlError),
}

/// The same text as for users: that of a database's error has values of rows.
impl fmt::Debug for AccountsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A result of this crate.
pub type Result<T, E = AccountsError> = std::result::Result<T, E>;

impl From<Refusal> for AccountsError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IsConflict for AccountsError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl AccountsError {
    pub(crate) fn invalid(pointer: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Invalid { pointer, message }
    }

    /// The numbered refusal; `None` for a fault of the server.
    #[must_use]
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal) => Some(*refusal),
            Self::Denied(Denied::MissingScope(_)) => Some(Refusal::MissingScope),
            Self::Denied(Denied::NotFound) => Some(Refusal::NotFound),
            Self::TooManyAttempts(_) => Some(Refusal::TooManyAttempts),
            Self::Invalid { .. } => Some(Refusal::InvalidField),
            Self::Token(_) => Some(Refusal::InvalidToken),
            Self::Provider(_) => Some(Refusal::ProviderUnavailable),
            Self::NotSealed(_) | Self::Store(_) => None,
        }
    }

    /// The missing scope, if that is the reason.
    #[must_use]
    pub const fn missing_scope(&self) -> Option<Action> {
        match self {
            Self::Denied(Denied::MissingScope(action)) => Some(*action),
            _ => None,
        }
    }
}
