//! Reads Apache's and nginx's combined log format, tolerantly. It never decides what a line means
//! to a link; that is the replay's business.

/// Longest line that is kept; the rest of a longer one is skipped and the line is unreadable.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One request as logged. Absent fields (`-`) are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The visitor's address, as written.
    pub address: String,
    /// The log's own hour, `2015-05-17T10`, in the log's own zone.
    pub hour: String,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query, as written.
    pub target: Vec<u8>,
    /// The referrer, unescaped.
    pub referrer: Option<Vec<u8>>,
    /// The user agent, unescaped.
    pub agent: Option<Vec<u8>>,
}

/// Parses one line, with or without its line end. `None`: not a combined log line.
///
/// A last quoted field that was cut off in the middle is taken as far as it goes.
#[must_use]
pub fn parse(line: &[u8]) -> Option<LogLine> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (address, rest) = split_at_byte(line, b' ')?;
    let address = std::str::from_utf8(address)
        .ok()
        .filter(|a| !a.is_empty())?;
    let (_, rest) = split_at_byte(rest, b'[')?;
    let (time, rest) = split_at_byte(rest, b']')?;
    let hour = hour_of(std::str::from_utf8(time).ok()?)?;
    let (request, rest) = quoted(rest)?;
    let mut words = request.split(|b| *b == b' ');
    let method = std::str::from_utf8(words.next()?).ok()?;
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let target = words.next().filter(|t| !t.is_empty())?.to_vec();
    let (referrer, rest) = quoted(rest).map_or((None, &[][..]), |(r, rest)| (present(r), rest));
    let agent = quoted(rest).and_then(|(agent, _)| present(agent));
    Some(LogLine {
        address: address.to_owned(),
        hour,
        method: method.to_owned(),
        target,
        referrer,
        agent,
    })
}

fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

fn present(field: Vec<u8>) -> Option<Vec<u8>> {
    (!field.is_empty() && field != b"-").then_some(field)
}

/// The next quoted field, unescaped, and what follows it.
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

/// Undoes one escape after its backslash; answers how many bytes it took.
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

/// `17/May/2015:10:05:03 +0000` to `2015-05-17T10`.
fn hour_of(time: &str) -> Option<String> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (day, rest) = time.split_once('/')?;
    let (month, rest) = rest.split_once('/')?;
    let mut parts = rest.split(':');
    let (year, hour) = (parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let (day, year): (u8, u16) = (day.parse().ok()?, year.parse().ok()?);
    let hour: u8 = hour.parse().ok()?;
    ((1..=31).contains(&day) && hour < 24)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 20 "#;

    #[test]
    fn a_whole_line() {
        let line = parse(format!("{HEAD}\"http://x/?q=\\\"y\\\"\" \"Mozilla \\x41\"\n").as_bytes());
        let line = line.expect("readable");
        assert_eq!(line.address, "83.149.9.216");
        assert_eq!(line.hour, "2015-05-17T10");
        assert_eq!(line.target, b"/a.png");
        assert_eq!(line.referrer.as_deref(), Some(&b"http://x/?q=\"y\""[..]));
        assert_eq!(line.agent.as_deref(), Some(&b"Mozilla A"[..]));
    }

    #[test]
    fn a_truncated_line_keeps_what_is_there() {
        let line = parse(format!("{HEAD}\"-\" \"Mozilla/5.0 (Win").as_bytes()).expect("readable");
        assert_eq!(line.referrer, None);
        assert_eq!(line.agent.as_deref(), Some(&b"Mozilla/5.0 (Win"[..]));
    }

    #[test]
    fn any_bytes_are_taken_and_nonsense_is_refused() {
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
