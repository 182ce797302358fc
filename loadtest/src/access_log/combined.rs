//! The combined log format of Apache and nginx.

use super::{LogLine, client, hour_of, method_and_target, present};

/// Parses a line; a quoted last field may be truncated.
pub(super) fn parse(line: &[u8]) -> Option<LogLine> {
    // An IPv6 address with a port also starts with a bracket, but at the start of the line.
    let at = line.windows(2).position(|pair| pair == b" [")?;
    let (columns, rest) = (&line[..at], &line[at + 2..]);
    let address = client(std::str::from_utf8(columns).ok()?)?;
    let (time, rest) = split_at_byte(rest, b']')?;
    let hour = hour_of(std::str::from_utf8(time).ok()?)?;
    let (request, rest) = quoted(rest)?;
    let (method, target) = method_and_target(&request)?;
    let (referrer, rest) = quoted(rest).map_or((None, &[][..]), |(r, rest)| (present(r), rest));
    let agent = quoted(rest).and_then(|(agent, _)| present(agent));
    Some(LogLine {
        address,
        hour,
        method,
        target,
        referrer,
        agent,
    })
}

fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

/// The next quoted field, unescaped, and the remaining text.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (_, text) = split_at_byte(text, b'"')?;
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => return Some((out, &text[at + 1..])),
            b'\\' => at += unescape(&text[at + 1..], &mut out),
            byte => out.push(byte),
        }
        at += 1;
    }
    Some((out, &[]))
}

/// Decodes one escape sequence after its backslash and returns its length in bytes.
fn unescape(text: &[u8], out: &mut Vec<u8>) -> usize {
    match text {
        [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            out.push(nibble(*high) << 4 | nibble(*low));
            3
        }
        [byte @ (b'"' | b'\\'), ..] => {
            out.push(*byte);
            1
        }
        _ => {
            out.push(b'\\');
            0
        }
    }
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    const HEAD: &str =
        r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 20 "#;

    #[test]
    fn complete_line_is_parsed() {
        let line = parse(format!("{HEAD}\"http://x/?q=\\\"y\\\"\" \"Mozilla \\x41\"\n").as_bytes());
        let line = line.expect("readable");
        assert_eq!(line.address.to_string(), "83.149.9.216");
        assert_eq!(line.hour, "2015-05-17T10");
        assert_eq!(line.target, b"/a.png");
        assert_eq!(line.referrer.as_deref(), Some(&b"http://x/?q=\"y\""[..]));
        assert_eq!(line.agent.as_deref(), Some(&b"Mozilla A"[..]));
    }

    #[test]
    fn truncated_line_keeps_its_complete_fields() {
        let line = parse(format!("{HEAD}\"-\" \"Mozilla/5.0 (Win").as_bytes()).expect("readable");
        assert_eq!(line.referrer, None);
        assert_eq!(line.agent.as_deref(), Some(&b"Mozilla/5.0 (Win"[..]));
    }

    #[test]
    fn arbitrary_bytes_are_kept_and_bad_lines_rejected() {
        let mut bytes = format!("{HEAD}\"-\" \"").into_bytes();
        bytes.extend([0xff, 0x00, b'"']);
        assert_eq!(parse(&bytes).expect("readable").agent, Some(vec![0xff, 0]));
        for bad in [
            &b""[..],
            b"hello",
            b"1.2.3.4 - - [x] \"GET / HTTP/1.1\"",
            b"\xff - - [",
        ] {
            assert_eq!(parse(bad), None);
        }
    }
}
