//! E-mail addresses in one normalised form.

use crate::error::AccountsError;
use std::fmt;

/// RFC 5321 and its errata: a path of 256 octets with its angle brackets.
const MAX_EMAIL_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;

/// A normalised e-mail address: lower case, its domain in ASCII. `Debug` does not contain it.
///
/// The local part must be ASCII: letters of other alphabets that look the same would make two addresses of one. Its case
/// is ignored, as all known providers do; dots and `+` are kept, because only some ignore them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(…)")
    }
}

impl Email {
    /// Parses and normalises an address.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> Result<Self, AccountsError> {
        normalise(text.trim()).map(Self).ok_or_else(|| {
            let message = "not an e-mail address: write local@domain, the local part in ASCII, at most 254 bytes";
            AccountsError::invalid("/email", message)
        })
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An address from the store.
    pub(crate) const fn from_stored(text: String) -> Self {
        Self(text)
    }
}

fn normalise(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    if text.len() > MAX_EMAIL_BYTES || local.len() > MAX_LOCAL_BYTES || !is_dot_atom(local) {
        return None;
    }
    let domain = idna::domain_to_ascii_strict(domain).ok()?;
    let normalised = format!("{}@{domain}", local.to_ascii_lowercase());
    let is_domain = domain.contains('.') && is_dot_atom(&domain) && !domain.ends_with('.');
    (is_domain && normalised.len() <= MAX_EMAIL_BYTES).then_some(normalised)
}

/// RFC 5322, section 3.2.3.
fn is_dot_atom(text: &str) -> bool {
    let is_atom_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    text.split('.')
        .all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_byte))
}
