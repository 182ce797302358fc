//! The host of an address as DNS and browsers know it: international names in Punycode.

use crate::MacroUrlError;
use idna::AsciiDenyList;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// `authority`, which is a host and perhaps a port, with its host in the form of DNS.
///
/// # Errors
/// When the host is empty, comes after a user, is percent-encoded or is no name.
pub(crate) fn ascii(authority: &str) -> Result<Cow<'_, str>, MacroUrlError> {
    // A host is also ended early by '@' (credentials) and, for browsers, by '\'.
    if authority.is_empty() || authority.starts_with(':') || authority.contains(['@', '\\']) {
        return Err(MacroUrlError::Host);
    }
    let (host, port) = match authority.rfind(':') {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    if host.contains('%') {
        // Clients differ in whether they decode it.
        let decoded = percent_decode_str(host).decode_utf8();
        let decoded = decoded.map_err(|_| not_a_name(host))?;
        return Err(MacroUrlError::EncodedHost(punycode(&decoded)?));
    }
    if host.is_ascii() {
        return Ok(Cow::Borrowed(authority));
    }
    Ok(Cow::Owned(punycode(host)? + port))
}

/// A name in the form of DNS, by the rules of browsers (UTS 46, not transitional).
fn punycode(host: &str) -> Result<String, MacroUrlError> {
    idna::domain_to_ascii_cow(host.as_bytes(), AsciiDenyList::URL)
        .ok()
        .filter(|name| !name.is_empty())
        .map(Cow::into_owned)
        .ok_or_else(|| not_a_name(host))
}

fn not_a_name(host: &str) -> MacroUrlError {
    MacroUrlError::HostName(host.into())
}
