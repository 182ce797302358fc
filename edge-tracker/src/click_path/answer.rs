//! What a visitor gets: a redirect, a pixel, or what the bare domain answers.

use super::Root;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// The transparent GIF of one pixel.
const PIXEL: &[u8; 43] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// What goes out once the event is accepted.
pub(super) enum Answer {
    Redirect(StatusCode, Bytes),
    Pixel,
    /// To the bare domain, of which there is no event.
    Root(Root),
}

impl Answer {
    /// The whole of it; `headers` is empty and its memory is used again.
    pub(super) fn response(self, mut headers: HeaderMap) -> Response<Full<Bytes>> {
        // Enough for every cache (RFC 9111, 5.2.2.5).
        const NEVER: HeaderValue = HeaderValue::from_static("no-store");
        let (status, body) = match self {
            Self::Redirect(code, location) => {
                let location = HeaderValue::from_maybe_shared(location).expect(
                    "a destination's pieces are visible ASCII and values are percent-encoded",
                );
                headers.insert(header::LOCATION, location);
                (code, Full::default())
            }
            Self::Pixel => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/gif"));
                (StatusCode::OK, Full::new(Bytes::from_static(PIXEL)))
            }
            Self::Root(root) => root.answer(&mut headers),
        };
        headers.insert(header::CACHE_CONTROL, NEVER);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
