//! HTTP requests of functions: to hosts that the manifest allows, and to the internal service (`tracker.internal`),
//! which runs in this process and uses no socket.

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use std::pin::Pin;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Length of a request's body to the internal service, in bytes.
const MAX_INTERNAL_REQUEST_BYTES: usize = 64 << 10;
/// Requests that a function may send during one call.
const MAX_REQUESTS_PER_CALL: u32 = 32;

/// The response of an internal service, when it is ready.
pub type InternalResponse = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// The service that functions reach at `http://tracker.internal/`.
pub trait InternalService: Send + Sync + 'static {
    /// The service's host name.
    fn host(&self) -> &str;

    /// Handles a request with its complete body.
    fn respond(&self, request: Request<Bytes>) -> InternalResponse;

    /// Starts work that was deferred so that several requests share it; must not block. Called when a thread of
    /// functions becomes idle, and every two milliseconds during calls and shortly after them.
    fn flush_deferred(&self);
}

/// An entry of `allowed_outbound_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AllowedHost {
    /// `None` allows every scheme.
    scheme: Option<String>,
    host: HostPattern,
    port: PortPattern,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    Exact(String),
    /// Subdomains of a domain, stored with its leading dot.
    SubdomainOf(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortPattern {
    Any,
    /// 443 of `https`, 80 of all others.
    DefaultOfScheme,
    Exact(u16),
}

impl AllowedHost {
    /// Parses `scheme://host[:port]`, where `*` stands for any scheme, host or port, and `*.example.com` for every
    /// subdomain.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let closing_bracket = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest[closing_bracket..].rfind(':') {
            Some(colon) => (
                &rest[..closing_bracket + colon],
                Some(&rest[closing_bracket + colon + 1..]),
            ),
            None => (rest, None),
        };
        if host.is_empty() || host.contains(['/', '@', '?']) {
            return None;
        }
        let port = match port {
            None => PortPattern::DefaultOfScheme,
            Some("*") => PortPattern::Any,
            Some(number) => PortPattern::Exact(number.parse().ok()?),
        };
        let host = match host.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(domain) if domain.starts_with('.') => {
                HostPattern::SubdomainOf(domain.to_ascii_lowercase())
            }
            Some(_) => return None,
            None => HostPattern::Exact(host.to_ascii_lowercase()),
        };
        Some(Self {
            scheme: (scheme != "*").then(|| scheme.to_ascii_lowercase()),
            host,
            port,
        })
    }

    fn matches(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return false;
        };
        let host = host.to_ascii_lowercase();
        let default_port = if uri.scheme() == Some(&Scheme::HTTPS) {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(default_port);
        self.scheme.as_deref().is_none_or(|it| it == scheme)
            && match &self.host {
                HostPattern::Any => true,
                HostPattern::Exact(exact) => *exact == host,
                HostPattern::SubdomainOf(domain) => host.ends_with(domain),
            }
            && match self.port {
                PortPattern::Any => true,
                PortPattern::DefaultOfScheme => port == default_port,
                PortPattern::Exact(exact) => exact == port,
            }
    }
}

/// Sends the HTTP requests of one instance.
pub(crate) struct OutboundRequests {
    pub(crate) allowed_hosts: Arc<[AllowedHost]>,
    pub(crate) internal: Arc<dyn InternalService>,
    /// Requests sent during the present call.
    pub(crate) sent: u32,
}

type BodyTransfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
type ResponseFuture =
    Box<dyn Future<Output = Result<(Response<WasiBody>, BodyTransfer), Error>> + Send>;

impl WasiHttpHooks for OutboundRequests {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _io: BodyTransfer,
    ) -> ResponseFuture {
        let uri = request.uri();
        if !self.allowed_hosts.iter().any(|it| it.matches(uri)) {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        self.sent += 1;
        if self.sent > MAX_REQUESTS_PER_CALL {
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        }
        // Compared without case, as in `matches`: otherwise a request to `Tracker.Internal`, with its token, would go to
        // the host that DNS returns.
        let host = uri.host().unwrap_or_default().trim_end_matches('.');
        if host.eq_ignore_ascii_case(self.internal.host()) {
            return Box::new(send_internally(self.internal.clone(), request));
        }
        Box::new(async move {
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(io) as BodyTransfer,
            ))
        })
    }
}

async fn send_internally(
    internal: Arc<dyn InternalService>,
    request: Request<WasiBody>,
) -> Result<(Response<WasiBody>, BodyTransfer), Error> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_INTERNAL_REQUEST_BYTES)
        .collect()
        .await;
    let body = body.map_err(|_| Error::HttpRequestBodySize(None))?;
    let request = Request::from_parts(parts, body.to_bytes());
    let response = internal.respond(request).await;
    let response = response.map(|bytes| {
        let body = Full::new(bytes).map_err(|never| match never {});
        BodyExt::boxed_unsync(body)
    });
    Ok((response, Box::new(async { Ok(()) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(allowed: &str, uri: &str) -> bool {
        let allowed = AllowedHost::parse(allowed).expect("valid host");
        allowed.matches(&uri.parse().expect("valid URI"))
    }

    #[test]
    fn allowed_hosts_match_scheme_host_and_port() {
        for (allowed, uri, expected) in [
            (
                "http://tracker.internal",
                "http://tracker.internal/v1",
                true,
            ),
            (
                "http://tracker.internal",
                "http://tracker.internal:80/v1",
                true,
            ),
            (
                "http://tracker.internal",
                "https://tracker.internal/",
                false,
            ),
            (
                "http://tracker.internal",
                "http://tracker.internal:81/",
                false,
            ),
            (
                "http://tracker.internal",
                "http://tracker.internal.evil.example/",
                false,
            ),
            ("https://*.example.com", "https://a.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://evilexample.com/", false),
            ("*://example.com:*", "http://EXAMPLE.com:8080/", true),
            ("http://[::1]:8080", "http://[::1]:8080/", true),
            ("postgres://example.com", "http://example.com/", false),
        ] {
            assert_eq!(is_allowed(allowed, uri), expected, "{allowed} {uri}");
        }
        for invalid in [
            "example.com",
            "http://",
            "http://a:b",
            "http://*x",
            "http://u@h",
        ] {
            assert_eq!(AllowedHost::parse(invalid), None, "{invalid}");
        }
    }
}
