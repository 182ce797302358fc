//! A minimal HTTP/1.1 parser that recognises complete responses and their status.

use anyhow::{bail, ensure};

/// Maximum length of a response.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// The state of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// More bytes must follow.
    Partial,
    /// A complete response without further bytes.
    Whole,
}

/// Parses the bytes received so far.
///
/// # Errors
/// If the status differs from `expected`, or there are more bytes than one response.
pub(super) fn parse(bytes: &[u8], expected: u16) -> anyhow::Result<Response> {
    ensure!(
        bytes.len() <= MAX_RESPONSE_BYTES,
        "a response is longer than {MAX_RESPONSE_BYTES} bytes"
    );
    let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(Response::Partial);
    };
    let head = &bytes[..head + 4];
    if status(head) != Some(expected) {
        bail!(
            "expected status {expected}: {}",
            String::from_utf8_lossy(bytes)
        );
    }
    let whole = head.len() + content_length(head);
    ensure!(
        bytes.len() <= whole,
        "more than one response to one request"
    );
    Ok(if bytes.len() == whole {
        Response::Whole
    } else {
        Response::Partial
    })
}

/// The three digits after the version.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .filter_map(|line| line.split_at_checked(NAME.len()))
        .find(|(name, _)| name.eq_ignore_ascii_case(NAME))
        .and_then(|(_, value)| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_complete_with_its_body() {
        let whole = b"HTTP/1.1 302 Found\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
        for length in 0..whole.len() {
            assert_eq!(
                parse(&whole[..length], 302).expect("valid"),
                Response::Partial
            );
        }
        assert_eq!(parse(whole, 302).expect("valid"), Response::Whole);
        let bare = b"HTTP/1.1 302 Found\r\nlocation: https://a.example/\r\n\r\n";
        assert_eq!(parse(bare, 302).expect("valid"), Response::Whole);
        assert!(parse(b"HTTP/1.1 302 Found\r\n\r\nHTTP/1.1", 302).is_err());
        assert!(parse(b"HTTP/1.1 404 Not Found\r\n\r\n", 302).is_err());
    }
}
