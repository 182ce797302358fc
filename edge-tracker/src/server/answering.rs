//! Answers: those of the click path, which are there at once, and those of functions, which are not.

use super::lives::Awaited;
use bytes::Bytes;
use http::Response;
use http_body_util::{Either, Full};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of an answer.
pub(super) type Body = Either<Full<Bytes>, function_host::Body>;

type Called = Pin<Box<dyn Future<Output = Response<function_host::Body>>>>;

/// The answer to one request.
pub(super) enum Answering {
    AtOnce(Option<Response<Full<Bytes>>>),
    Later { called: Called, _awaited: Awaited },
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
            _awaited: awaited,
        }
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
            Self::Later { called, .. } => ready!(called.as_mut().poll(cx)).map(Either::Right),
        };
        Poll::Ready(Ok(response))
    }
}
