//! Finds pass-through parameters that a server could mistake for one of the URL's own parameters.

use percent_encoding::percent_decode;

/// Whether a server could read `parameter`, as sent, as a parameter in the query of `address`.
pub(crate) fn repeats_name(address: &[u8], parameter: &[u8]) -> bool {
    let query = address.iter().position(|byte| *byte == b'?');
    let query = query.map_or(&[][..], |at| &address[at + 1..]);
    names(parameter).any(|name| names(query).any(|own| names_collide(own, name)))
}

/// The encoded names in a query. Some servers split it at `;`, too.
fn names(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query
        .split(|byte| matches!(byte, b'&' | b';'))
        .filter(|parameter| !parameter.is_empty())
        .filter_map(|parameter| parameter.split(|byte| *byte == b'=').next())
}

/// Whether servers may read the encoded names `own` and `other` as the same name.
///
/// The most liberal parsers are PHP and ASP.NET. PHP drops leading spaces and bytes from a NUL on,
/// reads `.`, a space and an unclosed `[` as `_`, and stores `name[…]` under `name`. ASP.NET ignores
/// case.
fn names_collide(own: &[u8], other: &[u8]) -> bool {
    let mut own = decoded(own).take_while(|byte| !matches!(byte, 0 | b'['));
    let mut other = decoded(other);
    loop {
        match (own.next(), other.next()) {
            (None, None | Some(0 | b'[')) => return true,
            (Some(a), Some(b)) if normalized(a) == normalized(b) => {}
            _ => return false,
        }
    }
}

fn decoded(name: &[u8]) -> impl Iterator<Item = u8> {
    percent_decode(name).skip_while(|byte| matches!(byte, b' ' | b'+'))
}

const fn normalized(byte: u8) -> u8 {
    match byte {
        b' ' | b'+' | b'.' | b'[' => b'_',
        other => other.to_ascii_lowercase(),
    }
}
