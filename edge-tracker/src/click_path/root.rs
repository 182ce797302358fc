//! The response of the bare domain: visitors try it, and load balancers probe it.

use crate::settings::HttpSettings;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The longest page.
const MAX_PAGE_BYTES: u64 = 256 << 10;

/// The response to `/`.
#[derive(Debug, Clone, Default)]
pub enum Root {
    /// `200 ok`.
    #[default]
    Healthy,
    /// A temporary redirect to another site.
    Redirect(HeaderValue),
    /// A page of HTML.
    Page(Bytes),
}

/// A page that can't be shown.
#[derive(Debug, Error)]
#[error("[http] root_page = {path:?}: {cause}")]
pub struct RootPageError {
    path: PathBuf,
    cause: io::Error,
}

impl Root {
    /// Reads the configured response.
    ///
    /// # Errors
    /// When the page can't be read or is too long.
    pub fn read(settings: &HttpSettings) -> Result<Self, RootPageError> {
        if let Some(target) = &settings.root_redirect {
            return Ok(Self::Redirect(target.clone().into()));
        }
        let Some(path) = &settings.root_page else {
            return Ok(Self::Healthy);
        };
        read_page(path).map_err(|cause| RootPageError {
            path: path.clone(),
            cause,
        })
    }

    /// Returns status and body, and adds their headers to `headers`.
    pub(super) fn respond(self, headers: &mut HeaderMap) -> (StatusCode, Full<Bytes>) {
        let typed = |text| (header::CONTENT_TYPE, HeaderValue::from_static(text));
        let ((name, value), status, body) = match self {
            Self::Healthy => (
                typed("text/plain"),
                StatusCode::OK,
                Bytes::from_static(b"ok\n"),
            ),
            Self::Redirect(target) => ((header::LOCATION, target), StatusCode::FOUND, Bytes::new()),
            Self::Page(page) => (typed("text/html; charset=utf-8"), StatusCode::OK, page),
        };
        headers.insert(name, value);
        (status, Full::new(body))
    }
}

fn read_page(path: &Path) -> io::Result<Root> {
    let mut page = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_PAGE_BYTES + 1).read_to_end(&mut page)?;
    match page.len() as u64 > MAX_PAGE_BYTES {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(Root::Page(page.into())),
    }
}

/// Whether a visitor or a load balancer requests the bare domain. A query that names an advertiser is a postback.
pub(super) fn is_requested<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    uri.path() == "/"
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && !uri.query().is_some_and(postback::names_advertiser)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_domain_is_distinguished_from_postbacks() {
        for (method, target, expected) in [
            ("GET", "/", true),
            ("HEAD", "/", true),
            ("GET", "http://go.example/", true),
            ("GET", "/?", true),
            ("GET", "/?fbclid=1&utm_source=x", true),
            ("POST", "/", false),
            ("GET", "/?nid=1", false),
            ("GET", "/?a=1&amp;NID=1", false),
            ("GET", "/?adv=acme", false),
            ("GET", "//", false),
            ("OPTIONS", "*", false),
        ] {
            let request = Request::builder().method(method).uri(target);
            let request = request.body(()).expect("request");
            assert_eq!(is_requested(&request), expected, "{method} {target}");
        }
    }
}
