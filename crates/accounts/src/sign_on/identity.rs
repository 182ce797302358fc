//! The account of a provider's subject: created at the first sign-on, updated at each further one.

use super::claims::Claims;
use super::settings::{ProviderSettings, Unmapped};
use crate::accounts::Accounts;
use crate::email::Email;
use crate::error::{Refusal, Result};
use crate::fault::TokenFault;
use crate::ids::UserId;
use crate::roles::Membership;
use crate::sessions::end_all;
use crate::user::{self, StoredUser, User, UserStatus};
use serde_json::Value;
use sql_store::{Statement, Transaction};

const MAX_NAME_CHARS: usize = 100;
/// Groups of a user that are read.
const MAX_GROUPS: usize = 1_000;

/// What the provider's claims say about a user.
pub(super) struct Identity<'a> {
    pub(super) issuer: &'a str,
    pub(super) subject: String,
    name: String,
    /// Only if the provider has verified it.
    email: Option<Email>,
    groups: Vec<String>,
}

/// The outcome of a sign-on for the account.
pub(super) enum Account {
    Updated(User),
    Registered(User),
    /// The groups give no role. An account that had one from groups is suspended.
    WithoutRole,
}

impl<'a> Identity<'a> {
    /// Reads claims of an ID token, and those of the user information that it lacks.
    pub(super) fn new(
        settings: &'a ProviderSettings,
        token: &Claims,
        information: Option<&Claims>,
    ) -> Result<Self, TokenFault> {
        let of = |name: &str| token.value(name).or_else(|| information?.value(name));
        let text = |name: &str| of(name).and_then(Value::as_str);
        let subject = token.subject()?.to_owned();
        let name = text("name").or_else(|| text("preferred_username"));
        Ok(Self {
            issuer: &settings.issuer,
            name: display_name(name.unwrap_or(&subject)),
            email: verified_email(token).or_else(|| verified_email(information?)),
            groups: groups(of(&settings.groups_claim)),
            subject,
        })
    }

    fn membership(&self, settings: &ProviderSettings) -> Option<Membership> {
        let mut rules = settings.roles.iter();
        let rule = rules.find(|rule| self.groups.contains(&rule.group));
        rule.map(|rule| rule.membership)
    }
}

/// An address and the statement that it is verified, of one source: those of two must not be combined.
fn verified_email(claims: &Claims) -> Option<Email> {
    let is_verified = claims.value("email_verified") == Some(&Value::Bool(true));
    let address = claims.value("email").filter(|_| is_verified)?;
    Email::parse(address.as_str()?).ok()
}

fn display_name(text: &str) -> String {
    let printable = text.trim().chars().filter(|c| !c.is_control());
    printable.take(MAX_NAME_CHARS).collect()
}

fn groups(claim: Option<&Value>) -> Vec<String> {
    let texts: Vec<&Value> = match claim {
        Some(Value::Array(many)) => many.iter().take(MAX_GROUPS).collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    texts
        .into_iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

impl Accounts {
    /// Creates or updates the account of an identity.
    pub(super) async fn provision(
        &self,
        tx: &mut Transaction,
        identity: &Identity<'_>,
        settings: &ProviderSettings,
    ) -> Result<Account> {
        let mapped = identity.membership(settings);
        match find(tx, identity.issuer, &identity.subject).await? {
            Some(stored) => {
                self.update_account(tx, stored.user, identity, mapped, settings)
                    .await
            }
            None => self.register(tx, identity, mapped, settings).await,
        }
    }

    async fn register(
        &self,
        tx: &mut Transaction,
        identity: &Identity<'_>,
        mapped: Option<Membership>,
        settings: &ProviderSettings,
    ) -> Result<Account> {
        let Some(membership) = mapped.or_else(|| default_membership(settings)) else {
            return Ok(Account::WithoutRole);
        };
        let now = self.clock.now();
        let user = User {
            id: UserId::random(),
            name: identity.name.clone(),
            email: identity.email.clone(),
            is_local: false,
            membership,
            from_groups: true,
            status: UserStatus::Active,
            break_glass: false,
            has_password: false,
            has_totp: false,
            created: now,
            updated: now,
            last_sign_in: None,
        };
        tx.execute(user::insert(&user)).await?;
        let columns = [
            ("issuer", identity.issuer.into()),
            ("subject", (&identity.subject).into()),
            ("user_id", (&user.id).into()),
        ];
        tx.execute(Statement::insert("accounts_identities", columns))
            .await?;
        Ok(Account::Registered(user))
    }

    /// A group of the rules decides in any case. Without one, a membership that an operator assigned stays, and one
    /// that came from groups is lost.
    async fn update_account(
        &self,
        tx: &mut Transaction,
        mut user: User,
        identity: &Identity<'_>,
        mapped: Option<Membership>,
        settings: &ProviderSettings,
    ) -> Result<Account> {
        if user.status == UserStatus::Disabled {
            return Err(Refusal::NoAccount.into());
        }
        user.name.clone_from(&identity.name);
        user.email.clone_from(&identity.email);
        user.updated = self.clock.now();
        let assigned = (!user.from_groups).then_some(user.membership);
        let membership = mapped.or(assigned).or_else(|| default_membership(settings));
        user.status = match membership {
            Some(_) => UserStatus::Active,
            None => UserStatus::WithoutRole,
        };
        user.from_groups = mapped.is_some() || assigned.is_none();
        if let Some(membership) = membership {
            self.change_membership(tx, &mut user, membership).await?;
        }
        tx.execute(user::update(&user)).await?;
        if membership.is_none() {
            end_all(tx, &user.id).await?;
            return Ok(Account::WithoutRole);
        }
        Ok(Account::Updated(user))
    }
}

const fn default_membership(settings: &ProviderSettings) -> Option<Membership> {
    match settings.unmapped {
        Unmapped::Refuse => None,
        Unmapped::Affiliate(network) => Some(Membership::Affiliate {
            network,
            affiliate: None,
        }),
    }
}

/// The user of a provider's subject.
pub(super) async fn find(
    tx: &mut Transaction,
    issuer: &str,
    subject: &str,
) -> Result<Option<StoredUser>> {
    let select = Statement::new(
        "SELECT user_id FROM accounts_identities WHERE issuer = $1 AND subject = $2",
    );
    let id: Option<String> = tx.fetch_optional(select.bind(issuer).bind(subject)).await?;
    match id.and_then(|id| UserId::try_from(id).ok()) {
        Some(id) => user::find(tx, &id).await,
        None => Ok(None),
    }
}
