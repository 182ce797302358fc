//! Failed attempts per account and per address: after some, each next one has to wait longer. Counts are in the store,
//! so that they survive a restart and hold for several processes.
//!
//! An attempt is counted as failed before it is checked, and the count is taken back if it succeeds: many attempts at
//! the same moment can't pass before the first failure is written.

use crate::accounts::{Accounts, transaction};
use crate::email::Email;
use crate::error::{AccountsError, Result};
use crate::settings::ThrottleRule;
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::net::IpAddr;

/// An attempt that is counted as failed.
pub(crate) struct Attempt {
    account: String,
    address: String,
}

typed_row! {
    struct ThrottleRow {
        failures: u64,
        blocked_until: Micros,
        last_failure: Micros,
    }
}

impl Accounts {
    /// Counts an attempt as failed, unless the account or the address has to wait.
    pub(crate) async fn begin_attempt(&self, email: &Email, address: IpAddr) -> Result<Attempt> {
        let attempt = Attempt {
            account: self.account_throttle_key(email),
            address: self
                .sealing_keys
                .pseudonym(&format!("address {}", network_of(address))),
        };
        transaction!(self, ReadCommitted, tx => self.count_failure(&mut tx, &attempt))?;
        Ok(attempt)
    }

    pub(crate) fn account_throttle_key(&self, email: &Email) -> String {
        self.sealing_keys
            .pseudonym(&format!("account {}", email.as_str()))
    }

    async fn count_failure(&self, tx: &mut Transaction, attempt: &Attempt) -> Result<()> {
        let now = self.clock.now();
        // Accounts are locked before addresses everywhere, so that no two transactions wait for each other.
        let counters = [
            (&attempt.account, self.settings.account_throttle),
            (&attempt.address, self.settings.address_throttle),
        ];
        for (key, rule) in counters {
            count(tx, key, rule, now).await?;
        }
        Ok(())
    }

    /// Takes the attempt back: its password was right, and a second factor is missing.
    pub(crate) async fn take_back(&self, attempt: &Attempt) -> Result<()> {
        transaction!(self, ReadCommitted, tx => discount(&mut tx, [&attempt.account, &attempt.address]))
    }

    /// Forgets the account's failures, and takes the attempt back from the address.
    pub(crate) async fn forget_failures(
        &self,
        tx: &mut Transaction,
        attempt: &Attempt,
    ) -> Result<()> {
        forget_account(tx, &attempt.account).await?;
        discount(tx, [&attempt.address]).await
    }
}

/// Forgets the failures of one account.
pub(crate) async fn forget_account(tx: &mut Transaction, key: &str) -> Result<()> {
    let delete = Statement::new("DELETE FROM accounts_throttles WHERE key = $1");
    tx.execute(delete.bind(key)).await?;
    Ok(())
}

async fn count(tx: &mut Transaction, key: &str, rule: ThrottleRule, now: Micros) -> Result<()> {
    // The insert locks the row, which a select would not.
    let lock = Statement::new(
        "INSERT INTO accounts_throttles (key, failures, blocked_until, last_failure) VALUES ($1, 0, 0, $2) \
         ON CONFLICT (key) DO UPDATE SET failures = accounts_throttles.failures \
         RETURNING failures, blocked_until, last_failure",
    );
    let row: Option<ThrottleRow> = tx.fetch_optional(lock.bind(key).bind(now)).await?;
    let row = row.expect("the row was inserted or updated");
    if row.blocked_until > now {
        return Err(AccountsError::TooManyAttempts(row.blocked_until.since(now)));
    }
    let is_forgotten = now.since(row.last_failure) >= rule.forget_after;
    let failures = if is_forgotten {
        1
    } else {
        row.failures.saturating_add(1)
    };
    let update = Statement::new(
        "UPDATE accounts_throttles SET failures = $2, blocked_until = $3, last_failure = $4 WHERE key = $1",
    );
    let blocked_until = now.saturating_add(rule.pause(failures));
    let update = update
        .bind(key)
        .bind(failures)
        .bind(blocked_until)
        .bind(now);
    tx.execute(update).await?;
    Ok(())
}

async fn discount<const N: usize>(tx: &mut Transaction, keys: [&String; N]) -> Result<()> {
    for key in keys {
        let update = Statement::new(
            "UPDATE accounts_throttles SET failures = failures - 1, blocked_until = 0 \
             WHERE key = $1 AND failures > 0",
        );
        tx.execute(update.bind(key)).await?;
    }
    Ok(())
}

/// The address that failures are counted for. One customer of a provider has a whole /64 of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}
