//! The streams of one HTTP/2 connection: which of them the client blocks, and for how long it may.
//!
//! hyper hands a body's data to its stream and forgets it, so nothing limits how long a closed window
//! holds it back. Here each piece of data reports when it was written, a body ends only after its last
//! piece was, and a stream whose client does not take a piece in time is reset.

use super::answering::{Answering, Body};
use super::lives::Life;
use crate::click_path::ClickPath;
use crate::refusal::Refusal;
use bytes::{Buf, Bytes};
use http::Response;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// The most of a body handed out at a time, and so what a client must take within the write time-out.
const MAX_PIECE_BYTES: usize = 16 << 10;

/// The open streams of a connection.
pub(super) struct Streams {
    path: Rc<ClickPath>,
    life: Rc<Life>,
    write_timeout: Duration,
    open: Cell<usize>,
    blocked: Cell<usize>,
    /// Whether no request's head has begun without having come whole.
    between_heads: Cell<bool>,
    /// The stream whose task is running.
    current: RefCell<Option<Rc<Stream>>>,
}

/// One stream, for as long as its task or a piece of its body exists.
struct Stream {
    streams: Rc<Streams>,
    /// Since when a piece of the body waits to be written.
    blocked_since: Cell<Option<Instant>>,
    /// Wakes the task when the piece is written.
    waker: RefCell<Waker>,
}

/// Runs streams where their connection runs.
#[derive(Clone)]
pub(super) struct StreamTasks(pub(super) Rc<Streams>);

/// A response whose body is a [`TrackedBody`].
pub(super) struct TrackedAnswering {
    answering: Answering,
    streams: Rc<Streams>,
}

/// A body that hands out a piece only when the one before was written.
pub(super) struct TrackedBody {
    body: Body,
    rest: Bytes,
    stream: Rc<Stream>,
}

/// A piece of a body; it is dropped once it was written or its stream has ended.
pub(super) struct Piece {
    bytes: Bytes,
    stream: Rc<Stream>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("open", &self.open)
            .field("blocked", &self.blocked)
            .finish_non_exhaustive()
    }
}

impl Streams {
    pub(super) fn new(path: Rc<ClickPath>, life: Rc<Life>, write_timeout: Duration) -> Rc<Self> {
        Rc::new(Self {
            path,
            life,
            write_timeout,
            open: Cell::new(0),
            blocked: Cell::new(0),
            between_heads: Cell::new(true),
            current: RefCell::default(),
        })
    }

    /// Notes whether the client is between the heads of two requests.
    pub(super) fn read(&self, between_heads: bool) {
        self.between_heads.set(between_heads);
        self.look();
    }

    /// Tells the connection's life whether it is idle: no stream waits for the edge.
    pub(super) fn look(&self) {
        if self.between_heads.get() && self.open == self.blocked {
            self.life.rests();
        } else {
            self.life.works();
        }
    }

    fn begin(self: &Rc<Self>) -> Rc<Stream> {
        self.open.set(self.open.get() + 1);
        Rc::new(Stream {
            streams: self.clone(),
            blocked_since: Cell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
        })
    }

    fn current(&self) -> Rc<Stream> {
        let current = self.current.borrow();
        current
            .clone()
            .expect("a response is made by the task of its stream")
    }
}

impl Stream {
    /// Runs the stream's task; ending it early resets the stream.
    async fn run(self: Rc<Self>, task: impl Future<Output = ()>) {
        let (mut task, mut deadline) = (pin!(task), pin!(None::<Sleep>));
        let in_time = poll_fn(|cx| {
            let outer = self.streams.current.replace(Some(self.clone()));
            let polled = task.as_mut().poll(cx);
            self.streams.current.replace(outer);
            if polled.is_ready() {
                return Poll::Ready(true);
            }
            let Some(since) = self.blocked_since.get() else {
                deadline.set(None);
                return Poll::Pending;
            };
            let at = since + self.streams.write_timeout;
            if deadline
                .as_ref()
                .as_pin_ref()
                .is_none_or(|it| it.deadline() != at)
            {
                deadline.set(Some(sleep_until(at)));
            }
            let elapsed = deadline.as_mut().as_pin_mut().expect("just set").poll(cx);
            elapsed.map(|()| false)
        });
        if !in_time.await {
            self.streams.path.metrics().refused(Refusal::NotTaken);
        }
    }

    fn hands_out(self: &Rc<Self>, bytes: Bytes) -> Piece {
        let streams = &self.streams;
        self.blocked_since.set(Some(Instant::now()));
        streams.blocked.set(streams.blocked.get() + 1);
        streams.look();
        Piece {
            bytes,
            stream: self.clone(),
        }
    }

    fn has_written(&self) {
        let streams = &self.streams;
        self.blocked_since.set(None);
        streams.blocked.set(streams.blocked.get() - 1);
        // Its end, or the next piece, is still to be sent.
        streams.look();
        self.waker.borrow().wake_by_ref();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let streams = &self.streams;
        streams.open.set(streams.open.get() - 1);
        streams.look();
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for StreamTasks {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(self.0.begin().run(future));
    }
}

impl TrackedAnswering {
    pub(super) const fn new(answering: Answering, streams: Rc<Streams>) -> Self {
        Self { answering, streams }
    }
}

impl Future for TrackedAnswering {
    type Output = Result<Response<TrackedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.answering).poll(cx));
        let stream = self.streams.current();
        Poll::Ready(Ok(response.map(|body| TrackedBody {
            body,
            rest: Bytes::new(),
            stream,
        })))
    }
}

impl http_body::Body for TrackedBody {
    type Data = Piece;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Self::Error>>> {
        if self.stream.blocked_since.get().is_some() {
            self.stream.waker.borrow_mut().clone_from(cx.waker());
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => {
                        let other = other.map_data(|data| self.stream.hands_out(data));
                        return Poll::Ready(Some(Ok(other)));
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.rest.len().min(MAX_PIECE_BYTES);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(self.stream.hands_out(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
            && self.stream.blocked_since.get().is_none()
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(exact) = hint.exact() {
            hint.set_exact(exact + rest);
        }
        hint
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.stream.has_written();
    }
}
