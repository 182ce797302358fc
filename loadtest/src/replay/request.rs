//! Converts a log line to a request for a link or pixel. Nothing is sent from here.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{HOST, HeaderValue, REFERER, USER_AGENT};
use hyper::{Method, Request};

use super::RequestNumber;
use crate::access_log::LogLine;

/// File extensions of images in a page.
const IMAGE_EXTENSIONS: [&str; 9] = [
    "png", "jpg", "jpeg", "gif", "ico", "svg", "webp", "bmp", "avif",
];

/// A request with its scheduled time.
#[derive(Debug)]
pub(super) struct PlannedRequest {
    pub(super) number: RequestNumber,
    /// Scheduled send time; `None`: as soon as a connection is free.
    pub(super) due: Option<Instant>,
    pub(super) line: LogLine,
    pub(super) slug: String,
}

impl PlannedRequest {
    /// The request for `authority`.
    pub(super) fn to_request(&self, run: &str, authority: &str) -> Option<Request<Empty<Bytes>>> {
        let kind = if is_image(&self.line.target) {
            ("i", ".gif")
        } else {
            ("c", "")
        };
        let id = external_id(run, self.number);
        let path = format!(
            "/{}/{}{}?source={run}&external_id={id}&sub1={}",
            kind.0, self.slug, kind.1, self.line.hour
        );
        // A link is followed with GET, even if the page was requested with another method.
        let method = if self.line.method == "HEAD" {
            Method::HEAD
        } else {
            Method::GET
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority);
        request = request.header("x-forwarded-for", self.line.address.to_string());
        if let Some(agent) = &self.line.agent {
            request = request.header(USER_AGENT, header(agent)?);
        }
        if let Some(referrer) = &self.line.referrer {
            request = request.header(REFERER, header(referrer)?);
        }
        request.body(Empty::new()).ok()
    }
}

/// The bytes as a header value, without control characters.
fn header(bytes: &[u8]) -> Option<HeaderValue> {
    let allowed: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|b| *b >= 0x20 && *b != 0x7f)
        .collect();
    HeaderValue::from_bytes(&allowed).ok()
}

pub(super) fn external_id(run: &str, number: RequestNumber) -> String {
    format!("{run}-{number}")
}

pub(super) fn is_run_name(run: &str) -> bool {
    (1..=40).contains(&run.len())
        && run
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// The `host:port` of `http://host:port`.
pub(super) fn authority(target: &str) -> anyhow::Result<String> {
    let rest = target
        .strip_prefix("http://")
        .with_context(|| format!("{target:?} is not an address like http://127.0.0.1:8080"))?;
    let authority = rest.trim_end_matches('/');
    ensure!(
        !authority.is_empty() && !authority.contains('/'),
        "{target:?} must have no path"
    );
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    })
}

pub(super) fn path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or(target)
}

fn is_image(target: &[u8]) -> bool {
    let path = path_of(target);
    let Some(dot) = path.iter().rposition(|b| *b == b'.') else {
        return false;
    };
    IMAGE_EXTENSIONS
        .iter()
        .any(|image| path[dot + 1..].eq_ignore_ascii_case(image.as_bytes()))
}

/// FNV-1a: the same on every machine and in every release, which the standard library's hashers don't guarantee.
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_impressions() {
        for yes in ["/a.png", "/b/c.GIF?x=1", "/favicon.ico"] {
            assert!(is_image(yes.as_bytes()), "{yes}");
        }
        for no in ["/", "/a.html", "/png", "/x?f=a.png"] {
            assert!(!is_image(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn headers_contain_no_control_bytes() {
        assert_eq!(header(b"a\r\nb\xff").expect("valid").as_bytes(), b"ab\xff");
    }

    #[test]
    fn authority_accepts_only_plain_http_urls() {
        assert_eq!(authority("http://h:8080/").expect("valid"), "h:8080");
        assert_eq!(authority("http://h").expect("valid"), "h:80");
        assert!(authority("h:80").is_err() && authority("http://h/x").is_err());
    }
}
