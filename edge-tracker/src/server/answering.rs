//! Answers: those of the click path, which are there at once, and those of functions, which are not.

use super::lives::Awaited;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::{Either, Full};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of an answer.
pub(super) type Body = Either<Full<Bytes>, AwaitedBody>;

/// The body of a function's answer, which may be made long after its head: until it is all there the
/// connection is not idle.
pub(super) struct AwaitedBody {
    body: function_host::Body,
    _awaited: Awaited,
}

type Called = Pin<Box<dyn Future<Output = Response<function_host::Body>>>>;

/// The answer to one request.
pub(super) enum Answering {
    AtOnce(Option<Response<Full<Bytes>>>),
    Later {
        called: Called,
        awaited: Option<Awaited>,
    },
}

impl Answering {
    pub(super) const fn at_once(response: Response<Full<Bytes>>) -> Self {
        Self::AtOnce(Some(response))
    }

    pub(super) fn later(
        called: impl Future<Output = Response<function_host::Body>> + 'static,
        awaited: Awaited,
    ) -> Self {
        Self::Later {
            called: Box::pin(called),
            awaited: Some(awaited),
        }
    }
}

impl http_body::Body for AwaitedBody {
    type Data = Bytes;
    type Error = function_host::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.get_mut() {
            Self::AtOnce(response) => {
                let response = response.take();
                response
                    .expect("an answer is asked for once")
                    .map(Either::Left)
            }
            Self::Later { called, awaited } => {
                let response = ready!(called.as_mut().poll(cx));
                let awaited = awaited.take().expect("an answer is asked for once");
                response.map(|body| {
                    Either::Right(AwaitedBody {
                        body,
                        _awaited: awaited,
                    })
                })
            }
        };
        Poll::Ready(Ok(response))
    }
}
