//! Futures of responses: those of the click path are ready at once, those of functions are not.

use super::connections::PendingResponseGuard;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::{Either, Full};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of a response.
pub(super) type Body = Either<Full<Bytes>, PendingBody>;

/// The body of a function's response, which may end long after its head: until then the connection is busy.
pub(super) struct PendingBody {
    body: function_host::Body,
    _guard: PendingResponseGuard,
}

type FunctionFuture = Pin<Box<dyn Future<Output = Response<function_host::Body>>>>;

/// The response to one request.
pub(super) enum ResponseFuture {
    Ready(Option<Response<Full<Bytes>>>),
    Pending {
        future: FunctionFuture,
        guard: Option<PendingResponseGuard>,
    },
}

impl ResponseFuture {
    pub(super) const fn ready(response: Response<Full<Bytes>>) -> Self {
        Self::Ready(Some(response))
    }

    pub(super) fn pending(
        future: impl Future<Output = Response<function_host::Body>> + 'static,
        guard: PendingResponseGuard,
    ) -> Self {
        Self::Pending {
            future: Box::pin(future),
            guard: Some(guard),
        }
    }
}

impl http_body::Body for PendingBody {
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

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.get_mut() {
            Self::Ready(response) => {
                let response = response.take();
                response
                    .expect("a future is not polled after it is ready")
                    .map(Either::Left)
            }
            Self::Pending { future, guard } => {
                let response = ready!(future.as_mut().poll(cx));
                let guard = guard
                    .take()
                    .expect("a future is not polled after it is ready");
                response.map(|body| {
                    Either::Right(PendingBody {
                        body,
                        _guard: guard,
                    })
                })
            }
        };
        Poll::Ready(Ok(response))
    }
}
