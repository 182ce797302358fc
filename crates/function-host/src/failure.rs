//! The numbered reasons why a call failed, and the responses that report them.

use crate::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// After how many seconds a client should retry when all capacity is in use.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $status:ident;)*) => {
        /// Why a call failed. A number is never reused for another reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Failure {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in metrics, logs and responses.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status of the response.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
        }
    };
}

failures! {
    /// The limit of concurrent calls, or of slow request bodies, is reached.
    Busy = 301, "function_busy", SERVICE_UNAVAILABLE;
    /// The function trapped: a panic, an access out of bounds, a division by zero.
    Trapped = 302, "function_trapped", INTERNAL_SERVER_ERROR;
    /// The call exceeded its wall time.
    TimedOut = 303, "function_timed_out", GATEWAY_TIMEOUT;
    /// The call exceeded its processor time.
    CpuExhausted = 304, "function_cpu_exhausted", INTERNAL_SERVER_ERROR;
    /// The instance exceeded its memory limit.
    MemoryExhausted = 305, "function_memory_exhausted", INTERNAL_SERVER_ERROR;
    /// The request's body exceeds its limit.
    RequestTooLarge = 306, "function_request_too_large", PAYLOAD_TOO_LARGE;
    /// The response's body exceeds its limit.
    ResponseTooLarge = 307, "function_response_too_large", BAD_GATEWAY;
    /// The function ended without a response, or returned an error.
    NoResponse = 308, "function_gave_no_answer", BAD_GATEWAY;
    /// No instance could be started.
    NotStarted = 309, "function_not_started", INTERNAL_SERVER_ERROR;
    /// The client closed the connection before the response was complete.
    ClientGone = 310, "function_client_gone", BAD_GATEWAY;
    /// The request's body did not arrive in time.
    RequestTooSlow = 311, "function_request_too_slow", REQUEST_TIMEOUT;
}

impl Failure {
    /// The number in responses.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The response: number and name, without the cause.
    #[must_use]
    pub fn response(self) -> Response<Body> {
        let text = format!("{} {}\n", self.number(), self.name());
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Busy => drop(headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS)),
            // The rest of the body is not read, so no request can follow on this connection.
            Self::RequestTooLarge | Self::RequestTooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
