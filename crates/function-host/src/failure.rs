//! The numbered reasons why a call failed, and the responses that report them.

use crate::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// After how many seconds a client should retry when all capacity is in use.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

numbered_reasons::numbered_reasons! {
    /// Why a function did not answer. Numbers are never given to another reason.
    pub enum Failure: StatusCode;

    /// `functions.limits.concurrency` calls are in progress, or slow request bodies take as much memory as 512 of the
    /// longest. Sent with `Retry-After`.
    Busy = 301, "function_busy", StatusCode::SERVICE_UNAVAILABLE;
    /// The function ended abnormally: a panic, an access out of bounds, a division by zero. The log has the cause.
    Trapped = 302, "function_trapped", StatusCode::INTERNAL_SERVER_ERROR;
    /// The call took longer than `functions.limits.wall`.
    TimedOut = 303, "function_timed_out", StatusCode::GATEWAY_TIMEOUT;
    /// The call used more processor time than `functions.limits.cpu`.
    CpuExhausted = 304, "function_cpu_exhausted", StatusCode::INTERNAL_SERVER_ERROR;
    /// The call needed more memory than `functions.limits.memory`.
    MemoryExhausted = 305, "function_memory_exhausted", StatusCode::INTERNAL_SERVER_ERROR;
    /// The request's body is longer than `functions.limits.request`.
    RequestTooLarge = 306, "function_request_too_large", StatusCode::PAYLOAD_TOO_LARGE;
    /// The function began a response longer than `functions.limits.response`.
    ResponseTooLarge = 307, "function_response_too_large", StatusCode::BAD_GATEWAY;
    /// The function ended without a response, or with an error instead of one. The log has the cause.
    NoResponse = 308, "function_gave_no_answer", StatusCode::BAD_GATEWAY;
    /// The function could not be started. The log has the cause.
    NotStarted = 309, "function_not_started", StatusCode::INTERNAL_SERVER_ERROR;
    /// The client closed the connection before the response.
    ClientGone = 310, "function_client_gone", StatusCode::BAD_GATEWAY;
    /// The request's body took longer than `functions.limits.wall`.
    RequestTooSlow = 311, "function_request_too_slow", StatusCode::REQUEST_TIMEOUT;
}

impl Failure {
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
