//! The response to a visitor: a redirect, a pixel, the page of the bare domain, or a refusal.

use super::Root;
use crate::refusal::Refusal;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// The transparent GIF of one pixel.
const PIXEL: &[u8; 43] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// The response once the event, if there is one, is accepted.
pub(super) enum ClickResponse {
    Redirect(StatusCode, Bytes),
    Pixel,
    /// To a request of the bare domain, which has no event.
    Root(Root),
    Refused(Refusal),
}

impl ClickResponse {
    /// Builds the HTTP response; `headers` is empty and its memory is reused.
    pub(super) fn into_http(self, mut headers: HeaderMap) -> Response<Full<Bytes>> {
        // Sufficient for every cache (RFC 9111, 5.2.2.5).
        const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
        let (status, body) = match self {
            Self::Redirect(code, location) => {
                let location = HeaderValue::from_maybe_shared(location)
                    .expect("destinations are visible ASCII and values are percent-encoded");
                headers.insert(header::LOCATION, location);
                (code, Full::default())
            }
            Self::Pixel => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/gif"));
                (StatusCode::OK, Full::new(Bytes::from_static(PIXEL)))
            }
            Self::Root(root) => root.respond(&mut headers),
            Self::Refused(refusal) => return refusal.response(),
        };
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
