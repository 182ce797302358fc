//! Users and their rows.

use crate::email::Email;
use crate::error::{Refusal, Result};
use crate::ids::UserId;
use crate::roles::{Denied, Membership, ObjectOwner, Role};
use domain::{AdvertiserId, AffiliateId, Micros, NetworkId};
use serde::Serialize;
use sql_store::{Field, Row, SqlError, Statement, Transaction, Value, typed_row};
use std::fmt;

/// Whether a user may sign in and use its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// It may.
    Active,
    /// It may not; its sessions are ended, and its keys are refused.
    Disabled,
    /// It may not: the sign-on provider's groups give it no role. Its next sign-on with one enables it.
    WithoutRole,
}

impl UserStatus {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::WithoutRole => "without_role",
        }
    }
}

/// A user. `Debug` contains neither name nor e-mail.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The name for pages.
    pub name: String,
    /// The e-mail address; `None` if the sign-on provider has not verified one.
    pub email: Option<Email>,
    /// Whether the user signs in with e-mail and password; otherwise through the sign-on provider.
    pub is_local: bool,
    /// The role and where the user has it.
    pub membership: Membership,
    /// Whether the membership follows from groups of the sign-on provider.
    pub from_groups: bool,
    /// Active or disabled.
    pub status: UserStatus,
    /// Whether this is the admin that signs in locally even if others may not.
    pub break_glass: bool,
    /// Whether a password is set.
    pub has_password: bool,
    /// Whether codes of an authenticator are required.
    pub has_totp: bool,
    /// The time of creation.
    pub created: Micros,
    /// The time of the last change by an operator or the provider.
    pub updated: Micros,
    /// The time of the last sign-in.
    pub last_sign_in: Option<Micros>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("membership", &self.membership)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl User {
    /// The owner of the user and of its keys and sessions.
    #[must_use]
    pub fn owner(&self) -> ObjectOwner {
        ObjectOwner::user(self.id.clone(), self.membership)
    }
}

typed_row! {
    pub(crate) struct UserRow {
        id: UserId,
        name: String,
        email: String,
        is_local: bool,
        role: Role,
        network: Option<i64>,
        affiliate: Option<i64>,
        advertiser: Option<i64>,
        from_groups: bool,
        status: UserStatus,
        break_glass: bool,
        password: String,
        totp_secret: String,
        totp_confirmed: bool,
        created: Micros,
        updated: Micros,
        last_sign_in: Micros,
    }
}

/// A user with its credentials.
pub(crate) struct StoredUser {
    pub(crate) user: User,
    /// In the PHC string format.
    pub(crate) password: Option<String>,
    /// Sealed.
    pub(crate) totp_secret: String,
}

impl UserRow {
    pub(crate) fn into_stored(self) -> Result<StoredUser, SqlError> {
        let membership = membership(&self)?;
        let user = User {
            id: self.id,
            name: self.name,
            email: text(self.email).map(Email::from_stored),
            is_local: self.is_local,
            membership,
            from_groups: self.from_groups,
            status: self.status,
            break_glass: self.break_glass,
            has_password: !self.password.is_empty(),
            has_totp: self.totp_confirmed,
            created: self.created,
            updated: self.updated,
            last_sign_in: time(self.last_sign_in),
        };
        Ok(StoredUser {
            user,
            password: text(self.password),
            totp_secret: self.totp_secret,
        })
    }
}

/// A stored time; 0 is never.
pub(crate) fn time(stored: Micros) -> Option<Micros> {
    (stored != Micros(0)).then_some(stored)
}

/// A stored text; an empty one is none.
fn text(stored: String) -> Option<String> {
    (!stored.is_empty()).then_some(stored)
}

fn membership(row: &UserRow) -> Result<Membership, SqlError> {
    let number = |stored: Option<i64>| stored.map(u32::try_from).transpose();
    let parts = [row.network, row.affiliate, row.advertiser].map(number);
    let membership = match parts {
        [Ok(network), Ok(affiliate), Ok(advertiser)] => Membership::from_parts(
            row.role,
            network.map(NetworkId),
            affiliate.map(AffiliateId),
            advertiser.map(AdvertiserId),
        )
        .ok(),
        _ => None,
    };
    membership.ok_or_else(|| SqlError::UnexpectedValue(format!("the role of user {}", row.id)))
}

/// The columns `network`, `affiliate` and `advertiser` of a membership.
pub(crate) fn membership_columns(membership: Membership) -> [Value; 3] {
    let number = |id: Option<u32>| Value::from(id.map(i64::from));
    [
        number(membership.network().map(|id| id.0)),
        number(membership.affiliate().map(|id| id.0)),
        number(membership.advertiser().map(|id| id.0)),
    ]
}

const SELECT: Statement = Statement::new("SELECT * FROM accounts_users WHERE ");

/// The user with this id.
pub(crate) async fn find(tx: &mut Transaction, id: &UserId) -> Result<Option<StoredUser>> {
    first(tx, SELECT.push("id = ").push_bind(id)).await
}

/// The local user with this e-mail.
pub(crate) async fn find_local(tx: &mut Transaction, email: &Email) -> Result<Option<StoredUser>> {
    let select = SELECT
        .push("is_local = 1 AND email = ")
        .push_bind(email.as_str());
    first(tx, select).await
}

/// The user with this id, for a principal that may know of it or is this user.
pub(crate) async fn existing(tx: &mut Transaction, id: &UserId) -> Result<StoredUser> {
    Ok(find(tx, id).await?.ok_or(Denied::NotFound)?)
}

async fn first(tx: &mut Transaction, select: Statement) -> Result<Option<StoredUser>> {
    let row: Option<UserRow> = tx.fetch_optional(select).await?;
    Ok(row.map(UserRow::into_stored).transpose()?)
}

/// A new user's row.
pub(crate) fn insert(user: &User) -> Statement {
    let [network, affiliate, advertiser] = membership_columns(user.membership);
    let email = user.email.as_ref().map_or("", Email::as_str);
    Statement::insert(
        "accounts_users",
        [
            ("id", (&user.id).into()),
            ("name", (&user.name).into()),
            ("email", email.into()),
            ("is_local", user.is_local.into()),
            ("role", user.membership.role().as_str().into()),
            ("network", network),
            ("affiliate", affiliate),
            ("advertiser", advertiser),
            ("from_groups", user.from_groups.into()),
            ("status", user.status.as_str().into()),
            ("break_glass", user.break_glass.into()),
            ("password", "".into()),
            ("totp_secret", "".into()),
            ("totp_confirmed", false.into()),
            ("totp_last_step", 0_u64.into()),
            ("created", user.created.into()),
            ("updated", user.updated.into()),
            ("last_sign_in", Micros(0).into()),
        ],
    )
}

/// Writes what an operator or the provider may change.
pub(crate) fn update(user: &User) -> Statement {
    let [network, affiliate, advertiser] = membership_columns(user.membership);
    Statement::new(
        "UPDATE accounts_users SET name = $2, email = $3, role = $4, network = $5, affiliate = $6, advertiser = $7, \
         from_groups = $8, status = $9, break_glass = $10, updated = $11 WHERE id = $1",
    )
    .bind(&user.id)
    .bind(&user.name)
    .bind(user.email.as_ref().map_or("", Email::as_str))
    .bind(user.membership.role().as_str())
    .bind(network)
    .bind(affiliate)
    .bind(advertiser)
    .bind(user.from_groups)
    .bind(user.status.as_str())
    .bind(user.break_glass)
    .bind(user.updated)
}

/// A user that signs in locally and has no password yet.
pub(crate) fn new_local(name: String, email: Email, membership: Membership, now: Micros) -> User {
    User {
        id: UserId::random(),
        name,
        email: Some(email),
        is_local: true,
        membership,
        from_groups: false,
        status: UserStatus::Active,
        break_glass: false,
        has_password: false,
        has_totp: false,
        created: now,
        updated: now,
        last_sign_in: None,
    }
}

/// Whether a user's password is still `known`. A change that the password permits checks it again in its transaction,
/// and locks the row.
pub(crate) async fn check_password(tx: &mut Transaction, id: &UserId, known: &str) -> Result<()> {
    let lock =
        Statement::new("UPDATE accounts_users SET password = $2 WHERE id = $1 AND password = $2");
    match tx.execute(lock.bind(id).bind(known)).await? {
        0 => Err(Refusal::InvalidCredentials.into()),
        _ => Ok(()),
    }
}

/// Sets a password's hash.
pub(crate) fn set_password(id: &UserId, hash: &str, now: Micros) -> Statement {
    let update =
        Statement::new("UPDATE accounts_users SET password = $2, updated = $3 WHERE id = $1");
    update.bind(id).bind(hash).bind(now)
}

/// Notes a sign-in.
pub(crate) fn set_last_sign_in(id: &UserId, now: Micros) -> Statement {
    let update = Statement::new("UPDATE accounts_users SET last_sign_in = $2 WHERE id = $1");
    update.bind(id).bind(now)
}

impl Field for Role {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        let text = String::read(row, name)?;
        Self::from_name(&text)
            .ok_or_else(|| SqlError::UnexpectedValue(format!("{name}: {text:?} is not a role")))
    }
}

impl Field for UserStatus {
    fn read(row: &Row, name: &str) -> Result<Self, SqlError> {
        match String::read(row, name)?.as_str() {
            "active" => Ok(Self::Active),
            "disabled" => Ok(Self::Disabled),
            "without_role" => Ok(Self::WithoutRole),
            other => Err(SqlError::UnexpectedValue(format!(
                "{name}: {other:?} is not a status"
            ))),
        }
    }
}
