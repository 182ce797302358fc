//! The host of a URL in the form of DNS: international names in Punycode.

use crate::MacroUrlError;
use idna::AsciiDenyList;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Converts the host of `authority`, which may include a port, to the form of DNS.
///
/// # Errors
/// When the host is empty, follows a user name, is percent-encoded or is not a valid name.
pub(crate) fn to_ascii(authority: &str) -> Result<Cow<'_, str>, MacroUrlError> {
    // A '@' (credentials) and, in browsers, a '\' would also end the host.
    if authority.is_empty() || authority.starts_with(':') || authority.contains(['@', '\\']) {
        return Err(MacroUrlError::Host);
    }
    let (host, port) = match authority.rfind(':') {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    if host.contains('%') {
        // Only some clients decode it.
        let decoded = percent_decode_str(host).decode_utf8();
        let decoded = decoded.map_err(|_| invalid_name(host))?;
        return Err(MacroUrlError::EncodedHost(punycode(&decoded)?));
    }
    if host.is_ascii() {
        return Ok(Cow::Borrowed(authority));
    }
    Ok(Cow::Owned(punycode(host)? + port))
}

/// Converts a name to the form of DNS by the rules of browsers (UTS 46, non-transitional).
fn punycode(host: &str) -> Result<String, MacroUrlError> {
    idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL)
        .ok()
        .filter(|name| !name.is_empty())
        .map(Cow::into_owned)
        .ok_or_else(|| invalid_name(host))
}

fn invalid_name(host: &str) -> MacroUrlError {
    MacroUrlError::HostName(host.into())
}
