//! The first admin: a link that is valid once, for an hour, and only while there is no admin. No account has a default
//! password.

use crate::accounts::{Accounts, transaction};
use crate::email::Email;
use crate::error::{Refusal, Result};
use crate::one_time::{self, OneTimeToken, Purpose};
use crate::password::Password;
use crate::roles::Membership;
use crate::sessions::{Client, NewSession, SessionMethod};
use crate::user::{self, User};
use crate::user_changes::checked_name;
use sql_store::{Statement, Transaction};

/// The form that the first admin fills in.
#[derive(Clone)]
pub struct FirstAdmin {
    /// The token of the link.
    pub token: OneTimeToken,
    /// The name.
    pub name: String,
    /// The e-mail address to sign in with.
    pub email: Email,
    /// The chosen password.
    pub password: Password,
}

impl std::fmt::Debug for FirstAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FirstAdmin(…)")
    }
}

impl Accounts {
    /// The token for the first admin's link, for each start of the program; earlier ones are not accepted any more.
    /// `None` if there is an admin that can sign in.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn issue_setup_token(&self) -> Result<Option<OneTimeToken>> {
        transaction!(self, tx => self.issue_setup_token_in(&mut tx))
    }

    async fn issue_setup_token_in(&self, tx: &mut Transaction) -> Result<Option<OneTimeToken>> {
        if has_admin(tx).await? {
            one_time::delete(tx, Purpose::FirstAdmin, None).await?;
            return Ok(None);
        }
        let expires = self
            .clock
            .now()
            .saturating_add(self.settings.setup_token_lifetime);
        let token = one_time::issue(tx, Purpose::FirstAdmin, None, expires).await?;
        Ok(Some(token))
    }

    /// Creates the first admin, which is also the break-glass admin, and signs it in.
    ///
    /// # Errors
    /// When the token is not valid, there is an admin, a field is invalid, or the store can't be used.
    pub async fn create_first_admin(
        &self,
        form: &FirstAdmin,
        client: &Client,
    ) -> Result<NewSession> {
        // Before the hash, which is expensive: visitors without a token must not cause any.
        let mut tx = self.database.begin().await?;
        one_time::user_of(&mut tx, Purpose::FirstAdmin, &form.token, self.clock.now()).await?;
        drop(tx);
        form.password.check_rules(form.email.as_str())?;
        let name = checked_name(&form.name)?;
        let hash = self.hasher.hash(&form.password).await?;
        let session =
            transaction!(self, tx => self.insert_first_admin(&mut tx, form, &name, &hash, client))?;
        tracing::info!(user = %session.user.id, "created the first admin");
        Ok(session)
    }

    async fn insert_first_admin(
        &self,
        tx: &mut Transaction,
        form: &FirstAdmin,
        name: &str,
        hash: &str,
        client: &Client,
    ) -> Result<NewSession> {
        let now = self.clock.now();
        one_time::consume(tx, Purpose::FirstAdmin, &form.token, now).await?;
        if has_admin(tx).await? {
            return Err(Refusal::InvalidOneTimeToken.into());
        }
        let admin = user::new_local(name.to_owned(), form.email.clone(), Membership::Admin, now);
        let admin = User {
            break_glass: true,
            has_password: true,
            ..admin
        };
        tx.execute(user::insert(&admin)).await?;
        tx.execute(user::set_password(&admin.id, hash, now)).await?;
        self.begin_session(tx, admin, SessionMethod::OneTimeToken, client, None, None)
            .await
    }
}

/// Whether there is a break-glass admin, which can be replaced and never removed, or another one that can sign in.
async fn has_admin(tx: &mut Transaction) -> Result<bool> {
    let select = Statement::new(
        "SELECT id FROM accounts_users WHERE break_glass = 1 OR role = 'admin' AND status = 'active'",
    );
    Ok(tx.exists(select).await?)
}
