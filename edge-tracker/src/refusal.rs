//! The numbered reasons why a request is refused.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// Seconds after which a shed client should retry.
const OVERLOAD_RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");
/// Seconds after which a client should retry whose network failed to authenticate too often.
const FAILURES_RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");
/// Seconds after which a sender should retry while the node's clock is wrong.
const CLOCK_RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

numbered_reasons::numbered_reasons! {
    /// Why a request or connection was refused. Numbers are never reused; 7, 8, 9 and 24 are retired.
    pub enum Refusal: StatusCode;

    /// The path is neither a link's (`/c/SLUG`), a pixel's (`/i/SLUG.gif`) nor a function's.
    UnknownPath = 1, "unknown_path", StatusCode::NOT_FOUND, "there is nothing here; links are /c/NAME, pixels /i/NAME.gif";
    /// No link has this slug. Correct the slug, or add the link to the links file.
    UnknownLink = 2, "unknown_link", StatusCode::NOT_FOUND, "there is no link of this name";
    /// The link is paused and has no fallback. Set `state = "active"` or a `fallback`.
    LinkPaused = 3, "link_paused", StatusCode::GONE, "this link is paused";
    /// The method is neither GET nor HEAD.
    MethodNotAllowed = 4, "method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here";
    /// The host is not in `http.hosts`. Add it, or correct the DNS record that leads here.
    UnknownHost = 5, "unknown_host", StatusCode::MISDIRECTED_REQUEST, "this host is not served here";
    /// The request target is longer than `http.max_url_bytes`.
    UrlTooLong = 6, "url_too_long", StatusCode::URI_TOO_LONG, "the address is too long";
    /// The destination is longer than 16 KiB after macro expansion. Pass fewer or shorter parameters.
    LocationTooLong = 10, "location_too_long", StatusCode::URI_TOO_LONG, "the destination became too long";
    /// The bytes are not HTTP, or the target contains a space or control character. Percent-encode them.
    MalformedRequest = 20, "malformed_request", StatusCode::BAD_REQUEST, "not an HTTP request";
    /// The request's head is larger than `http.max_head_bytes`.
    HeadTooLarge = 21, "head_too_large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large";
    /// The client took longer than `http.header_timeout` to send a request's head; the connection is closed. An idle
    /// connection that is closed after the same time is not a refusal.
    TooSlow = 22, "too_slow", StatusCode::REQUEST_TIMEOUT, "the request took too long";
    /// A trusted peer sent no valid PROXY protocol header; the connection is closed. Configure the proxy to send one,
    /// or set `http.proxy_protocol = false`.
    BadProxyHeader = 23, "bad_proxy_header", StatusCode::BAD_REQUEST, "the PROXY protocol header is missing or malformed";
    /// The connection broke in the middle of a request or response.
    ConnectionBroken = 25, "connection_broken", StatusCode::BAD_REQUEST, "the connection broke";
    /// The client did not read the response of an HTTP/2 stream within `http.write_timeout`; the stream is reset.
    NotTaken = 27, "not_taken", StatusCode::REQUEST_TIMEOUT, "the response was not taken in time";
    /// The peer sent HTTP/2 although `http.http2` does not allow it; the connection is closed with `GOAWAY`. Use
    /// HTTP/1.1, or add the peer to `http.trusted_proxies`.
    Http2NotServed = 28, "http2_not_served", StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 is not spoken with this peer, use HTTP/1.1";
    /// The client's network (/24 of IPv4, /48 of IPv6) failed to authenticate to functions more than
    /// `functions.failures_per_minute` times a minute. Correct the secret or signature and retry after `Retry-After`.
    TooManyFailures = 29, "too_many_failures", StatusCode::TOO_MANY_REQUESTS, "too many requests from this network were not authentic, try again in a minute";
    /// The worker's delay is above `http.shed_lag`, so that pixels are refused with `Retry-After`. Add edges or
    /// workers. Counted in `edge_shed_total`, not in `edge_refused_total`.
    Overloaded = 26, "overloaded", StatusCode::SERVICE_UNAVAILABLE, "too busy at the moment, try again later";
    /// The node's clock is not trusted, so that functions can't validate signatures or date conversions. Retry after
    /// `Retry-After`, or at another node; correct the node's clock.
    ClockWrong = 30, "clock_wrong", StatusCode::SERVICE_UNAVAILABLE, "the clock of this node is wrong at the moment, try again later or at another node";
    /// A browser prefetches a link. The row is marked and is no visit. The request is refused so that the browser sends
    /// it again for its visitor: a cached redirect would lose the click.
    Prefetch = 31, "prefetch", StatusCode::SERVICE_UNAVAILABLE, "links are not fetched ahead of the visitor";
}

impl Refusal {
    /// Whether a client receives a response; otherwise its connection or stream ends.
    #[must_use]
    pub const fn has_response(self) -> bool {
        !matches!(
            self,
            Self::TooSlow
                | Self::BadProxyHeader
                | Self::ConnectionBroken
                | Self::NotTaken
                | Self::Http2NotServed
        )
    }

    /// The response, with a short text that names the problem.
    #[must_use]
    pub fn response(self) -> Response<Full<Bytes>> {
        let text = format!("{} (reason {})\n", self.message(), self.number());
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::MethodNotAllowed => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            Self::Overloaded => {
                headers.insert(header::RETRY_AFTER, OVERLOAD_RETRY_AFTER);
            }
            Self::TooManyFailures => {
                headers.insert(header::RETRY_AFTER, FAILURES_RETRY_AFTER);
            }
            Self::ClockWrong => {
                headers.insert(header::RETRY_AFTER, CLOCK_RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}
