//! A tolerant reader of access logs of Apache and nginx: the combined format and nginx's JSON. The mapping to links
//! is the replay's task.

mod combined;
mod json;

use std::net::{IpAddr, SocketAddr};

/// Maximum length of a line; longer lines are skipped and count as unreadable.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A logged request. Absent fields (`-`) are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The client's address.
    pub address: IpAddr,
    /// The hour in the log's own time zone, `2015-05-17T10`.
    pub hour: String,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query, as logged.
    pub target: Vec<u8>,
    /// The referrer, unescaped.
    pub referrer: Option<Vec<u8>>,
    /// The user agent, unescaped.
    pub agent: Option<Vec<u8>>,
}

/// Parses a line, with or without its line end. `None` if it has neither format or no client address.
#[must_use]
pub fn parse(line: &[u8]) -> Option<LogLine> {
    let line = line.trim_ascii();
    match line.first()? {
        b'{' => json::parse(line),
        _ => combined::parse(line),
    }
}

/// The client's address from the text before the time or from a field: `client`, `client, proxy, …` as proxies
/// write it, `vhost:443 client` as in Apache's `vhost_combined`.
fn client(text: &str) -> Option<IpAddr> {
    let mut words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let first = words.next()?;
    if let Ok(address) = first.parse() {
        return Some(address);
    }
    let (_, port) = first.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let second = words.next().and_then(|word| word.parse().ok());
    // Without another address after it, the port is the client's.
    second.or_else(|| first.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

fn present(field: Vec<u8>) -> Option<Vec<u8>> {
    (!field.is_empty() && field != b"-").then_some(field)
}

/// Splits a request line into method and target.
fn method_and_target(request: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut words = request.split(|b| *b == b' ');
    let method = std::str::from_utf8(words.next()?).ok()?;
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let target = words.next().filter(|target| !target.is_empty())?;
    Some((method.to_owned(), target.to_vec()))
}

/// Converts `17/May/2015:10:05:03 +0000` to `2015-05-17T10`.
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

    const REST: &str = r#"[17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 20 "-" "Mozilla""#;

    #[test]
    fn first_columns_give_the_client_address() {
        for (columns, address) in [
            ("83.149.9.216 - - ", Some("83.149.9.216")),
            ("2001:db8::1 - bob ", Some("2001:db8::1")),
            ("83.149.9.216, 10.0.0.7 - - ", Some("83.149.9.216")),
            ("2001:db8::1, 10.0.0.7, 10.0.0.8 - - ", Some("2001:db8::1")),
            ("83.149.9.216,10.0.0.7 - - ", Some("83.149.9.216")),
            ("shop.example:443 83.149.9.216 - - ", Some("83.149.9.216")),
            ("10.0.0.7:443 83.149.9.216 - - ", Some("83.149.9.216")),
            ("[2001:db8::7]:443 2001:db8::1 - - ", Some("2001:db8::1")),
            (
                "shop.example:80 83.149.9.216, 10.0.0.7 - - ",
                Some("83.149.9.216"),
            ),
            ("83.149.9.216:50312 - - ", Some("83.149.9.216")),
            ("[2001:db8::1]:50312 - - ", Some("2001:db8::1")),
            ("crawl-66-249-66-1.googlebot.com - - ", None),
            ("shop.example 83.149.9.216 - - ", None),
            ("shop.example:443 - - ", None),
            ("unknown, 10.0.0.7 - - ", None),
            ("- - - ", None),
            ("", None),
        ] {
            let line = parse(format!("{columns}{REST}\r\n").as_bytes());
            let found = line.map(|line| line.address.to_string());
            assert_eq!(found.as_deref(), address, "{columns}");
        }
    }
}
