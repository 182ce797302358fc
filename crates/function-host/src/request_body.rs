//! Reads request bodies to their end before a call takes any capacity, so that incomplete requests block no function.

use crate::{Failure, Limits};
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, WasiBody};

/// Bodies that are not ready at once may use together the memory of this many maximal ones.
const MAX_SLOW_BODIES: usize = 512;
/// Estimated memory of a request without its body while the body is awaited, in bytes.
const SLOW_REQUEST_BYTES: u32 = 4 << 10;
/// Rounds of polling before a body counts as slow: an HTTP connection delivers bytes that arrived together with the
/// head only after a poll.
const POLL_ROUNDS: usize = 3;

/// Reads requests with their bodies, within limits.
pub(crate) struct RequestReader {
    /// Memory for slow bodies, in bytes.
    slow_bytes: Arc<Semaphore>,
    max_body_bytes: usize,
    timeout: Duration,
}

impl RequestReader {
    pub(crate) fn new(limits: &Limits) -> Self {
        let per_body = limits.request_bytes.max(SLOW_REQUEST_BYTES as usize);
        let slow_bytes = per_body
            .saturating_mul(MAX_SLOW_BODIES)
            .min(Semaphore::MAX_PERMITS);
        Self {
            slow_bytes: Arc::new(Semaphore::new(slow_bytes)),
            max_body_bytes: limits.request_bytes,
            timeout: limits.wall,
        }
    }

    /// Returns the request with its body, complete or interrupted.
    pub(crate) async fn read<B>(&self, request: Request<B>) -> Result<Request<WasiBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let (mut parts, body) = request.into_parts();
        if body.size_hint().lower() > self.max_body_bytes as u64 {
            return Err(Failure::RequestTooLarge);
        }
        let mut buffered = BufferedBody::default();
        if !body.is_end_stream() {
            self.buffer(pin!(body), &mut buffered).await?;
        }
        // The encoding of this connection does not apply to the buffered body; its length is known instead.
        parts.headers.remove(TRANSFER_ENCODING);
        if !buffered.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH) {
            let length = buffered.bytes.len().into();
            parts.headers.insert(CONTENT_LENGTH, length);
        }
        Ok(Request::from_parts(parts, buffered.boxed_unsync()))
    }

    async fn buffer<B>(
        &self,
        mut body: Pin<&mut B>,
        buffered: &mut BufferedBody,
    ) -> Result<(), Failure>
    where
        B: Body<Data = Bytes>,
    {
        for _ in 0..POLL_ROUNDS {
            while let Some(frame) = poll_once(body.as_mut()).await {
                if buffered.ends_with(frame, self.max_body_bytes)? || body.is_end_stream() {
                    return Ok(());
                }
            }
            tokio::task::yield_now().await;
        }
        let slow = self.buffer_slow(body, buffered);
        let done = timeout(self.timeout, slow).await;
        done.unwrap_or(Err(Failure::RequestTooSlow))
    }

    async fn buffer_slow<B>(
        &self,
        mut body: Pin<&mut B>,
        buffered: &mut BufferedBody,
    ) -> Result<(), Failure>
    where
        B: Body<Data = Bytes>,
    {
        let reserve = |bytes: usize| {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let permit = self.slow_bytes.try_acquire_many(bytes);
            permit.map_err(|_| Failure::Busy)
        };
        let mut reserved = reserve(SLOW_REQUEST_BYTES as usize + buffered.bytes.len())?;
        loop {
            let before = buffered.bytes.len();
            let frame = body.frame().await;
            if buffered.ends_with(frame, self.max_body_bytes)? || body.is_end_stream() {
                return Ok(());
            }
            reserved.merge(reserve(buffered.bytes.len() - before)?);
        }
    }
}

/// The next frame, or the end; `None` when neither is ready.
async fn poll_once<B: Body>(
    mut body: Pin<&mut B>,
) -> Option<Option<Result<Frame<B::Data>, B::Error>>> {
    poll_fn(|cx| match body.as_mut().poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The bytes that were read, as the body that a function receives.
#[derive(Debug, Default)]
struct BufferedBody {
    bytes: Vec<u8>,
    /// Whether the body was interrupted or violated HTTP.
    is_broken: bool,
}

impl BufferedBody {
    /// Adds a frame; returns whether the body has ended. Trailers are dropped.
    fn ends_with<E>(
        &mut self,
        frame: Option<Result<Frame<Bytes>, E>>,
        max_bytes: usize,
    ) -> Result<bool, Failure> {
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => return Ok(true),
            Some(Err(_)) => {
                self.is_broken = true;
                return Ok(true);
            }
            Some(Ok(Err(_))) => {}
            Some(Ok(Ok(data))) if self.bytes.len() + data.len() > max_bytes => {
                return Err(Failure::RequestTooLarge);
            }
            Some(Ok(Ok(data))) => self.bytes.extend_from_slice(&data),
        }
        Ok(false)
    }
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready(if !bytes.is_empty() {
            Some(Ok(Frame::data(bytes.into())))
        } else if std::mem::take(&mut self.is_broken) {
            Some(Err(Error::ConnectionTerminated))
        } else {
            None
        })
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && !self.is_broken
    }

    fn size_hint(&self) -> SizeHint {
        match self.is_broken {
            true => SizeHint::default(),
            false => SizeHint::with_exact(self.bytes.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Empty, StreamBody};
    use std::convert::Infallible;

    async fn read<B>(body: B) -> Request<WasiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let mut request = Request::new(body);
        let chunked = http::HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
        let reader = RequestReader::new(&Limits::default());
        reader.read(request).await.expect("request within limits")
    }

    #[tokio::test]
    async fn buffered_bodies_have_a_content_length() {
        let parts = ["ab", "cde"].map(|part| Ok::<_, Infallible>(Frame::data(part.into())));
        let request = read(StreamBody::new(futures::stream::iter(parts))).await;
        assert_eq!(request.headers()[CONTENT_LENGTH], "5");
        assert!(!request.headers().contains_key(TRANSFER_ENCODING));
        let broken = [
            Ok(Frame::data("ab".into())),
            Err(Error::ConnectionTerminated),
        ];
        let request = read(StreamBody::new(futures::stream::iter(broken))).await;
        assert_eq!(request.headers()[CONTENT_LENGTH], "2");
        assert!(read(Empty::new()).await.headers().is_empty());
    }
}
