//! Failed attempts per account and per address: after some, each next one has to wait longer. Counts are in the store,
//! so that they survive a restart and hold for several processes.
//!
//! An attempt is counted as failed before it is checked, and the count is taken back if it succeeds: many attempts at
//! the same moment can't pass before the first failure is written.
//!
//! Anybody can fail for an account whose e-mail is known. So an address from which the account signed in before has a
//! count of its own for the account: failures from elsewhere don't delay its user.

use crate::accounts::{Accounts, transaction};
use crate::email::Email;
use crate::error::{AccountsError, Result};
use crate::ids::SessionId;
use crate::settings::ThrottleRule;
use domain::Micros;
use sql_store::{Statement, Transaction, typed_row};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// An attempt that is counted as failed.
pub(crate) struct Attempt {
    /// Of the account from this address, if it is known; else of the account.
    account: String,
    /// Of the address's networks, the smallest first.
    counters: Vec<Counter>,
    /// The pseudonym of account and address, of a sign-in.
    known_address: Option<String>,
}

struct Counter {
    key: String,
    rule: ThrottleRule,
}

typed_row! {
    struct ThrottleRow {
        failures: u64,
        blocked_until: Micros,
        last_failure: Micros,
    }
}

/// The outcome of a count: how long the client has to wait before its attempt is checked.
type Wait = Option<Duration>;

impl Accounts {
    /// Counts a sign-in as failed, unless the account or the address has to wait.
    pub(crate) async fn begin_attempt(&self, email: &Email, address: IpAddr) -> Result<Attempt> {
        let name = |text: String| self.sealing_keys.pseudonym(&text);
        let networks = networks_of(address);
        let pair = format!("{} {}", email.as_str(), networks[0].text);
        let known_address = name(format!("known {pair}"));
        let account = if self.is_known(&known_address).await? {
            name(format!("pair {pair}"))
        } else {
            self.account_throttle_key(email)
        };
        let attempt = Attempt {
            account,
            counters: self.counters(networks),
            known_address: Some(known_address),
        };
        self.count(attempt).await
    }

    /// Counts a check of a session's own credentials as failed, unless the session or the address has to wait. A session
    /// has a count of its own: that of the account is also raised by others.
    pub(crate) async fn begin_own_attempt(
        &self,
        session: &SessionId,
        address: IpAddr,
    ) -> Result<Attempt> {
        self.count(Attempt {
            account: self.sealing_keys.pseudonym(&format!("session {session}")),
            counters: self.counters(networks_of(address)),
            known_address: None,
        })
        .await
    }

    fn counters(&self, networks: Vec<Network>) -> Vec<Counter> {
        let counter = |network: Network| Counter {
            key: self
                .sealing_keys
                .pseudonym(&format!("address {}", network.text)),
            rule: self.settings.address_throttle.times(network.share),
        };
        networks.into_iter().map(counter).collect()
    }

    async fn count(&self, attempt: Attempt) -> Result<Attempt> {
        let wait = transaction!(self, ReadCommitted, tx => self.count_failure(&mut tx, &attempt))?;
        match wait {
            None => Ok(attempt),
            Some(wait) => Err(AccountsError::TooManyAttempts(wait)),
        }
    }

    pub(crate) fn account_throttle_key(&self, email: &Email) -> String {
        self.sealing_keys
            .pseudonym(&format!("account {}", email.as_str()))
    }

    async fn is_known(&self, known_address: &str) -> Result<bool> {
        let mut tx = self.database.begin().await?;
        let select = Statement::new(
            "SELECT key FROM accounts_known_addresses WHERE key = $1 AND expires > $2",
        );
        let select = select.bind(known_address).bind(self.clock.now());
        Ok(tx.exists(select).await?)
    }

    /// Counts for the account and the networks. An attempt that the account's pause blocks counts for the networks; one
    /// that theirs block counts for none.
    async fn count_failure(&self, tx: &mut Transaction, attempt: &Attempt) -> Result<Wait> {
        let now = self.clock.now();
        // Accounts are locked before addresses everywhere, so that no two transactions wait for each other.
        let account = lock(tx, &attempt.account, now).await?;
        let mut rows = Vec::new();
        for counter in &attempt.counters {
            rows.push(lock(tx, &counter.key, now).await?);
        }
        let blocked = rows.iter().filter_map(|row| row.wait(now)).max();
        if blocked.is_some() {
            return Ok(blocked);
        }
        for (counter, row) in attempt.counters.iter().zip(&rows) {
            add(tx, &counter.key, row, counter.rule, now).await?;
        }
        let blocked = account.wait(now);
        if blocked.is_none() {
            let rule = self.settings.account_throttle;
            add(tx, &attempt.account, &account, rule, now).await?;
        }
        Ok(blocked)
    }

    /// Takes the attempt back: its password was right, and a second factor is missing.
    pub(crate) async fn take_back(&self, attempt: &Attempt) -> Result<()> {
        transaction!(self, ReadCommitted, tx => take_back(&mut tx, attempt))
    }

    /// Forgets the account's failures, takes the attempt back from the address, and remembers the address.
    pub(crate) async fn forget_failures(
        &self,
        tx: &mut Transaction,
        attempt: &Attempt,
    ) -> Result<()> {
        forget_account(tx, &attempt.account).await?;
        discount_address(tx, attempt).await?;
        let expires = self
            .clock
            .now()
            .saturating_add(self.settings.known_address_lifetime);
        if let Some(key) = &attempt.known_address {
            let columns = [("key", key.into()), ("expires", expires.into())];
            let insert = Statement::insert("accounts_known_addresses", columns);
            let insert = insert.push(" ON CONFLICT (key) DO UPDATE SET expires = excluded.expires");
            tx.execute(insert).await?;
        }
        Ok(())
    }
}

impl ThrottleRow {
    fn wait(&self, now: Micros) -> Wait {
        (self.blocked_until > now).then(|| self.blocked_until.since(now))
    }
}

/// Forgets the failures of one account.
pub(crate) async fn forget_account(tx: &mut Transaction, key: &str) -> Result<()> {
    let delete = Statement::new("DELETE FROM accounts_throttles WHERE key = $1");
    tx.execute(delete.bind(key)).await?;
    Ok(())
}

/// Reads and locks a count. The insert locks the row, which a select would not.
async fn lock(tx: &mut Transaction, key: &str, now: Micros) -> Result<ThrottleRow> {
    let lock = Statement::new(
        "INSERT INTO accounts_throttles (key, failures, blocked_until, last_failure) VALUES ($1, 0, 0, $2) \
         ON CONFLICT (key) DO UPDATE SET failures = accounts_throttles.failures \
         RETURNING failures, blocked_until, last_failure",
    );
    let row: Option<ThrottleRow> = tx.fetch_optional(lock.bind(key).bind(now)).await?;
    Ok(row.expect("the row was inserted or updated"))
}

async fn add(
    tx: &mut Transaction,
    key: &str,
    row: &ThrottleRow,
    rule: ThrottleRule,
    now: Micros,
) -> Result<()> {
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

async fn take_back(tx: &mut Transaction, attempt: &Attempt) -> Result<()> {
    discount(tx, &attempt.account).await?;
    discount_address(tx, attempt).await
}

async fn discount_address(tx: &mut Transaction, attempt: &Attempt) -> Result<()> {
    for counter in &attempt.counters {
        discount(tx, &counter.key).await?;
    }
    Ok(())
}

async fn discount(tx: &mut Transaction, key: &str) -> Result<()> {
    let update = Statement::new(
        "UPDATE accounts_throttles SET failures = failures - 1, blocked_until = 0 WHERE key = $1 AND failures > 0",
    );
    tx.execute(update.bind(key)).await?;
    Ok(())
}

/// A network that failures are counted for.
struct Network {
    text: String,
    /// How many times the failures of an address it may have.
    share: u32,
}

/// The networks of an address, the smallest first. One customer of a provider has a whole /64 of IPv6, many have a /56
/// or a /48.
fn networks_of(address: IpAddr) -> Vec<Network> {
    let v6 = match address.to_canonical() {
        IpAddr::V6(v6) => v6,
        v4 @ IpAddr::V4(_) => {
            let text = v4.to_string();
            return vec![Network { text, share: 1 }];
        }
    };
    let network = |(bits, share): (u32, u32)| {
        let first = v6.to_bits() >> (128 - bits) << (128 - bits);
        let text = format!("{}/{bits}", Ipv6Addr::from_bits(first));
        Network { text, share }
    };
    [(64, 1), (56, 4), (48, 16)].map(network).into()
}
