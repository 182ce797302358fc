//! The open store of accounts.

use crate::clock::Clock;
use crate::error::Result;
use crate::password::PasswordHasher;
use crate::secret::SealingKeys;
use crate::settings::AccountsSettings;
use sql_store::{Access, Database, Location, Migration};
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
}
