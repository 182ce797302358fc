//! Which passed-on parameters a reader of the address could take for one of its own.

use percent_encoding::percent_decode;

/// Whether some reader would take `parameter`, as sent, for one that the query of `address` has.
pub(crate) fn repeats_name(address: &[u8], parameter: &[u8]) -> bool {
    let query = address.iter().position(|byte| *byte == b'?');
    let query = query.map_or(&[][..], |at| &address[at + 1..]);
    names(parameter).any(|name| names(query).any(|own| is_read_alike(own, name)))
}

/// The encoded names in a query. Some readers split it at `;`, too.
fn names(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query
        .split(|byte| matches!(byte, b'&' | b';'))
        .filter(|parameter| !parameter.is_empty())
        .filter_map(|parameter| parameter.split(|byte| *byte == b'=').next())
}

/// Whether readers may take the encoded names `own` and `other` for the same one.
///
/// The most liberal readers are PHP, which drops leading spaces and what follows a NUL, takes `.`, a
/// space and an unclosed `[` for `_`, and keeps `name[…]` under `name`; and ASP.NET, to which capitals
/// are the same as small letters.
fn is_read_alike(own: &[u8], other: &[u8]) -> bool {
    let mut own = decoded(own).take_while(|byte| !matches!(byte, 0 | b'['));
    let mut other = decoded(other);
    loop {
        match (own.next(), other.next()) {
            (None, None | Some(0 | b'[')) => return true,
            (Some(a), Some(b)) if folded(a) == folded(b) => {}
            _ => return false,
        }
    }
}

fn decoded(name: &[u8]) -> impl Iterator<Item = u8> {
    percent_decode(name).skip_while(|byte| matches!(byte, b' ' | b'+'))
}

const fn folded(byte: u8) -> u8 {
    match byte {
        b' ' | b'+' | b'.' | b'[' => b'_',
        other => other.to_ascii_lowercase(),
    }
}
