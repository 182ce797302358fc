//! Values that are accepted once, such as states of sign-ons.

use crate::error::Result;
use crate::secret::hash_at_rest;
use domain::Micros;
use sql_store::{Statement, Transaction};

/// Marks a value as used; false if it was used before. After `expires` the value must be refused for its age.
pub(crate) async fn use_once(
    tx: &mut Transaction,
    purpose: &str,
    value: &str,
    expires: Micros,
) -> Result<bool> {
    let hash = hash_at_rest(purpose, value);
    let columns = [("hash", hash.into()), ("expires", expires.into())];
    let insert = Statement::insert("accounts_used_values", columns);
    Ok(tx
        .execute(insert.push(" ON CONFLICT (hash) DO NOTHING"))
        .await?
        == 1)
}
