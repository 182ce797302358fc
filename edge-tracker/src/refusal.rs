//! The numbered reasons for which a request is not answered as asked.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// How long who was shed should wait before another try, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");
/// How long a client should wait whose network failed to authenticate too often, in seconds.
const RETRY_AFTER_FAILURES: HeaderValue = HeaderValue::from_static("60");
/// How long a sender should wait while the node's clock is wrong, in seconds.
const CLOCK_RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $status:ident, $message:literal;)*) => {
        /// Why a request or connection was refused. Numbers are never given to another reason; 7, 8, 9 and
        /// 24 were some.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name used in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status answered, where an answer is possible.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }
        }
    };
}

refusals! {
    /// The path is neither a link nor a pixel.
    UnknownPath = 1, "unknown_path", NOT_FOUND, "there is nothing here; links are /c/NAME, pixels /i/NAME.gif";
    /// No link has this name.
    UnknownLink = 2, "unknown_link", NOT_FOUND, "there is no link of this name";
    /// The link is paused and has no fallback.
    LinkPaused = 3, "link_paused", GONE, "this link is paused";
    /// Not GET or HEAD.
    MethodNotAllowed = 4, "method_not_allowed", METHOD_NOT_ALLOWED, "only GET and HEAD are answered here";
    /// A host that this node does not serve.
    UnknownHost = 5, "unknown_host", MISDIRECTED_REQUEST, "this host is not served here";
    /// The request target is too long.
    UrlTooLong = 6, "url_too_long", URI_TOO_LONG, "the address is too long";
    /// The destination became too long with its macros filled in.
    LocationTooLong = 10, "location_too_long", URI_TOO_LONG, "the destination became too long";
    /// Not HTTP.
    MalformedRequest = 20, "malformed_request", BAD_REQUEST, "not an HTTP request";
    /// The request's head is too large.
    HeadTooLarge = 21, "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large";
    /// The client was too slow in sending a request's head, or idle for too long.
    TooSlow = 22, "too_slow", REQUEST_TIMEOUT, "the request took too long";
    /// The PROXY protocol header is missing or malformed.
    BadProxyHeader = 23, "bad_proxy_header", BAD_REQUEST, "the PROXY protocol header is missing or malformed";
    /// The connection broke in the middle of a request or an answer.
    ConnectionBroken = 25, "connection_broken", BAD_REQUEST, "the connection broke";
    /// The client did not take the response of an HTTP/2 stream in time.
    NotTaken = 27, "not_taken", REQUEST_TIMEOUT, "the response was not taken in time";
    /// HTTP/2 from a peer with which it is not spoken.
    Http2NotServed = 28, "http2_not_served", HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 is not spoken with this peer, use HTTP/1.1";
    /// Functions could not tell who sent what came from the client's network, too often.
    TooManyFailures = 29, "too_many_failures", TOO_MANY_REQUESTS, "too many requests from this network were not authentic, try again in a minute";
    /// There is more to do than can be done; counted as shed, not as refused.
    Overloaded = 26, "overloaded", SERVICE_UNAVAILABLE, "too busy at the moment, try again later";
    /// The node's clock is wrong, so that functions can't say what is valid or when it happened.
    ClockWrong = 30, "clock_wrong", SERVICE_UNAVAILABLE, "the clock of this node is wrong at the moment, try again later or at another node";
    /// A browser fetches a link ahead. Counted and logged, and answered so that the browser asks again when
    /// its visitor comes: the click would be lost if it used the same answer then.
    Prefetch = 31, "prefetch", SERVICE_UNAVAILABLE, "links are not fetched ahead of the visitor";
}

impl Refusal {
    /// The number told to clients.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The answer: a short text that says what is wrong.
    #[must_use]
    pub fn response(self) -> Response<Full<Bytes>> {
        let text = format!("{} (reason {})\n", self.message(), self.code());
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
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            Self::TooManyFailures => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_FAILURES);
            }
            Self::ClockWrong => {
                headers.insert(header::RETRY_AFTER, CLOCK_RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}
