//! One-time tokens: for the first admin, invitations and new passwords. Only hashes are stored.

use crate::error::{Refusal, Result};
use crate::ids::UserId;
use crate::secret::{hash_at_rest, random_token, secret_text};
use domain::Micros;
use sql_store::{Statement, Transaction};

secret_text! {
    /// A token that is accepted once, for a link.
    pub struct OneTimeToken
}

/// What a token is for. A token of one purpose is not accepted for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    FirstAdmin,
    SetPassword,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::FirstAdmin => "first_admin",
            Self::SetPassword => "set_password",
        }
    }
}

impl OneTimeToken {
    fn hash(&self, purpose: Purpose) -> String {
        hash_at_rest(purpose.as_str(), self.expose())
    }
}

/// Makes a token; earlier ones of this purpose and user are not accepted any more. Without a user the purpose has none.
pub(crate) async fn issue(
    tx: &mut Transaction,
    purpose: Purpose,
    user: Option<&UserId>,
    expires: Micros,
) -> Result<OneTimeToken> {
    delete(tx, purpose, user).await?;
    let token = OneTimeToken::new(random_token());
    let insert = Statement::insert(
        "accounts_one_time_tokens",
        [
            ("hash", token.hash(purpose).into()),
            ("purpose", purpose.as_str().into()),
            ("user_id", user.map_or("", UserId::as_str).into()),
            ("expires", expires.into()),
        ],
    );
    tx.execute(insert).await?;
    Ok(token)
}

/// Deletes the tokens of a purpose and user.
pub(crate) async fn delete(
    tx: &mut Transaction,
    purpose: Purpose,
    user: Option<&UserId>,
) -> Result<()> {
    let delete =
        Statement::new("DELETE FROM accounts_one_time_tokens WHERE purpose = $1 AND user_id = $2");
    let delete = delete
        .bind(purpose.as_str())
        .bind(user.map_or("", UserId::as_str));
    tx.execute(delete).await?;
    Ok(())
}

/// The user of a valid token, as a text; empty if its purpose has none. The token stays valid.
pub(crate) async fn user_of(
    tx: &mut Transaction,
    purpose: Purpose,
    token: &OneTimeToken,
    now: Micros,
) -> Result<String> {
    let select = Statement::new(
        "SELECT user_id FROM accounts_one_time_tokens WHERE hash = $1 AND expires > $2",
    );
    let user = tx
        .fetch_optional(select.bind(token.hash(purpose)).bind(now))
        .await?;
    Ok(user.ok_or(Refusal::InvalidOneTimeToken)?)
}

/// Uses a token up.
pub(crate) async fn consume(
    tx: &mut Transaction,
    purpose: Purpose,
    token: &OneTimeToken,
    now: Micros,
) -> Result<()> {
    let delete =
        Statement::new("DELETE FROM accounts_one_time_tokens WHERE hash = $1 AND expires > $2");
    match tx
        .execute(delete.bind(token.hash(purpose)).bind(now))
        .await?
    {
        0 => Err(Refusal::InvalidOneTimeToken.into()),
        _ => Ok(()),
    }
}
