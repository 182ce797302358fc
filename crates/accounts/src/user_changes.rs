//! Changes of users: invitation, role, status, password, and the choice of the break-glass admin.

use crate::accounts::{Accounts, transaction};
use crate::email::Email;
use crate::error::{AccountsError, Refusal, Result};
use crate::ids::UserId;
use crate::keys::revoke_all_of;
use crate::one_time::{self, OneTimeToken, Purpose};
use crate::password::Password;
use crate::roles::{
    Action, Denied, Membership, ObjectOwner, Principal, Role, Visibility, authorize, visibility,
};
use crate::sessions::{Client, end_all, end_all_but_current};
use crate::throttle::forget_account;
use crate::two_factor::{require_other_user, require_session};
use crate::user::{self, User, UserRow, UserStatus};
use domain::Micros;
use sql_store::{Statement, Transaction};

const MAX_NAME_CHARS: usize = 100;
/// Users in one page of a list.
const MAX_PAGE_USERS: usize = 200;

/// A local user to be invited.
#[derive(Clone)]
pub struct NewUser {
    /// The name for pages: 1 to 100 characters.
    pub name: String,
    /// The address to sign in with.
    pub email: Email,
    /// The role and where the user has it.
    pub membership: Membership,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser")
            .field("membership", &self.membership)
            .finish_non_exhaustive()
    }
}

/// A user with the token by which it sets its password.
#[derive(Debug)]
pub struct Invitation {
    /// The user.
    pub user: User,
    /// The token for a link.
    pub token: OneTimeToken,
    /// When the token expires.
    pub expires: Micros,
}

/// What a change of a user may be.
enum Change {
    Membership(Membership),
    Status(UserStatus),
}

impl Accounts {
    /// Creates a local user without a password, and the token to set one.
    ///
    /// # Errors
    /// When the principal has no session or may not create users with this membership, the address is taken, a field is
    /// invalid, or the store can't be used.
    pub async fn invite_user(&self, principal: &Principal, new: &NewUser) -> Result<Invitation> {
        require_session(principal)?;
        let name = checked_name(&new.name)?;
        transaction!(self, tx => self.invite_user_in(&mut tx, principal, new, &name))
    }

    async fn invite_user_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        new: &NewUser,
        name: &str,
    ) -> Result<Invitation> {
        let now = self.clock.now();
        let user = user::new_local(name.to_owned(), new.email.clone(), new.membership, now);
        check_reach(principal, new.membership)?;
        if user::find_local(tx, &new.email).await?.is_some() {
            return Err(Refusal::EmailTaken.into());
        }
        tx.execute(user::insert(&user)).await?;
        self.issue_password_token_in(tx, user).await
    }

    /// A token by which another local user sets a new password, such as one that forgot it. The old password stays valid
    /// until then.
    ///
    /// # Errors
    /// When the principal has no session, may not change the user or is that user, the user is not local, or the store
    /// can't be used.
    pub async fn issue_password_token(
        &self,
        principal: &Principal,
        of: &UserId,
    ) -> Result<Invitation> {
        require_session(principal)?;
        require_other_user(principal, of)?;
        transaction!(self, tx => self.issue_password_token_for(&mut tx, principal, of))
    }

    async fn issue_password_token_for(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        of: &UserId,
    ) -> Result<Invitation> {
        let user = reachable(tx, principal, of).await?;
        if !user.is_local {
            return Err(AccountsError::invalid(
                "/user",
                "the user signs in through the sign-on provider",
            ));
        }
        self.issue_password_token_in(tx, user).await
    }

    async fn issue_password_token_in(
        &self,
        tx: &mut Transaction,
        user: User,
    ) -> Result<Invitation> {
        let expires = self
            .clock
            .now()
            .saturating_add(self.settings.one_time_token_lifetime);
        let token = one_time::issue(tx, Purpose::SetPassword, Some(&user.id), expires).await?;
        Ok(Invitation {
            user,
            token,
            expires,
        })
    }

    /// Sets a password by a one-time token, ends the user's sessions, and forgets its failures. A second factor stays.
    ///
    /// # Errors
    /// When the token is not valid, the password breaks a rule, or the store can't be used.
    pub async fn set_password(&self, token: &OneTimeToken, password: &Password) -> Result<UserId> {
        let mut tx = self.database.begin().await?;
        let id = one_time::user_of(&mut tx, Purpose::SetPassword, token, self.clock.now()).await?;
        let id = UserId::try_from(id).map_err(|_| Refusal::InvalidOneTimeToken)?;
        let user = user::existing(&mut tx, &id).await?.user;
        drop(tx);
        password.check_rules(user.email.as_ref().map_or("", Email::as_str))?;
        let hash = self.hasher.hash(password).await?;
        transaction!(self, ReadCommitted, tx => self.set_password_in(&mut tx, token, &user, &hash))?;
        Ok(id)
    }

    async fn set_password_in(
        &self,
        tx: &mut Transaction,
        token: &OneTimeToken,
        user: &User,
        hash: &str,
    ) -> Result<()> {
        let now = self.clock.now();
        one_time::consume(tx, Purpose::SetPassword, token, now).await?;
        tx.execute(user::set_password(&user.id, hash, now)).await?;
        if let Some(email) = &user.email {
            forget_account(tx, &self.account_throttle_key(email)).await?;
        }
        end_all(tx, &user.id).await?;
        Ok(())
    }

    /// Replaces the principal's own password, and ends its other sessions.
    ///
    /// # Errors
    /// When the principal has no session, the present password is wrong, the new one breaks a rule, or the store can't
    /// be used.
    pub async fn change_password(
        &self,
        principal: &Principal,
        present: &Password,
        new: &Password,
        client: &Client,
    ) -> Result<()> {
        let known = self.confirm_password(principal, present, client).await?;
        let user = self.own_user(principal).await?;
        new.check_rules(user.email.as_ref().map_or("", Email::as_str))?;
        let hash = self.hasher.hash(new).await?;
        transaction!(self, ReadCommitted, tx => self.change_password_in(&mut tx, principal, &known, &hash))
    }

    async fn change_password_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        known: &str,
        hash: &str,
    ) -> Result<()> {
        user::check_password(tx, &principal.user, known).await?;
        tx.execute(user::set_password(&principal.user, hash, self.clock.now()))
            .await?;
        one_time::delete(tx, Purpose::SetPassword, Some(&principal.user)).await?;
        end_all_but_current(tx, &principal.user, principal).await?;
        Ok(())
    }

    /// Changes a user's role or where it has it. Its keys are revoked, its sessions ended and its links deleted: other
    /// users may hold them, and must not get the new role.
    ///
    /// # Errors
    /// When the principal has no session or may not change users of the old or the new membership, the user is the
    /// break-glass admin, or the store can't be used.
    pub async fn set_membership(
        &self,
        principal: &Principal,
        of: &UserId,
        membership: Membership,
    ) -> Result<User> {
        require_session(principal)?;
        let change = Change::Membership(membership);
        transaction!(self, tx => self.change_in(&mut tx, principal, of, &change))
    }

    /// Enables or disables a user. The sessions of a disabled one are ended.
    ///
    /// # Errors
    /// When the principal may not change the user, the user is the break-glass admin, or the store can't be used.
    pub async fn set_status(
        &self,
        principal: &Principal,
        of: &UserId,
        status: UserStatus,
    ) -> Result<User> {
        let change = Change::Status(status);
        transaction!(self, tx => self.change_in(&mut tx, principal, of, &change))
    }

    async fn change_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        of: &UserId,
        change: &Change,
    ) -> Result<User> {
        let mut user = reachable(tx, principal, of).await?;
        match *change {
            Change::Membership(membership) => {
                check_reach(principal, membership)?;
                self.change_membership(tx, &mut user, membership).await?;
                user.from_groups = false;
            }
            Change::Status(status) => user.status = status,
        }
        let is_active_admin =
            user.status == UserStatus::Active && user.membership == Membership::Admin;
        if user.break_glass && !is_active_admin {
            return Err(Refusal::LastAdmin.into());
        }
        if user.status != UserStatus::Active {
            end_all(tx, &user.id).await?;
        }
        user.updated = self.clock.now();
        tx.execute(user::update(&user)).await?;
        Ok(user)
    }

    /// Gives a user a membership. Its credentials end if it is another one. The caller writes the user.
    pub(crate) async fn change_membership(
        &self,
        tx: &mut Transaction,
        user: &mut User,
        membership: Membership,
    ) -> Result<()> {
        if user.membership != membership {
            user.membership = membership;
            revoke_all_of(tx, &user.id, self.clock.now()).await?;
            one_time::delete(tx, Purpose::SetPassword, Some(&user.id)).await?;
            end_all(tx, &user.id).await?;
        }
        Ok(())
    }

    /// Makes another admin the break-glass admin: an active local one with a password.
    ///
    /// # Errors
    /// When the principal is no admin with a session, the user can't be it, or the store can't be used.
    pub async fn set_break_glass(&self, principal: &Principal, to: &UserId) -> Result<User> {
        require_session(principal)?;
        transaction!(self, tx => self.set_break_glass_in(&mut tx, principal, to))
    }

    async fn set_break_glass_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        to: &UserId,
    ) -> Result<User> {
        let mut user = reachable(tx, principal, to).await?;
        let is_suitable = user.is_local
            && user.has_password
            && user.status == UserStatus::Active
            && user.membership.role() == Role::Admin;
        if !is_suitable {
            let message = "the break-glass admin is an active local admin with a password";
            return Err(AccountsError::invalid("/user", message));
        }
        let clear = "UPDATE accounts_users SET break_glass = 0 WHERE break_glass = 1";
        tx.execute(Statement::new(clear)).await?;
        user.break_glass = true;
        user.updated = self.clock.now();
        tx.execute(user::update(&user)).await?;
        Ok(user)
    }

    /// The principal's own user.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn own_user(&self, principal: &Principal) -> Result<User> {
        let mut tx = self.database.begin().await?;
        Ok(user::existing(&mut tx, &principal.user).await?.user)
    }

    /// A user.
    ///
    /// # Errors
    /// When the principal may not read it, there is none, or the store can't be used.
    pub async fn user(&self, principal: &Principal, id: &UserId) -> Result<User> {
        let mut tx = self.database.begin().await?;
        let found = user::find(&mut tx, id).await?.map(|found| found.user);
        let owner = found.as_ref().map(User::owner);
        authorize(principal, Action::UsersRead, owner.as_ref())?;
        Ok(found.ok_or(Denied::NotFound)?)
    }

    /// Up to `limit` (at most 200) users that the principal may read, in the order of their ids, from the one after
    /// `after`.
    ///
    /// # Errors
    /// When the scope is missing, or the store can't be used.
    pub async fn users(
        &self,
        principal: &Principal,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<User>> {
        let visible = visibility(principal, Action::UsersRead)?;
        let select = Statement::new("SELECT * FROM accounts_users WHERE id > $1");
        let select = select.bind(after.map_or("", UserId::as_str));
        let select = match visible {
            Visibility::Nothing => return Ok(Vec::new()),
            Visibility::User(user) => select.push(" AND id = ").push_bind(&user),
            Visibility::Affiliate(network, affiliate) => select
                .push(" AND network = ")
                .push_bind(network.0)
                .push(" AND affiliate = ")
                .push_bind(affiliate.0),
            Visibility::Advertiser(network, advertiser) => select
                .push(" AND network = ")
                .push_bind(network.0)
                .push(" AND advertiser = ")
                .push_bind(advertiser.0),
            Visibility::Network(network) => select.push(" AND network = ").push_bind(network.0),
            Visibility::AllNetworks => select,
        };
        let select = select
            .push(" ORDER BY id LIMIT ")
            .push_bind(limit.min(MAX_PAGE_USERS));
        let mut tx = self.database.begin().await?;
        let rows: Vec<UserRow> = tx.fetch_all(select).await?;
        let user = |row: UserRow| Ok(row.into_stored()?.user);
        rows.into_iter().map(user).collect()
    }
}

/// The user, if the principal may change it.
async fn reachable(tx: &mut Transaction, principal: &Principal, id: &UserId) -> Result<User> {
    let found = user::find(tx, id).await?.map(|found| found.user);
    let owner = found.as_ref().map(User::owner);
    authorize(principal, Action::UsersWrite, owner.as_ref())?;
    Ok(found.ok_or(Denied::NotFound)?)
}

/// Whether the principal may give this membership: a manager makes no admin, and no user of another network.
fn check_reach(principal: &Principal, membership: Membership) -> Result<()> {
    let owner = ObjectOwner {
        user: None,
        ..ObjectOwner::user(principal.user.clone(), membership)
    };
    Ok(authorize(principal, Action::UsersWrite, Some(&owner))?)
}

/// A name for pages, without spaces around it.
pub(crate) fn checked_name(name: &str) -> Result<String> {
    let name = name.trim();
    let length = name.chars().count();
    if !(1..=MAX_NAME_CHARS).contains(&length) || name.chars().any(char::is_control) {
        let message = "a name has 1 to 100 characters, none of them a control character";
        return Err(AccountsError::invalid("/name", message));
    }
    Ok(name.to_owned())
}
