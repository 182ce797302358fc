//! The body of an answer: bytes that are all there, or parts as a function makes them.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use thiserror::Error;
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Parts(mpsc::Receiver<Part>),
}

/// What is sent of a body that is made in parts. One whose sender ends without the last of these broke off.
#[derive(Debug)]
pub(crate) enum Part {
    Data(Bytes),
    End,
}

/// The function ended in the middle of its answer; the cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the function ended in the middle of its answer")]
pub struct BodyError;

impl Body {
    /// A body that is all there.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self(Kind::Full(Some(bytes)))
    }

    pub(crate) const fn parts(parts: mpsc::Receiver<Part>) -> Self {
        Self(Kind::Parts(parts))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Parts(parts) => {
                let part = ready!(parts.poll_recv(cx));
                let next = match part {
                    Some(Part::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Some(Part::End) => None,
                    None => Some(Err(BodyError)),
                };
                self.0 = Kind::Full(None);
                Poll::Ready(next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Parts(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Parts(_) => SizeHint::default(),
        }
    }
}
