//! The body of a response: complete bytes, or a stream of parts as the function produces them.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use thiserror::Error;
use tokio::sync::mpsc;

/// The body of a response.
#[derive(Debug)]
pub struct Body(BodyKind);

#[derive(Debug)]
enum BodyKind {
    Full(Option<Bytes>),
    Streamed(mpsc::Receiver<BodyPart>),
}

/// A message of a streamed body. A body whose sender is dropped before it sent `End` is interrupted.
#[derive(Debug)]
pub(crate) enum BodyPart {
    Data(Bytes),
    End,
}

/// The call failed after the start of its response; the cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the function call failed in the middle of its response")]
pub struct BodyError;

impl Body {
    /// A complete body.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self(BodyKind::Full(Some(bytes)))
    }

    pub(crate) const fn streamed(parts: mpsc::Receiver<BodyPart>) -> Self {
        Self(BodyKind::Streamed(parts))
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
            BodyKind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodyKind::Streamed(parts) => {
                let part = ready!(parts.poll_recv(cx));
                let next = match part {
                    Some(BodyPart::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Some(BodyPart::End) => None,
                    None => Some(Err(BodyError)),
                };
                self.0 = BodyKind::Full(None);
                Poll::Ready(next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodyKind::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            BodyKind::Streamed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodyKind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            BodyKind::Streamed(_) => SizeHint::default(),
        }
    }
}
