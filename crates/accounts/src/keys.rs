//! API keys: creation, use, rotation with an overlap, revocation.
//!
//! Invariant: a key never outlasts the key or token that made it, and is revoked with it.

use crate::accounts::{Accounts, transaction};
use crate::api_key::ApiKey;
use crate::error::{AccountsError, Refusal, Result};
use crate::ids::{KeyId, UserId};
use crate::roles::{Action, Credential, Denied, Principal, Scopes, authorize};
use crate::secret::is_equal;
use crate::user::{self, User, UserStatus, time};
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::time::Duration;

/// The precision of `last_used`.
const LAST_USED_INTERVAL: Duration = Duration::from_secs(60);
const MAX_LABEL_CHARS: usize = 100;
/// An expiry beyond it is a mistake.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
const REVOKED_ROOTS: &str =
    "WITH RECURSIVE revoked_keys (id) AS (SELECT id FROM accounts_api_keys WHERE ";
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 86_400);
/// Compared when no key has the id.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A key to be created.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The user in whose name the key acts.
    pub user: UserId,
    /// What the key is for: 1 to 100 characters.
    pub label: String,
    /// Its scopes: some of the user's role.
    pub scopes: Scopes,
    /// When it expires, within 10 years. It expires with the key or token that makes it if that is earlier, and after
    /// 90 days (a setting) in a session whose user has not repeated its password ([`Accounts::confirmed`]).
    pub expires: Option<Micros>,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The eight letters in the key.
    pub id: KeyId,
    /// The user in whose name the key acts.
    pub user: UserId,
    /// What the key is for.
    pub label: String,
    /// Its scopes. A request has those that the user's role has at that time.
    pub scopes: Scopes,
    /// The time of creation.
    pub created: Micros,
    /// When it expires.
    pub expires: Option<Micros>,
    /// When it was revoked.
    pub revoked: Option<Micros>,
    /// The time of the last request, to the minute.
    pub last_used: Option<Micros>,
    /// The key that replaces it.
    pub replaced_by: Option<KeyId>,
    /// The key whose request made it; it is revoked with that one.
    pub parent: Option<KeyId>,
}

/// A key that has just been created. Its secret can't be shown again.
#[derive(Debug)]
pub struct CreatedKey {
    /// The secret.
    pub key: ApiKey,
    /// The rest.
    pub info: KeyInfo,
}

typed_row! {
    struct KeyRow {
        id: KeyId,
        hash: String,
        user_id: UserId,
        label: String,
        scopes: String,
        created: Micros,
        expires: Micros,
        revoked: Micros,
        last_used: Micros,
        replaced_by: String,
        parent: String,
    }
}

impl KeyRow {
    fn into_info(self) -> KeyInfo {
        KeyInfo {
            id: self.id,
            user: self.user_id,
            label: self.label,
            scopes: Scopes::known_in(&self.scopes),
            created: self.created,
            expires: time(self.expires),
            revoked: time(self.revoked),
            last_used: time(self.last_used),
            replaced_by: KeyId::try_from(self.replaced_by).ok(),
            parent: KeyId::try_from(self.parent).ok(),
        }
    }
}

impl KeyInfo {
    fn is_valid(&self, now: Micros) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }
}

impl Accounts {
    /// The principal of an API key.
    ///
    /// # Errors
    /// When the key is unknown, revoked or expired, its user is disabled or has not signed on for too long, or the store
    /// can't be used.
    pub async fn authenticate_key(&self, key: &ApiKey) -> Result<Principal> {
        let now = self.clock.now();
        let id = key.id().ok_or(Refusal::MalformedKey)?;
        let mut tx = self.database.begin().await?;
        let row = find(&mut tx, &id).await?;
        let stored = row.as_ref().map_or(NO_HASH, |row| row.hash.as_str());
        let is_right = is_equal(&key.hash(), stored);
        let info = row.filter(|_| is_right).map(KeyRow::into_info);
        let info = info
            .filter(|info| info.is_valid(now))
            .ok_or(Refusal::InvalidKey)?;
        let found = user::find(&mut tx, &info.user)
            .await?
            .map(|found| found.user);
        let found = found.filter(|user| user.status == UserStatus::Active);
        let user = found.ok_or(Refusal::InvalidKey)?;
        drop(tx);
        self.check_sign_on(&user, now)?;
        if info
            .last_used
            .is_none_or(|used| now.since(used) >= LAST_USED_INTERVAL)
        {
            transaction!(self, ReadCommitted, tx => touch(&mut tx, &id, now))?;
        }
        Ok(
            Principal::new(user.id, user.membership, info.scopes, Credential::Key(id))
                .until(info.expires),
        )
    }

    /// Checks that a user of the sign-on provider has signed on not too long ago.
    fn check_sign_on(&self, user: &User, now: Micros) -> Result<()> {
        let last = user.last_sign_in.unwrap_or_default();
        let is_recent = now.since(last) < self.settings.sign_on_validity;
        if user.is_local || is_recent {
            Ok(())
        } else {
            Err(Refusal::SignOnTooOld.into())
        }
    }

    /// Creates a key. Its scopes must be the principal's and the user's.
    ///
    /// # Errors
    /// When the principal may not, a scope is neither's, the user has too many keys, a field is invalid, or the store
    /// can't be used.
    pub async fn create_key(&self, principal: &Principal, new: &NewKey) -> Result<CreatedKey> {
        transaction!(self, tx => self.create_key_in(&mut tx, principal, new))
    }

    async fn create_key_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        new: &NewKey,
    ) -> Result<CreatedKey> {
        let now = self.clock.now();
        let found = user::find(tx, &new.user).await?.map(|found| found.user);
        let owner = found.as_ref().map(User::owner);
        authorize(principal, Action::KeysWrite, owner.as_ref())?;
        let user = found.ok_or(Denied::NotFound)?;
        if let Some(missing) = new.scopes.first_outside(principal.scopes) {
            return Err(Denied::MissingScope(missing).into());
        }
        check(new, Scopes::of_role(user.membership.role()), now)?;
        let expires = self.limited_expiry(principal, new.expires, now);
        let new = NewKey {
            expires,
            ..new.clone()
        };
        let parent = valid_parent(tx, principal, now).await?;
        self.insert_key(tx, new, parent, now).await
    }

    /// The earlier one of `requested` and the latest expiry of keys that the principal makes.
    fn limited_expiry(
        &self,
        principal: &Principal,
        requested: Option<Micros>,
        now: Micros,
    ) -> Option<Micros> {
        let latest = match &principal.credential {
            Credential::Session(_) if principal.is_confirmed => None,
            Credential::Session(_) => Some(now.saturating_add(self.settings.session_key_lifetime)),
            Credential::Key(_) | Credential::AccessToken => principal.expires,
        };
        requested.into_iter().chain(latest).min()
    }

    async fn insert_key(
        &self,
        tx: &mut Transaction,
        new: NewKey,
        parent: Option<KeyId>,
        now: Micros,
    ) -> Result<CreatedKey> {
        let created = insert(tx, new, parent, now).await?;
        self.check_count(tx, &created.info.user, now).await?;
        Ok(created)
    }

    /// Checks the number of valid keys, with the one that was just inserted.
    async fn check_count(&self, tx: &mut Transaction, user: &UserId, now: Micros) -> Result<()> {
        let count = Statement::new(
            "SELECT COUNT(*) FROM accounts_api_keys WHERE user_id = $1 AND revoked = 0 \
             AND (expires = 0 OR expires > $2)",
        );
        let count: Option<i64> = tx.fetch_optional(count.bind(user).bind(now)).await?;
        let count = usize::try_from(count.unwrap_or_default()).unwrap_or_default();
        if count > self.settings.max_keys {
            return Err(Refusal::TooManyKeys.into());
        }
        Ok(())
    }

    /// The keys of a user, the newest first.
    ///
    /// # Errors
    /// When the principal may not read them, or the store can't be used.
    pub async fn keys(&self, principal: &Principal, of: &UserId) -> Result<Vec<KeyInfo>> {
        let mut tx = self.database.begin().await?;
        let found = user::find(&mut tx, of).await?;
        let owner = found.map(|found| found.user.owner());
        authorize(principal, Action::KeysRead, owner.as_ref())?;
        let select = Statement::new(
            "SELECT * FROM accounts_api_keys WHERE user_id = $1 ORDER BY created DESC, id",
        );
        let rows: Vec<KeyRow> = tx.fetch_all(select.bind(of)).await?;
        Ok(rows.into_iter().map(KeyRow::into_info).collect())
    }

    /// Replaces a key by another one with the same label, scopes and lifetime, within the limits of [`NewKey::expires`].
    /// The old one works for `overlap`, at most 30 days, and counts as long. A key that rotates itself gets no longer
    /// life, and its replacement is revoked with it.
    ///
    /// # Errors
    /// When the principal may not, the key is not valid any more, the user has too many keys, or the store can't be
    /// used.
    pub async fn rotate_key(
        &self,
        principal: &Principal,
        id: &KeyId,
        overlap: Duration,
    ) -> Result<CreatedKey> {
        if overlap > MAX_OVERLAP {
            return Err(AccountsError::invalid(
                "/overlap",
                "the overlap is at most 30 days",
            ));
        }
        transaction!(self, tx => self.rotate_key_in(&mut tx, principal, id, overlap))
    }

    async fn rotate_key_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        id: &KeyId,
        overlap: Duration,
    ) -> Result<CreatedKey> {
        let now = self.clock.now();
        let old = own_key(tx, principal, id).await?;
        if !old.is_valid(now) || old.replaced_by.is_some() {
            return Err(Refusal::InvalidKey.into());
        }
        // The same rule as for a new key: a key can't make one with scopes that it lacks.
        if let Some(missing) = old.scopes.first_outside(principal.scopes) {
            return Err(Denied::MissingScope(missing).into());
        }
        let lifetime = old.expires.map(|expires| expires.since(old.created));
        let expires = lifetime.map(|lifetime| now.saturating_add(lifetime));
        let new = NewKey {
            user: old.user,
            label: old.label,
            scopes: old.scopes,
            expires: self.limited_expiry(principal, expires, now),
        };
        let parent = valid_parent(tx, principal, now).await?;
        let end = now.saturating_add(overlap);
        let end = old.expires.map_or(end, |expires| expires.min(end));
        let update = Statement::new("UPDATE accounts_api_keys SET expires = $2 WHERE id = $1");
        tx.execute(update.bind(id).bind(end)).await?;
        let created = self.insert_key(tx, new, parent, now).await?;
        let update = Statement::new("UPDATE accounts_api_keys SET replaced_by = $2 WHERE id = $1");
        tx.execute(update.bind(id).bind(&created.info.id)).await?;
        Ok(created)
    }

    /// Revokes a key at once, with the keys that it made.
    ///
    /// # Errors
    /// When the principal may not, there is no such key, or the store can't be used.
    pub async fn revoke_key(&self, principal: &Principal, id: &KeyId) -> Result<()> {
        transaction!(self, tx => self.revoke_key_in(&mut tx, principal, id))
    }

    async fn revoke_key_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        id: &KeyId,
    ) -> Result<()> {
        own_key(tx, principal, id).await?;
        let root = Statement::new(REVOKED_ROOTS).push("id = ").push_bind(id);
        revoke(tx, root, self.clock.now()).await?;
        Ok(())
    }

    /// Revokes all keys of a user, such as one whose password was stolen, and returns their number.
    ///
    /// # Errors
    /// When the principal may not, there is no such user, or the store can't be used.
    pub async fn revoke_keys(&self, principal: &Principal, of: &UserId) -> Result<u64> {
        transaction!(self, tx => self.revoke_keys_in(&mut tx, principal, of))
    }

    async fn revoke_keys_in(
        &self,
        tx: &mut Transaction,
        principal: &Principal,
        of: &UserId,
    ) -> Result<u64> {
        let found = user::find(tx, of).await?;
        let owner = found.map(|found| found.user.owner());
        authorize(principal, Action::KeysWrite, owner.as_ref())?;
        revoke_all_of(tx, of, self.clock.now()).await
    }
}

/// Revokes the keys of a condition that follows [`REVOKED_ROOTS`], and those that they made.
async fn revoke(tx: &mut Transaction, roots: Statement, now: Micros) -> Result<u64> {
    let update = roots
        .push(
            " UNION SELECT child.id FROM accounts_api_keys child JOIN revoked_keys ON child.parent = revoked_keys.id) \
             UPDATE accounts_api_keys SET revoked = ",
        )
        .push_bind(now)
        .push(" WHERE revoked = 0 AND id IN (SELECT id FROM revoked_keys)");
    Ok(tx.execute(update).await?)
}

/// Revokes all keys in the name of a user, and those that they made.
pub(crate) async fn revoke_all_of(tx: &mut Transaction, user: &UserId, now: Micros) -> Result<u64> {
    let roots = Statement::new(REVOKED_ROOTS)
        .push("user_id = ")
        .push_bind(user);
    revoke(tx, roots, now).await
}

/// Deletes keys that ended before `since`. One that made others stays until they are deleted: its revocation must reach
/// them.
pub(crate) fn delete_dead(since: Micros) -> Statement {
    Statement::new(
        "DELETE FROM accounts_api_keys WHERE (revoked BETWEEN 1 AND $1 OR expires BETWEEN 1 AND $1) \
         AND NOT EXISTS (SELECT id FROM accounts_api_keys child WHERE child.parent = accounts_api_keys.id)",
    )
    .bind(since)
}

/// The key that makes another one. It may have been revoked since it was authenticated.
async fn valid_parent(
    tx: &mut Transaction,
    principal: &Principal,
    now: Micros,
) -> Result<Option<KeyId>> {
    let Credential::Key(id) = &principal.credential else {
        return Ok(None);
    };
    let parent = find(tx, id).await?.map(KeyRow::into_info);
    let parent = parent.filter(|parent| parent.is_valid(now));
    Ok(Some(parent.ok_or(Refusal::InvalidKey)?.id))
}

fn check(new: &NewKey, role: Scopes, now: Micros) -> Result<()> {
    let length = new.label.trim().chars().count();
    if !(1..=MAX_LABEL_CHARS).contains(&length) || new.label.chars().any(char::is_control) {
        let message = "a label has 1 to 100 characters, none of them a control character";
        return Err(AccountsError::invalid("/label", message));
    }
    if new.scopes.is_empty() {
        return Err(AccountsError::invalid(
            "/scopes",
            "name at least one scope of docs/roles.md",
        ));
    }
    if let Some(action) = new.scopes.first_outside(role) {
        let message = format!(
            "the user's role has no scope {}; leave it out",
            action.scope()
        );
        return Err(AccountsError::invalid("/scopes", message));
    }
    let is_valid = |expires| now < expires && expires <= now.saturating_add(MAX_LIFETIME);
    if !new.expires.is_none_or(is_valid) {
        return Err(AccountsError::invalid(
            "/expires",
            "the expiry is a time in the future, at most 10 years away",
        ));
    }
    Ok(())
}

async fn insert(
    tx: &mut Transaction,
    new: NewKey,
    parent: Option<KeyId>,
    now: Micros,
) -> Result<CreatedKey> {
    let id = KeyId::random();
    let key = ApiKey::random(&id);
    let info = KeyInfo {
        id,
        user: new.user,
        label: new.label.trim().to_owned(),
        scopes: new.scopes,
        created: now,
        expires: new.expires,
        revoked: None,
        last_used: None,
        replaced_by: None,
        parent,
    };
    let insert = Statement::insert(
        "accounts_api_keys",
        [
            ("id", (&info.id).into()),
            ("hash", key.hash().into()),
            ("user_id", (&info.user).into()),
            ("label", (&info.label).into()),
            ("scopes", info.scopes.to_text().into()),
            ("created", now.into()),
            ("expires", info.expires.unwrap_or(Micros(0)).into()),
            ("revoked", Micros(0).into()),
            ("last_used", Micros(0).into()),
            ("replaced_by", "".into()),
            (
                "parent",
                info.parent.as_ref().map_or("", KeyId::as_str).into(),
            ),
        ],
    );
    tx.execute(insert).await?;
    Ok(CreatedKey { key, info })
}

async fn find(tx: &mut Transaction, id: &KeyId) -> Result<Option<KeyRow>> {
    let select = Statement::new("SELECT * FROM accounts_api_keys WHERE id = $1");
    Ok(tx.fetch_optional(select.bind(id)).await?)
}

async fn touch(tx: &mut Transaction, id: &KeyId, now: Micros) -> Result<()> {
    let update = Statement::new("UPDATE accounts_api_keys SET last_used = $2 WHERE id = $1");
    tx.execute(update.bind(id).bind(now)).await?;
    Ok(())
}

/// A key that the principal may change.
async fn own_key(tx: &mut Transaction, principal: &Principal, id: &KeyId) -> Result<KeyInfo> {
    let info = find(tx, id).await?.map(KeyRow::into_info);
    let found = match &info {
        Some(info) => user::find(tx, &info.user).await?,
        None => None,
    };
    let owner = found.map(|found| found.user.owner());
    authorize(principal, Action::KeysWrite, owner.as_ref())?;
    Ok(info.ok_or(Denied::NotFound)?)
}
