//! Just enough of HTTP/1.1 to know when a redirect has come whole.

use anyhow::{bail, ensure};

/// No answer of a redirect server is longer.
const LONGEST: usize = 64 << 10;

/// How much of an answer is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// More must come.
    Partial,
    /// A whole redirect and nothing after it.
    Redirect,
}

/// Looks at what came so far.
///
/// # Errors
/// When it is not a redirect, or more came than was asked for.
pub(super) fn parse(bytes: &[u8]) -> anyhow::Result<Response> {
    ensure!(
        bytes.len() <= LONGEST,
        "an answer is longer than {LONGEST} bytes"
    );
    let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(Response::Partial);
    };
    let head = &bytes[..head + 4];
    if !head.starts_with(b"HTTP/1.1 302 ") {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        bail!("not a redirect: {}", String::from_utf8_lossy(line));
    }
    let whole = head.len() + content_length(head);
    ensure!(bytes.len() <= whole, "more than one answer to one request");
    Ok(if bytes.len() == whole {
        Response::Redirect
    } else {
        Response::Partial
    })
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
    fn a_redirect_is_whole_when_its_body_is() {
        let whole = b"HTTP/1.1 302 Found\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]).expect("fine"), Response::Partial);
        }
        assert_eq!(parse(whole).expect("fine"), Response::Redirect);
        let bare = b"HTTP/1.1 302 Found\r\nlocation: https://a.example/\r\n\r\n";
        assert_eq!(parse(bare).expect("fine"), Response::Redirect);
        assert!(parse(b"HTTP/1.1 302 Found\r\n\r\nHTTP/1.1").is_err());
        assert!(parse(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
    }
}
