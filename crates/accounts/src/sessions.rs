//! Sessions of browsers: a secret of 256 bits whose hash is stored, idle and absolute expiry, and the CSRF token.
//!
//! The secret is found by its hash, so that the time of a lookup reveals nothing of another session's secret: a sender
//! can't choose the hashes that it tries.

use crate::accounts::{Accounts, transaction};
use crate::error::{Refusal, Result};
use crate::ids::{SessionId, UserId};
use crate::roles::{Action, Credential, Denied, Principal, Scopes, authorize};
use crate::secret::{TOKEN_CHARS, hash_at_rest, is_equal, random_token, secret_text};
use crate::user::{self, User, UserStatus};
use data_encoding::HEXLOWER;
use domain::Micros;
use ring::hmac;
use serde::Serialize;
use sql_store::{Field, Row, SqlError, Statement, Transaction, typed_row};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The precision of `last_seen`: a row is not written for each request.
const LAST_SEEN_INTERVAL: Duration = Duration::from_secs(60);
const MAX_USER_AGENT_CHARS: usize = 256;

secret_text! {
    /// The secret of a session, for a cookie `__Host-…` with `Secure`, `HttpOnly` and `SameSite=Lax`.
    pub struct SessionToken
}
secret_text! {
    /// The CSRF token of a session. A page sends it with each request that changes something.
    pub struct CsrfToken
}

impl SessionToken {
    /// The session's CSRF token. It follows from the secret, which another site's page can't read.
    #[must_use]
    pub fn csrf_token(&self) -> CsrfToken {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.expose().as_bytes());
        CsrfToken::new(HEXLOWER.encode(hmac::sign(&key, b"csrf").as_ref()))
    }

    /// Checks that a request's CSRF token is that of the session.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_csrf(&self, token: &CsrfToken) -> Result<()> {
        if is_equal(self.csrf_token().expose(), token.expose()) {
            Ok(())
        } else {
            Err(Refusal::InvalidCsrfToken.into())
        }
    }

    fn has_form(&self) -> bool {
        let text = self.expose();
        text.len() == TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    fn hash(&self) -> String {
        hash_at_rest("session", self.expose())
    }
}

/// The client of a sign-in. `Debug` does not contain it.
#[derive(Clone)]
pub struct Client {
    /// The address, behind trusted proxies.
    pub address: IpAddr,
    /// The header `User-Agent`; its first 256 characters are kept.
    pub user_agent: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(…)")
    }
}

/// How the user of a session signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMethod {
    /// With a password alone.
    Password,
    /// With a password and a code of an authenticator.
    Totp,
    /// With a password and a recovery code.
    RecoveryCode,
    /// With the link for the first admin.
    OneTimeToken,
    /// Through the sign-on provider.
    SignOn,
}

impl SessionMethod {
    const ALL: [(Self, &str); 5] = [
        (Self::Password, "password"),
        (Self::Totp, "totp"),
        (Self::RecoveryCode, "recovery_code"),
        (Self::OneTimeToken, "one_time_token"),
        (Self::SignOn, "sign_on"),
    ];

    fn as_str(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find(|(method, _)| *method == self)
            .expect("every method is listed")
            .1
    }
}

impl Field for SessionMethod {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        let text = String::read(row, name)?;
        let method = Self::ALL.into_iter().find(|(_, name)| *name == text);
        method
            .map(|(method, _)| method)
            .ok_or_else(|| SqlError::UnexpectedValue(format!("{name}: {text:?}")))
    }
}

/// A session, as its user sees it. `Debug` contains neither address nor agent.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The public id.
    pub id: SessionId,
    /// The user.
    pub user: UserId,
    /// How the user signed in.
    pub method: SessionMethod,
    /// The time of the sign-in.
    pub created: Micros,
    /// The time of the last request, to the minute.
    pub last_seen: Micros,
    /// The time when it ends in any case.
    pub expires: Micros,
    /// The client's address at sign-in.
    pub address: String,
    /// The client's `User-Agent` at sign-in.
    pub user_agent: String,
    /// Whether this is the session of the principal that lists.
    pub is_current: bool,
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A session that has just begun.
#[derive(Debug)]
pub struct NewSession {
    /// The secret for the cookie.
    pub token: SessionToken,
    /// The public id.
    pub id: SessionId,
    /// The user.
    pub user: User,
    /// The time when it ends in any case.
    pub expires: Micros,
}

/// The session of the provider behind a sign-on.
pub(crate) struct ProviderSession<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) sid: &'a str,
}

typed_row! {
    struct SessionRow {
        hash: String,
        id: SessionId,
        user_id: UserId,
        method: SessionMethod,
        created: Micros,
        last_seen: Micros,
        expires: Micros,
        address: String,
        user_agent: String,
    }
}

impl Accounts {
    /// The principal of a session's secret.
    ///
    /// # Errors
    /// When the session is unknown, ended or expired, its user is disabled, or the store can't be used.
    pub async fn authenticate_session(&self, token: &SessionToken) -> Result<Principal> {
        if !token.has_form() {
            return Err(Refusal::InvalidSession.into());
        }
        let now = self.clock.now();
        let mut tx = self.database.begin().await?;
        let select = Statement::new("SELECT * FROM accounts_sessions WHERE hash = $1");
        let row: Option<SessionRow> = tx.fetch_optional(select.bind(token.hash())).await?;
        let row = row
            .filter(|row| self.is_alive(row, now))
            .ok_or(Refusal::InvalidSession)?;
        let found = user::find(&mut tx, &row.user_id).await?;
        let is_active = |user: &User| user.status == UserStatus::Active;
        let found = found.map(|found| found.user).filter(is_active);
        let user = found.ok_or(Refusal::InvalidSession)?;
        drop(tx);
        if now.since(row.last_seen) >= LAST_SEEN_INTERVAL {
            transaction!(self, ReadCommitted, tx => touch(&mut tx, &row, now))?;
        }
        let credential = Credential::Session(row.id);
        Ok(Principal::new(
            user.id,
            user.membership,
            Scopes::ALL,
            credential,
        ))
    }

    fn is_alive(&self, row: &SessionRow, now: Micros) -> bool {
        now < row.expires && now.since(row.last_seen) < self.settings.session_idle_timeout
    }

    /// The sessions of a user, the newest first.
    ///
    /// # Errors
    /// When the principal may not read them, or the store can't be used.
    pub async fn sessions(&self, principal: &Principal, of: &UserId) -> Result<Vec<SessionInfo>> {
        let mut tx = self.database.begin().await?;
        check_user(&mut tx, principal, Action::SessionsRead, of).await?;
        let select = Statement::new(
            "SELECT * FROM accounts_sessions WHERE user_id = $1 ORDER BY created DESC, id",
        );
        let rows: Vec<SessionRow> = tx.fetch_all(select.bind(of)).await?;
        let now = self.clock.now();
        let alive = rows.into_iter().filter(|row| self.is_alive(row, now));
        Ok(alive.map(|row| info(row, principal)).collect())
    }

    /// Ends a session.
    ///
    /// # Errors
    /// When the principal may not end it, there is none with this id, or the store can't be used.
    pub async fn end_session(&self, principal: &Principal, id: &SessionId) -> Result<()> {
        transaction!(self, ReadCommitted, tx => end_one(&mut tx, principal, id))
    }

    /// Ends all sessions of a user, except the principal's own.
    ///
    /// # Errors
    /// When the principal may not end them, or the store can't be used.
    pub async fn end_sessions(&self, principal: &Principal, of: &UserId) -> Result<u64> {
        transaction!(self, ReadCommitted, tx => end_others(&mut tx, principal, of))
    }

    /// Ends the session with this secret, if there is one.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn sign_out(&self, token: &SessionToken) -> Result<()> {
        transaction!(self, ReadCommitted, tx => end_by_token(&mut tx, token))
    }

    /// Begins a session of `user` under a new secret, and ends the `previous` one of the same browser: an id that
    /// another party planted there before the sign-in never becomes a session (session fixation).
    pub(crate) async fn begin_session(
        &self,
        tx: &mut Transaction,
        user: User,
        method: SessionMethod,
        client: &Client,
        previous: Option<&SessionToken>,
        provider: Option<ProviderSession<'_>>,
    ) -> Result<NewSession> {
        let now = self.clock.now();
        if let Some(previous) = previous {
            end_by_token(tx, previous).await?;
        }
        let session = NewSession {
            token: SessionToken::new(random_token()),
            id: SessionId::random(),
            expires: now.saturating_add(self.settings.session_lifetime),
            user,
        };
        tx.execute(insert(&session, method, client, provider, now))
            .await?;
        tx.execute(user::set_last_sign_in(&session.user.id, now))
            .await?;
        self.end_oldest(tx, &session.user.id).await?;
        Ok(session)
    }

    async fn end_oldest(&self, tx: &mut Transaction, user: &UserId) -> Result<()> {
        let delete = Statement::new(
            "DELETE FROM accounts_sessions WHERE user_id = $1 AND id NOT IN (SELECT id FROM accounts_sessions \
             WHERE user_id = $1 ORDER BY created DESC, id LIMIT $2)",
        );
        tx.execute(delete.bind(user).bind(self.settings.max_sessions))
            .await?;
        Ok(())
    }
}

fn insert(
    session: &NewSession,
    method: SessionMethod,
    client: &Client,
    provider: Option<ProviderSession<'_>>,
    now: Micros,
) -> Statement {
    let user_agent: String = client
        .user_agent
        .chars()
        .take(MAX_USER_AGENT_CHARS)
        .collect();
    let (issuer, sid) = provider.map_or(("", ""), |it| (it.issuer, it.sid));
    Statement::insert(
        "accounts_sessions",
        [
            ("hash", session.token.hash().into()),
            ("id", (&session.id).into()),
            ("user_id", (&session.user.id).into()),
            ("method", method.as_str().into()),
            ("created", now.into()),
            ("last_seen", now.into()),
            ("expires", session.expires.into()),
            ("address", client.address.to_canonical().to_string().into()),
            ("user_agent", user_agent.into()),
            ("issuer", issuer.into()),
            ("provider_session", sid.into()),
        ],
    )
}

fn info(row: SessionRow, principal: &Principal) -> SessionInfo {
    let is_current = principal.credential == Credential::Session(row.id.clone());
    SessionInfo {
        id: row.id,
        user: row.user_id,
        method: row.method,
        created: row.created,
        last_seen: row.last_seen,
        expires: row.expires,
        address: row.address,
        user_agent: row.user_agent,
        is_current,
    }
}

async fn touch(tx: &mut Transaction, row: &SessionRow, now: Micros) -> Result<()> {
    let update = Statement::new("UPDATE accounts_sessions SET last_seen = $2 WHERE hash = $1");
    tx.execute(update.bind(&row.hash).bind(now)).await?;
    Ok(())
}

async fn check_user(
    tx: &mut Transaction,
    principal: &Principal,
    action: Action,
    user: &UserId,
) -> Result<()> {
    let found = user::find(tx, user).await?;
    let owner = found.map(|found| found.user.owner());
    Ok(authorize(principal, action, owner.as_ref())?)
}

async fn end_one(tx: &mut Transaction, principal: &Principal, id: &SessionId) -> Result<()> {
    let select = Statement::new("SELECT user_id FROM accounts_sessions WHERE id = $1");
    let user: Option<String> = tx.fetch_optional(select.bind(id)).await?;
    let user = user.and_then(|id| UserId::try_from(id).ok());
    let Some(user) = user else {
        return Ok(authorize(principal, Action::SessionsWrite, None)?);
    };
    check_user(tx, principal, Action::SessionsWrite, &user).await?;
    let delete = Statement::new("DELETE FROM accounts_sessions WHERE id = $1");
    match tx.execute(delete.bind(id)).await? {
        0 => Err(Denied::NotFound.into()),
        _ => Ok(()),
    }
}

async fn end_others(tx: &mut Transaction, principal: &Principal, of: &UserId) -> Result<u64> {
    check_user(tx, principal, Action::SessionsWrite, of).await?;
    end_all_but_current(tx, of, principal).await
}

/// Ends the sessions of a user, except that of the principal.
pub(crate) async fn end_all_but_current(
    tx: &mut Transaction,
    of: &UserId,
    principal: &Principal,
) -> Result<u64> {
    let current = match &principal.credential {
        Credential::Session(id) => id.as_str(),
        Credential::Key(_) | Credential::AccessToken => "",
    };
    let delete = Statement::new("DELETE FROM accounts_sessions WHERE user_id = $1 AND id <> $2");
    Ok(tx.execute(delete.bind(of).bind(current)).await?)
}

/// Ends all sessions of a user.
pub(crate) async fn end_all(tx: &mut Transaction, of: &UserId) -> Result<u64> {
    let delete = Statement::new("DELETE FROM accounts_sessions WHERE user_id = $1");
    Ok(tx.execute(delete.bind(of)).await?)
}

async fn end_by_token(tx: &mut Transaction, token: &SessionToken) -> Result<()> {
    let delete = Statement::new("DELETE FROM accounts_sessions WHERE hash = $1");
    tx.execute(delete.bind(token.hash())).await?;
    Ok(())
}

/// Ends the sessions behind a session of the provider.
pub(crate) async fn end_of_provider(tx: &mut Transaction, of: ProviderSession<'_>) -> Result<u64> {
    let delete =
        Statement::new("DELETE FROM accounts_sessions WHERE issuer = $1 AND provider_session = $2");
    Ok(tx.execute(delete.bind(of.issuer).bind(of.sid)).await?)
}

/// Ends the sessions that a user began through a provider; or only those for which the provider named no session.
pub(crate) async fn end_of_subject(
    tx: &mut Transaction,
    user: &UserId,
    issuer: &str,
    only_unnamed: bool,
) -> Result<u64> {
    let delete = Statement::new("DELETE FROM accounts_sessions WHERE user_id = $1 AND issuer = $2");
    let delete = match only_unnamed {
        true => delete.push(" AND provider_session = ''"),
        false => delete,
    };
    Ok(tx.execute(delete.bind(user).bind(issuer)).await?)
}
