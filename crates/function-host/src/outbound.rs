//! What functions may ask of others: the hosts that the manifest allows, and `tracker.internal`, which
//! is answered in this process without a socket.

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use std::pin::Pin;
use std::sync::Arc;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// The longest message to `tracker.internal`, in bytes.
const MAX_INTERNAL_BYTES: usize = 64 << 10;
/// Requests that a function may make while it answers one.
const MAX_REQUESTS: u32 = 32;

/// The answer to an internal request.
pub type InternalAnswer = Pin<Box<dyn Future<Output = Response<Bytes>> + Send>>;

/// Who answers `http://tracker.internal/`.
pub trait Internal: Send + Sync + 'static {
    /// The name of its host.
    fn host(&self) -> &str;

    /// Answers a request, whose body is all there.
    fn answer(&self, request: Request<Bytes>) -> InternalAnswer;

    /// Does what was put off so that more could share it, without waiting for anybody. Called when a thread that
    /// functions run on has nothing else to do for now, and every two milliseconds while any call runs and a while
    /// after.
    fn settle(&self);
}

/// A host that may be asked, as `allowed_outbound_hosts` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Any without one.
    scheme: Option<String>,
    host: Host,
    /// The scheme's own without one.
    port: Port,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    Exact(String),
    /// With its dot.
    Below(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Any,
    OfScheme,
    Exact(u16),
}

impl Allowed {
    /// Reads `scheme://host[:port]`, where `*` stands for any scheme, host or port, and `*.example.com`
    /// for all hosts below.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} in allowed_outbound_hosts is not scheme://host[:port]");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let bracketed = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest[bracketed..].rfind(':') {
            Some(colon) => (
                &rest[..bracketed + colon],
                Some(&rest[bracketed + colon + 1..]),
            ),
            None => (rest, None),
        };
        if host.is_empty() || host.contains(['/', '@', '?']) {
            return Err(wrong());
        }
        let port = match port {
            None => Port::OfScheme,
            Some("*") => Port::Any,
            Some(number) => Port::Exact(number.parse().map_err(|_| wrong())?),
        };
        let host = match host.strip_prefix('*') {
            Some("") => Host::Any,
            Some(below) if below.starts_with('.') => Host::Below(below.to_ascii_lowercase()),
            Some(_) => return Err(wrong()),
            None => Host::Exact(host.to_ascii_lowercase()),
        };
        Ok(Self {
            scheme: (scheme != "*").then(|| scheme.to_ascii_lowercase()),
            host,
            port,
        })
    }

    fn fits(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return false;
        };
        let host = host.to_ascii_lowercase();
        let own = if uri.scheme() == Some(&Scheme::HTTPS) {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(own);
        self.scheme.as_deref().is_none_or(|it| it == scheme)
            && match &self.host {
                Host::Any => true,
                Host::Exact(exact) => *exact == host,
                Host::Below(below) => host.ends_with(below),
            }
            && match self.port {
                Port::Any => true,
                Port::OfScheme => port == own,
                Port::Exact(exact) => exact == port,
            }
    }
}

/// The way out of one component.
pub(crate) struct Outbound {
    pub(crate) allowed: Arc<[Allowed]>,
    pub(crate) internal: Arc<dyn Internal>,
    /// Requests made in this call.
    pub(crate) asked: u32,
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _io: Io,
    ) -> Sent {
        let uri = request.uri();
        if !self.allowed.iter().any(|allowed| allowed.fits(uri)) {
            return Box::new(async { Err(Error::HttpRequestDenied) });
        }
        self.asked += 1;
        if self.asked > MAX_REQUESTS {
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        }
        // As `fits` compares: with a name that differs in case only, the token would go to whom DNS says.
        let host = uri.host().unwrap_or_default().trim_end_matches('.');
        if host.eq_ignore_ascii_case(self.internal.host()) {
            return Box::new(internal(self.internal.clone(), request));
        }
        Box::new(async move {
            let (response, io) = wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((response.map(BodyExt::boxed_unsync), Box::new(io) as Io))
        })
    }
}

async fn internal(
    internal: Arc<dyn Internal>,
    request: Request<WasiBody>,
) -> Result<(Response<WasiBody>, Io), Error> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_INTERNAL_BYTES).collect().await;
    let body = body.map_err(|_| Error::HttpRequestBodySize(None))?;
    let request = Request::from_parts(parts, body.to_bytes());
    let response = internal.answer(request).await;
    let response = response.map(|bytes| {
        let body = Full::new(bytes).map_err(|never| match never {});
        BodyExt::boxed_unsync(body)
    });
    Ok((response, Box::new(async { Ok(()) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(allowed: &str, uri: &str) -> bool {
        let allowed = Allowed::parse(allowed).expect("a host");
        allowed.fits(&uri.parse().expect("a URI"))
    }

    #[test]
    fn only_what_was_allowed_fits() {
        assert!(fits(
            "http://tracker.internal",
            "http://tracker.internal/v1"
        ));
        assert!(fits(
            "http://tracker.internal",
            "http://tracker.internal:80/v1"
        ));
        assert!(!fits(
            "http://tracker.internal",
            "https://tracker.internal/"
        ));
        assert!(!fits(
            "http://tracker.internal",
            "http://tracker.internal:81/"
        ));
        assert!(!fits(
            "http://tracker.internal",
            "http://tracker.internal.evil.example/"
        ));
        assert!(fits("https://*.example.com", "https://a.example.com/"));
        assert!(!fits("https://*.example.com", "https://example.com/"));
        assert!(!fits("https://*.example.com", "https://evilexample.com/"));
        assert!(fits("*://example.com:*", "http://EXAMPLE.com:8080/"));
        assert!(fits("http://[::1]:8080", "http://[::1]:8080/"));
        assert!(!fits("postgres://example.com", "http://example.com/"));
        for wrong in [
            "example.com",
            "http://",
            "http://a:b",
            "http://*x",
            "http://u@h",
        ] {
            assert!(Allowed::parse(wrong).is_err(), "{wrong}");
        }
    }
}
