//! Deletes what has expired.

use crate::accounts::Accounts;
use crate::error::Result;
use crate::keys;
use sql_store::Statement;

impl Accounts {
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
            keys::delete_dead(dead_since),
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
