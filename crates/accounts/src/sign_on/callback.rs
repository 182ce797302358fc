//! The provider's redirect back to this program.

use crate::error::{Refusal, Result};
use crate::secret::secret_text;
use url::form_urlencoded::parse;

const MAX_QUERY_BYTES: usize = 8 << 10;

secret_text! {
    /// The code of a sign-on.
    pub(super) struct AuthorizationCode
}

/// The parameters of the redirect. `Debug` does not contain the code.
#[derive(Debug, Clone, Default)]
pub struct Callback {
    pub(super) state: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) code: Option<AuthorizationCode>,
    pub(super) has_error: bool,
}

impl Callback {
    /// Parses the query of the redirect, without `?`. Unknown parameters are ignored.
    ///
    /// # Errors
    /// When it is too long, or a parameter is there twice: two readers could choose different ones.
    pub fn parse(query: &str) -> Result<Self> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(Refusal::InvalidSignOn.into());
        }
        let mut callback = Self::default();
        for (name, value) in parse(query.as_bytes()) {
            let value = value.into_owned();
            let is_repeated = match &*name {
                "state" => callback.state.replace(value).is_some(),
                "iss" => callback.issuer.replace(value).is_some(),
                "code" => callback
                    .code
                    .replace(AuthorizationCode::new(value))
                    .is_some(),
                "error" => std::mem::replace(&mut callback.has_error, true),
                _ => false,
            };
            if is_repeated {
                return Err(Refusal::InvalidSignOn.into());
            }
        }
        Ok(callback)
    }
}
