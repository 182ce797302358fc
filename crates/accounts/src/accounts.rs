//! The open store of accounts, and its housekeeping.

use crate::clock::Clock;
use crate::error::Result;
use crate::password::PasswordHasher;
use crate::secret::SealingKeys;
use crate::settings::AccountsSettings;
use sql_store::{Access, Database, Location, Migration, Statement};
use std::sync::Arc;

/// The migrations of the tables `accounts_…`.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "accounts",
    sql: include_str!("../migrations/0001_accounts.sql"),
    released_checksum: None,
}];

/// Users, API keys, sessions and sign-on in a database. Clones share it.
#[derive(Debug, Clone)]
pub struct Accounts {
    pub(crate) database: Database,
    pub(crate) settings: Arc<AccountsSettings>,
    pub(crate) sealing_keys: SealingKeys,
    pub(crate) clock: Clock,
    pub(crate) hasher: PasswordHasher,
}

/// Runs a transaction, and repeats it after a conflict. Without an isolation level it is serialisable.
macro_rules! transaction {
    ($accounts:expr, $tx:ident => $work:expr) => {
        $crate::accounts::transaction!($accounts, Serializable, $tx => $work)
    };
    ($accounts:expr, $isolation:ident, $tx:ident => $work:expr) => {{
        let mut attempts = $accounts.database.attempts(::sql_store::Isolation::$isolation);
        loop {
            let mut $tx = attempts.begin().await?;
            let outcome = $work.await;
            if let Some(outcome) = attempts.finish($tx, outcome).await {
                break outcome;
            }
        }
    }};
}
pub(crate) use transaction;

impl Accounts {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// When it can't be opened, or is newer than this program.
    pub async fn open(
        location: &Location,
        access: Access,
        sealing_keys: SealingKeys,
        settings: AccountsSettings,
        clock: Clock,
    ) -> Result<Self> {
        let database = Database::open(location, access, MIGRATIONS).await?;
        Ok(Self::with_database(database, sealing_keys, settings, clock))
    }

    /// Uses an open database that has the tables of [`MIGRATIONS`].
    #[must_use]
    pub fn with_database(
        database: Database,
        sealing_keys: SealingKeys,
        settings: AccountsSettings,
        clock: Clock,
    ) -> Self {
        let hasher = PasswordHasher::new(settings.max_parallel_hashes, settings.hash_wait);
        Self {
            database,
            settings: Arc::new(settings),
            sealing_keys,
            clock,
            hasher,
        }
    }

    /// Deletes expired sessions, one-time tokens, used values, known addresses, forgotten failures, and keys long after their
    /// end. A program calls it every hour or so; nothing expired is accepted before either. Returns the number of rows.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn delete_expired(&self) -> Result<u64> {
        let now = self.clock.now();
        let idle_since = now.saturating_sub(self.settings.session_idle_timeout);
        let rules = [
            self.settings.account_throttle,
            self.settings.address_throttle,
        ];
        let forget_after = rules.map(|rule| rule.forget_after).into_iter().max();
        let forgotten = now.saturating_sub(forget_after.unwrap_or_default());
        let dead_since = now.saturating_sub(self.settings.dead_key_retention);
        let statements = [
            crate::keys::delete_dead(dead_since),
            Statement::new("DELETE FROM accounts_sessions WHERE expires <= $1 OR last_seen <= $2")
                .bind(now)
                .bind(idle_since),
            Statement::new("DELETE FROM accounts_one_time_tokens WHERE expires <= $1").bind(now),
            Statement::new("DELETE FROM accounts_used_values WHERE expires <= $1").bind(now),
            Statement::new("DELETE FROM accounts_known_addresses WHERE expires <= $1").bind(now),
            Statement::new("DELETE FROM accounts_throttles WHERE last_failure <= $1")
                .bind(forgotten),
        ];
        let mut deleted = 0;
        for statement in statements {
            let mut tx = self.database.begin().await?;
            deleted += tx.execute(statement).await?;
            tx.commit().await?;
        }
        Ok(deleted)
    }
}
