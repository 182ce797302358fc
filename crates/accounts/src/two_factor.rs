//! Second factors: enrolment of an authenticator, recovery codes, their use and removal.

use crate::accounts::{Accounts, transaction};
use crate::error::{Refusal, Result};
use crate::ids::{SessionId, UserId};
use crate::password::Password;
use crate::roles::{Action, Credential, Denied, Principal, authorize};
use crate::secret::{NotSealed, hash_at_rest, random_bytes, secret_text};
use crate::sessions::{Client, end_all, end_all_but_current};
use crate::totp::{SECRET_BYTES, TotpCode, TotpSecret};
use crate::user::{self, StoredUser};
use data_encoding::BASE32_NOPAD;
use sql_store::{Statement, Transaction};

const RECOVERY_CODES: usize = 10;
/// 80 bits, 16 letters of Base32.
const RECOVERY_CODE_BYTES: usize = 10;

secret_text! {
    /// A code that replaces one code of an authenticator that is lost: 16 letters and digits in groups of four.
    pub struct RecoveryCode
}

/// A second factor in a request.
#[derive(Debug, Clone)]
pub enum SecondFactor {
    /// A code of the authenticator.
    Totp(TotpCode),
    /// A recovery code; it is used up.
    Recovery(RecoveryCode),
}

impl RecoveryCode {
    fn random() -> Self {
        let bytes: [u8; RECOVERY_CODE_BYTES] = random_bytes();
        let text = BASE32_NOPAD.encode(&bytes).to_lowercase();
        let groups: Vec<_> = (0..text.len())
            .step_by(4)
            .map(|at| &text[at..at + 4])
            .collect();
        Self::new(groups.join("-"))
    }

    fn hash(&self, user: &UserId) -> String {
        let letters = self.expose().chars().filter(char::is_ascii_alphanumeric);
        let letters: String = letters.take(64).collect();
        hash_at_rest(user.as_str(), &letters.to_lowercase())
    }
}

/// An authenticator to be confirmed.
#[derive(Debug)]
pub struct TotpEnrolment {
    /// The secret, to be typed.
    pub secret: TotpSecret,
    uri: zeroize::Zeroizing<String>,
}

impl TotpEnrolment {
    /// The URI for a QR code, with the secret
    /// (<https://github.com/google/google-authenticator/wiki/Key-Uri-Format>).
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl Accounts {
    /// Begins the enrolment of an authenticator for the principal's user, after its password. It takes effect when a
    /// code confirms it.
    ///
    /// # Errors
    /// When the principal has no session, the password is wrong, an authenticator is enrolled, or the store can't be
    /// used.
    pub async fn begin_totp(
        &self,
        principal: &Principal,
        password: &Password,
        client: &Client,
    ) -> Result<TotpEnrolment> {
        let known = self.confirm_password(principal, password, client).await?;
        let secret = TotpSecret::random();
        let sealed = self
            .sealing_keys
            .seal(principal.user.as_str(), secret.bytes());
        let user = self.own_user(principal).await?;
        transaction!(self, ReadCommitted, tx => set_totp_secret(&mut tx, &user.id, &known, &sealed))?;
        let label = user.email.as_ref().map_or("", |email| email.as_str());
        let uri = otpauth_uri(&self.settings.totp_issuer, label, &secret);
        Ok(TotpEnrolment { secret, uri })
    }

    /// Confirms the enrolment by a code, ends the user's other sessions, and returns its recovery codes.
    ///
    /// # Errors
    /// When the principal has no session, the code is wrong, no enrolment has begun, or the store can't be used.
    pub async fn confirm_totp(
        &self,
        principal: &Principal,
        code: &TotpCode,
        client: &Client,
    ) -> Result<Vec<RecoveryCode>> {
        require_session(principal)?;
        self.counted(principal, client, async || {
            transaction!(self, ReadCommitted, tx => self.confirm_totp_in(&mut tx, principal, code))
        })
        .await
    }

    async fn confirm_totp_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        code: &TotpCode,
    ) -> Result<Vec<RecoveryCode>> {
        let stored = user::existing(tx, &principal.user).await?;
        if stored.user.has_totp || stored.totp_secret.is_empty() {
            return Err(Refusal::SecondFactorState.into());
        }
        self.accept_code(tx, &stored, code).await?;
        let update = Statement::new("UPDATE accounts_users SET totp_confirmed = 1 WHERE id = $1");
        tx.execute(update.bind(&principal.user)).await?;
        end_all_but_current(tx, &principal.user, principal).await?;
        replace_recovery_codes(tx, &principal.user).await
    }

    /// Replaces the recovery codes, after a code of the authenticator.
    ///
    /// # Errors
    /// When the principal has no session or its user no authenticator, the code is wrong, or the store can't be used.
    pub async fn new_recovery_codes(
        &self,
        principal: &Principal,
        code: &TotpCode,
        client: &Client,
    ) -> Result<Vec<RecoveryCode>> {
        require_session(principal)?;
        self.counted(principal, client, async || {
            transaction!(self, ReadCommitted, tx => self.new_recovery_codes_in(&mut tx, principal, code))
        })
        .await
    }

    async fn new_recovery_codes_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        code: &TotpCode,
    ) -> Result<Vec<RecoveryCode>> {
        let stored = user::existing(tx, &principal.user).await?;
        if !stored.user.has_totp {
            return Err(Refusal::SecondFactorState.into());
        }
        self.accept_code(tx, &stored, code).await?;
        replace_recovery_codes(tx, &principal.user).await
    }

    /// Removes the principal's own authenticator and recovery codes, after its password and a code, and ends its other
    /// sessions.
    ///
    /// # Errors
    /// When the principal has no session or its user no authenticator, password or code are wrong, or the store can't be
    /// used.
    pub async fn remove_own_totp(
        &self,
        principal: &Principal,
        password: &Password,
        factor: &SecondFactor,
        client: &Client,
    ) -> Result<()> {
        let known = self.confirm_password(principal, password, client).await?;
        self.counted(principal, client, async || {
            transaction!(self, ReadCommitted, tx => self.remove_own_totp_in(&mut tx, principal, &known, factor))
        })
        .await
    }

    async fn remove_own_totp_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        known: &str,
        factor: &SecondFactor,
    ) -> Result<()> {
        user::check_password(tx, &principal.user, known).await?;
        let stored = user::existing(tx, &principal.user).await?;
        if !stored.user.has_totp {
            return Err(Refusal::SecondFactorState.into());
        }
        self.accept_second_factor(tx, &stored, factor).await?;
        remove(tx, &principal.user).await?;
        end_all_but_current(tx, &principal.user, principal).await?;
        Ok(())
    }

    /// Uses a second factor up.
    pub(crate) async fn accept_second_factor(
        &self,
        tx: &mut Transaction,
        stored: &StoredUser,
        factor: &SecondFactor,
    ) -> Result<()> {
        match factor {
            SecondFactor::Totp(code) => self.accept_code(tx, stored, code).await,
            SecondFactor::Recovery(code) => {
                accept_recovery_code(tx, &stored.user.id, code).await?;
                tracing::warn!(user = %stored.user.id, "a recovery code was used");
                Ok(())
            }
        }
    }

    /// Removes the authenticator of another user that has lost it, and ends its sessions.
    ///
    /// # Errors
    /// When the principal has no session, may not change the user or is that user, or the store can't be used.
    pub async fn reset_second_factor(&self, principal: &Principal, of: &UserId) -> Result<()> {
        require_session(principal)?;
        require_other_user(principal, of)?;
        transaction!(self, ReadCommitted, tx => reset(&mut tx, principal, of))
    }

    /// Accepts a code of an authenticator once.
    async fn accept_code(
        &self,
        tx: &mut Transaction,
        stored: &StoredUser,
        code: &TotpCode,
    ) -> Result<()> {
        let id = &stored.user.id;
        let bytes = self.sealing_keys.open(id.as_str(), &stored.totp_secret)?;
        let bytes = <[u8; SECRET_BYTES]>::try_from(bytes);
        let secret = bytes.map(TotpSecret::from_bytes).map_err(|_| NotSealed)?;
        let step = secret.matching_step(code, self.clock.now());
        let step = step.ok_or(Refusal::InvalidCredentials)?;
        // A code of this or an earlier period than the last accepted one changes no row, also of two requests at the
        // same time.
        let update = Statement::new(
            "UPDATE accounts_users SET totp_last_step = $2 WHERE id = $1 AND totp_last_step < $2",
        );
        match tx.execute(update.bind(id).bind(step)).await? {
            0 => Err(Refusal::InvalidCredentials.into()),
            _ => Ok(()),
        }
    }

    /// The principal after its user has repeated its password: it may create keys without an expiry.
    ///
    /// # Errors
    /// When the principal has no session, the password is wrong, or the store can't be used.
    pub async fn confirmed(
        &self,
        principal: &Principal,
        password: &Password,
        client: &Client,
    ) -> Result<Principal> {
        self.confirm_password(principal, password, client).await?;
        Ok(Principal {
            is_confirmed: true,
            ..principal.clone()
        })
    }

    /// Checks the password of the principal's user, for a change of its credentials, and returns its hash. Failures
    /// count.
    pub(crate) async fn confirm_password(
        &self,
        principal: &Principal,
        password: &Password,
        client: &Client,
    ) -> Result<String> {
        require_session(principal)?;
        self.counted(principal, client, async || {
            let mut tx = self.database.begin().await?;
            let stored = user::existing(&mut tx, &principal.user).await?;
            drop(tx);
            let known = stored.password;
            let is_right = self.hasher.verify(password, known.clone()).await?;
            Ok(known
                .filter(|_| is_right)
                .ok_or(Refusal::InvalidCredentials)?)
        })
        .await
    }

    /// Runs a check of the principal's own credentials, and counts its failure for the session and the address.
    async fn counted<T>(
        &self,
        principal: &Principal,
        client: &Client,
        check: impl AsyncFnOnce() -> Result<T>,
    ) -> Result<T> {
        let mut tx = self.database.begin().await?;
        let stored = user::existing(&mut tx, &principal.user).await?;
        drop(tx);
        if !stored.user.is_local {
            return Err(Refusal::SecondFactorState.into());
        }
        let session = session_of(principal)?;
        let attempt = self.begin_own_attempt(session, client.address).await?;
        let checked = check().await;
        if !matches!(&checked, Err(error) if error.refusal() == Some(Refusal::InvalidCredentials)) {
            self.take_back(&attempt).await?;
        }
        checked
    }
}

/// Stores the sealed secret of an authenticator to be confirmed, unless one is enrolled.
async fn set_totp_secret(
    tx: &mut Transaction,
    user: &UserId,
    known: &str,
    sealed: &str,
) -> Result<()> {
    user::check_password(tx, user, known).await?;
    let update = Statement::new(
        "UPDATE accounts_users SET totp_secret = $2, totp_last_step = 0 WHERE id = $1 AND totp_confirmed = 0",
    );
    match tx.execute(update.bind(user).bind(sealed)).await? {
        0 => Err(Refusal::SecondFactorState.into()),
        _ => Ok(()),
    }
}

/// Credentials are changed by users that signed in, not by keys that leaked.
pub(crate) fn require_session(principal: &Principal) -> Result<()> {
    session_of(principal).map(drop)
}

fn session_of(principal: &Principal) -> Result<&SessionId> {
    match &principal.credential {
        Credential::Session(id) => Ok(id),
        Credential::Key(_) | Credential::AccessToken => Err(Refusal::SessionRequired.into()),
    }
}

/// A stolen session must not replace the credentials of its own user: that takes the password.
pub(crate) fn require_other_user(principal: &Principal, of: &UserId) -> Result<()> {
    if principal.user == *of {
        return Err(Refusal::OwnCredentials.into());
    }
    Ok(())
}

/// Uses a recovery code up.
async fn accept_recovery_code(
    tx: &mut Transaction,
    user: &UserId,
    code: &RecoveryCode,
) -> Result<()> {
    let delete =
        Statement::new("DELETE FROM accounts_recovery_codes WHERE user_id = $1 AND hash = $2");
    match tx.execute(delete.bind(user).bind(code.hash(user))).await? {
        0 => Err(Refusal::InvalidCredentials.into()),
        _ => Ok(()),
    }
}

async fn replace_recovery_codes(tx: &mut Transaction, user: &UserId) -> Result<Vec<RecoveryCode>> {
    delete_recovery_codes(tx, user).await?;
    let codes: Vec<_> = (0..RECOVERY_CODES)
        .map(|_| RecoveryCode::random())
        .collect();
    for code in &codes {
        let columns = [("user_id", user.into()), ("hash", code.hash(user).into())];
        tx.execute(Statement::insert("accounts_recovery_codes", columns))
            .await?;
    }
    Ok(codes)
}

async fn delete_recovery_codes(tx: &mut Transaction, user: &UserId) -> Result<()> {
    let delete = Statement::new("DELETE FROM accounts_recovery_codes WHERE user_id = $1");
    tx.execute(delete.bind(user)).await?;
    Ok(())
}

async fn remove(tx: &mut Transaction, user: &UserId) -> Result<()> {
    let update = Statement::new(
        "UPDATE accounts_users SET totp_secret = '', totp_confirmed = 0 WHERE id = $1",
    );
    tx.execute(update.bind(user)).await?;
    delete_recovery_codes(tx, user).await
}

async fn reset(tx: &mut Transaction, principal: &Principal, of: &UserId) -> Result<()> {
    let found = user::find(tx, of).await?;
    let owner = found.as_ref().map(|found| found.user.owner());
    authorize(principal, Action::UsersWrite, owner.as_ref())?;
    let user = found.ok_or(Denied::NotFound)?.user;
    remove(tx, &user.id).await?;
    end_all(tx, &user.id).await?;
    tracing::warn!(user = %user.id, by = %principal.user, "removed a user's second factor");
    Ok(())
}

fn otpauth_uri(issuer: &str, label: &str, secret: &TotpSecret) -> zeroize::Zeroizing<String> {
    let encode = |text: &str| {
        let reserved = percent_encoding::NON_ALPHANUMERIC;
        percent_encoding::utf8_percent_encode(text, reserved).to_string()
    };
    let (issuer, label, secret) = (encode(issuer), encode(label), secret.expose());
    format!("otpauth://totp/{issuer}:{label}?secret={secret}&issuer={issuer}").into()
}
