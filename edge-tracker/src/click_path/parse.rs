//! Stage 1, parse.
//!
//! Input: a request. Output: its target, headers and marks, or the refusal of a request that no link accepts.
//! Invariant: a pure function of the request; nothing is decoded, looked up or counted.

use crate::refusal::Refusal;
use crate::request::{self, RequestHeaders, Target};
use http::header::HeaderName;
use http::{Method, Request, Uri};
use tracking_events::Flags;

/// A request whose head was read.
pub(super) struct ParsedRequest<'r> {
    pub(super) method: &'r Method,
    pub(super) uri: &'r Uri,
    pub(super) headers: RequestHeaders<'r>,
    /// Nothing when the path is that of neither a link nor a pixel; a repaired one may be.
    pub(super) target: Option<Target<'r>>,
    pub(super) flags: Flags,
}

impl<'r> ParsedRequest<'r> {
    /// Parses `request`, in which proxies record their clients in the header `forwarded`.
    pub(super) fn of<B>(
        request: &'r Request<B>,
        forwarded: &HeaderName,
        max_url_bytes: usize,
    ) -> Result<Self, Refusal> {
        let target = match request::parse_target(request, max_url_bytes) {
            Ok(target) => Some(target),
            Err(Refusal::UnknownPath) => None,
            Err(refusal) => return Err(refusal),
        };
        let headers = RequestHeaders::find(request.headers(), forwarded);
        Ok(Self {
            method: request.method(),
            uri: request.uri(),
            flags: request::marks(request.method(), &headers),
            headers,
            target,
        })
    }
}
