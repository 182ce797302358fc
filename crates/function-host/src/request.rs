//! The bodies of requests, read to their end before anything is made for a call: who sends half of one takes
//! nobody's room.

use crate::Failure;
use crate::host::Limits;
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

/// Bodies that are not there at once may take together as much as so many whole ones.
const BODIES: usize = 512;
/// What a request takes while its body is awaited, beside the body, in bytes.
const HEAD_BYTES: u32 = 4 << 10;
/// How often a body is asked for before it counts as one that is not there at once: a connection hands over
/// only when asked what came together with the head.
const TURNS: usize = 3;

/// Reads requests.
pub(crate) struct Reader {
    /// For bodies that are not there at once, in bytes.
    room: Arc<Semaphore>,
    longest: usize,
    within: Duration,
}

impl Reader {
    pub(crate) fn new(limits: &Limits) -> Self {
        let room = limits.request_bytes.max(HEAD_BYTES as usize);
        let room = room.saturating_mul(BODIES).min(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(room)),
            longest: limits.request_bytes,
            within: limits.wall,
        }
    }

    /// The request with its body, which is all there, or broke off.
    pub(crate) async fn read<B>(&self, request: Request<B>) -> Result<Request<WasiBody>, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let (mut parts, body) = request.into_parts();
        if body.size_hint().lower() > self.longest as u64 {
            return Err(Failure::RequestTooLarge);
        }
        let mut taken = Taken::default();
        if !body.is_end_stream() {
            self.take(pin!(body), &mut taken).await?;
        }
        // How its parts were told apart on the way here is over; a function need not ask whether there is one.
        parts.headers.remove(TRANSFER_ENCODING);
        if !taken.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH) {
            let length = taken.bytes.len().into();
            parts.headers.insert(CONTENT_LENGTH, length);
        }
        Ok(Request::from_parts(parts, taken.boxed_unsync()))
    }

    async fn take<B>(&self, mut body: Pin<&mut B>, taken: &mut Taken) -> Result<(), Failure>
    where
        B: Body<Data = Bytes>,
    {
        for _ in 0..TURNS {
            while let Some(frame) = at_once(body.as_mut()).await {
                if taken.ends_with(frame, self.longest)? || body.is_end_stream() {
                    return Ok(());
                }
            }
            tokio::task::yield_now().await;
        }
        let slow = self.take_slowly(body, taken);
        let taken = timeout(self.within, slow).await;
        taken.unwrap_or(Err(Failure::RequestTooSlow))
    }

    async fn take_slowly<B>(&self, mut body: Pin<&mut B>, taken: &mut Taken) -> Result<(), Failure>
    where
        B: Body<Data = Bytes>,
    {
        let room = |bytes: usize| {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let permit = self.room.try_acquire_many(bytes);
            permit.map_err(|_| Failure::Busy)
        };
        let mut held = room(HEAD_BYTES as usize + taken.bytes.len())?;
        loop {
            let before = taken.bytes.len();
            let frame = body.frame().await;
            if taken.ends_with(frame, self.longest)? || body.is_end_stream() {
                return Ok(());
            }
            held.merge(room(taken.bytes.len() - before)?);
        }
    }
}

/// What the body has to say now; none when it has to be waited for.
async fn at_once<B: Body>(
    mut body: Pin<&mut B>,
) -> Option<Option<Result<Frame<B::Data>, B::Error>>> {
    poll_fn(|cx| match body.as_mut().poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What was read of a body, as the body that a function gets.
#[derive(Debug, Default)]
struct Taken {
    bytes: Vec<u8>,
    /// Whether it broke off, or was not written as HTTP says.
    broken: bool,
}

impl Taken {
    /// Adds a frame; true when there are no more. Trailers are left out.
    fn ends_with<E>(
        &mut self,
        frame: Option<Result<Frame<Bytes>, E>>,
        longest: usize,
    ) -> Result<bool, Failure> {
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => return Ok(true),
            Some(Err(_)) => {
                self.broken = true;
                return Ok(true);
            }
            Some(Ok(Err(_))) => {}
            Some(Ok(Ok(data))) if self.bytes.len() + data.len() > longest => {
                return Err(Failure::RequestTooLarge);
            }
            Some(Ok(Ok(data))) => self.bytes.extend_from_slice(&data),
        }
        Ok(false)
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready(if !bytes.is_empty() {
            Some(Ok(Frame::data(bytes.into())))
        } else if std::mem::take(&mut self.broken) {
            Some(Err(Error::ConnectionTerminated))
        } else {
            None
        })
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && !self.broken
    }

    fn size_hint(&self) -> SizeHint {
        match self.broken {
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
        let reader = Reader::new(&Limits::default());
        reader.read(request).await.expect("read")
    }

    #[tokio::test]
    async fn functions_are_told_how_long_a_body_is_if_there_is_one() {
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
