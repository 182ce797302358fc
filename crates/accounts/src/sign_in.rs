//! The sign-in of local users: throttle, password, second factor, session.

use crate::accounts::{Accounts, transaction};
use crate::email::Email;
use crate::error::{Refusal, Result};
use crate::password::Password;
use crate::sessions::{Client, NewSession, SessionMethod, SessionToken};
use crate::settings::LocalSignIn;
use crate::throttle::Attempt;
use crate::two_factor::SecondFactor;
use crate::user::{self, StoredUser, User, UserStatus};
use sql_store::Transaction;
use std::fmt;

/// A request to sign in. `Debug` does not contain it.
#[derive(Clone)]
pub struct SignIn {
    /// The e-mail address as typed.
    pub email: String,
    /// The password.
    pub password: Password,
    /// The second factor, once it was asked for.
    pub second_factor: Option<SecondFactor>,
    /// The client.
    pub client: Client,
    /// The session that the browser has so far; it is ended.
    pub previous: Option<SessionToken>,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignIn(…)")
    }
}

impl Accounts {
    /// Signs a local user in. The response and its time are the same for an unknown address, a wrong password, a
    /// disabled user and one that must use the sign-on provider.
    ///
    /// # Errors
    /// When the credentials are wrong, a second factor is missing, there were too many failures, too many passwords are
    /// being checked, or the store can't be used.
    pub async fn sign_in(&self, request: &SignIn) -> Result<NewSession> {
        // A text that is no address belongs to no account, and its time reveals nothing.
        let email = Email::parse(&request.email).map_err(|_| Refusal::InvalidCredentials)?;
        let attempt = self.begin_attempt(&email, request.client.address).await?;
        let stored = self
            .check_password(&email, &request.password, &attempt)
            .await?;
        if stored.user.has_totp && request.second_factor.is_none() {
            self.take_back(&attempt).await?;
            return Err(Refusal::SecondFactorRequired.into());
        }
        let session =
            transaction!(self, tx => self.finish_sign_in(&mut tx, request, &stored, &attempt))?;
        if session.user.break_glass {
            tracing::warn!(user = %session.user.id, "the break-glass admin signed in");
        }
        Ok(session)
    }

    async fn check_password(
        &self,
        email: &Email,
        password: &Password,
        attempt: &Attempt,
    ) -> Result<StoredUser> {
        let mut tx = self.database.begin().await?;
        let stored = user::find_local(&mut tx, email).await?;
        drop(tx);
        let hash = stored.as_ref().and_then(|stored| stored.password.clone());
        let is_right = match self.hasher.verify(password, hash).await {
            Ok(is_right) => is_right,
            Err(error) => {
                // The password was not checked.
                self.take_back(attempt).await?;
                return Err(error);
            }
        };
        let stored = stored.filter(|stored| is_right && self.may_sign_in(&stored.user));
        stored.ok_or_else(|| Refusal::InvalidCredentials.into())
    }

    fn may_sign_in(&self, user: &User) -> bool {
        let is_allowed = self.settings.local_sign_in == LocalSignIn::AllUsers || user.break_glass;
        is_allowed && user.status == UserStatus::Active
    }

    async fn finish_sign_in(
        &self,
        tx: &mut Transaction,
        request: &SignIn,
        checked: &StoredUser,
        attempt: &Attempt,
    ) -> Result<NewSession> {
        let stored = user::existing(tx, &checked.user.id).await?;
        // It may have changed since the password was checked.
        if stored.password != checked.password || !self.may_sign_in(&stored.user) {
            return Err(Refusal::InvalidCredentials.into());
        }
        let method = self.check_second_factor(tx, request, &stored).await?;
        self.forget_failures(tx, attempt).await?;
        let previous = request.previous.as_ref();
        self.begin_session(tx, stored.user, method, &request.client, previous, None)
            .await
    }

    async fn check_second_factor(
        &self,
        tx: &mut Transaction,
        request: &SignIn,
        stored: &StoredUser,
    ) -> Result<SessionMethod> {
        if !stored.user.has_totp {
            return Ok(SessionMethod::Password);
        }
        let factor = request.second_factor.as_ref();
        let factor = factor.ok_or(Refusal::SecondFactorRequired)?;
        self.accept_second_factor(tx, stored, factor).await?;
        Ok(match factor {
            SecondFactor::Totp(_) => SessionMethod::Totp,
            SecondFactor::Recovery(_) => SessionMethod::RecoveryCode,
        })
    }
}
