//! A request and its encoding as bytes. The content is the caller's responsibility.

use super::random::Random;
use std::fmt::Write as _;

/// A request before encoding.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    /// The encoded path.
    pub(super) path: String,
    /// The encoded query without its question mark; empty if there is none.
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether the body uses chunked transfer encoding.
    pub(super) chunked: bool,
}

impl Request {
    pub(super) fn header(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push((name.into(), value.into()));
    }

    /// Replaces all headers of that name.
    pub(super) fn replace(&mut self, name: &str, value: impl Into<String>) {
        self.headers.retain(|(known, _)| known != name);
        self.header(name, value);
    }

    pub(super) fn target(&self) -> String {
        match self.query.as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        }
    }

    /// Encodes the request as HTTP/1.1.
    pub(super) fn bytes(&self, random: &mut Random) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: edge\r\n",
            self.method,
            self.target()
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.chunked {
            head.push_str("Transfer-Encoding: chunked\r\n\r\n");
            return [head.into_bytes(), chunks(&self.body, random)].concat();
        }
        if !self.body.is_empty() || self.method == "POST" {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

fn chunks(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.within(1, 16 << 10).min(rest.len()));
        let extension = if random.once_in(4) { ";x=\"y\"" } else { "" };
        bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
        rest = after;
    }
    let trailer = if random.once_in(4) {
        "X-Trailer: z\r\n"
    } else {
        ""
    };
    bytes.extend(format!("0\r\n{trailer}\r\n").bytes());
    bytes
}

/// Escapes `text` for a query, a form or a path segment; some bytes are escaped without need.
pub(super) fn escaped(text: &str, random: &mut Random) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match byte {
            b' ' if random.once_in(2) => out.push('+'),
            _ if plain && !random.once_in(40) => out.push(char::from(byte)),
            _ if random.once_in(2) => drop(write!(out, "%{byte:02x}")),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// `text` as a JSON string.
pub(super) fn json_string(text: &str, random: &mut Random) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => drop(write!(out, "\\{character}")),
            _ if character.is_control() || random.once_in(60) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}
