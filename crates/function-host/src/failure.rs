//! The numbered reasons for which a function does not answer.

use crate::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// How long who finds no room should wait before another try, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

macro_rules! failures {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $status:ident;)*) => {
        /// Why a function did not answer. Numbers are never given to another reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Failure {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in metrics, logs and answers.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The status answered.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }
        }
    };
}

failures! {
    /// As many calls are being answered as may be at once.
    Busy = 301, "function_busy", SERVICE_UNAVAILABLE;
    /// It ended abnormally: a panic, an access out of bounds, a division by zero.
    Trapped = 302, "function_trapped", INTERNAL_SERVER_ERROR;
    /// It took longer than its wall time.
    TimedOut = 303, "function_timed_out", GATEWAY_TIMEOUT;
    /// It used more of the processor than its budget.
    CpuExhausted = 304, "function_cpu_exhausted", INTERNAL_SERVER_ERROR;
    /// It wanted more memory than it may have.
    MemoryExhausted = 305, "function_memory_exhausted", INTERNAL_SERVER_ERROR;
    /// The request's body is longer than its limit.
    RequestTooLarge = 306, "function_request_too_large", PAYLOAD_TOO_LARGE;
    /// It began an answer longer than its limit.
    ResponseTooLarge = 307, "function_response_too_large", BAD_GATEWAY;
    /// It ended without an answer, or with an error instead of one.
    NoAnswer = 308, "function_gave_no_answer", BAD_GATEWAY;
    /// It could not be started.
    NotStarted = 309, "function_not_started", INTERNAL_SERVER_ERROR;
    /// Who asked has gone.
    ClientGone = 310, "function_client_gone", BAD_GATEWAY;
    /// The request's body was not there in time.
    RequestTooSlow = 311, "function_request_too_slow", REQUEST_TIMEOUT;
}

impl Failure {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The answer that says so, and nothing of the cause.
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
            Self::Busy => drop(headers.insert(header::RETRY_AFTER, RETRY_AFTER)),
            // The rest of the body is not read, so that nothing can follow it.
            Self::RequestTooLarge | Self::RequestTooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}
