//! The streams of one HTTP/2 connection, and those among them that the client blocks.
//!
//! hyper hands a body's data to its stream without waiting until it is written, so nothing limits how long a
//! closed window delays it. Here each chunk reports when it was written, a body ends only after its last chunk was
//! written, and a stream is reset when its client does not read a chunk in time.

use super::connections::ConnectionState;
use super::response_future::{Body, ResponseFuture};
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

/// The longest chunk of a body, which a client must read within the write timeout.
const MAX_CHUNK_BYTES: usize = 16 << 10;

/// The open streams of a connection.
pub(super) struct Streams {
    path: Rc<ClickPath>,
    state: Rc<ConnectionState>,
    write_timeout: Duration,
    open: Cell<usize>,
    blocked: Cell<usize>,
    /// Whether no request's head is incomplete.
    between_heads: Cell<bool>,
    /// The stream whose task is running.
    current: RefCell<Option<Rc<Stream>>>,
}

/// One stream, for as long as its task or a chunk of its body exists.
struct Stream {
    streams: Rc<Streams>,
    /// Since when a chunk of the body waits to be written.
    blocked_since: Cell<Option<Instant>>,
    /// Wakes the task when the chunk is written.
    waker: RefCell<Waker>,
}

/// Runs streams on the thread of their connection.
#[derive(Clone)]
pub(super) struct StreamTasks(pub(super) Rc<Streams>);

/// A response whose body is a [`TrackedBody`].
pub(super) struct TrackedResponseFuture {
    response_future: ResponseFuture,
    streams: Rc<Streams>,
}

/// A body that yields a chunk only after the previous one was written.
pub(super) struct TrackedBody {
    body: Body,
    remaining: Bytes,
    stream: Rc<Stream>,
}

/// A chunk of a body; it is dropped once it was written or its stream has ended.
pub(super) struct Chunk {
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
    pub(super) fn new(
        path: Rc<ClickPath>,
        state: Rc<ConnectionState>,
        write_timeout: Duration,
    ) -> Rc<Self> {
        Rc::new(Self {
            path,
            state,
            write_timeout,
            open: Cell::new(0),
            blocked: Cell::new(0),
            between_heads: Cell::new(true),
            current: RefCell::default(),
        })
    }

    /// Records whether the client is between the heads of two requests.
    pub(super) fn head_progressed(&self, between_heads: bool) {
        self.between_heads.set(between_heads);
        self.update_activity();
    }

    /// Marks the connection idle when no stream waits for the edge, else busy.
    pub(super) fn update_activity(&self) {
        if self.between_heads.get() && self.open == self.blocked {
            self.state.mark_idle();
        } else {
            self.state.mark_busy();
        }
    }

    fn open_stream(self: &Rc<Self>) -> Rc<Stream> {
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
        let finished_in_time = poll_fn(|cx| {
            let previous = self.streams.current.replace(Some(self.clone()));
            let polled = task.as_mut().poll(cx);
            self.streams.current.replace(previous);
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
        if !finished_in_time.await {
            self.streams.path.metrics().refused(Refusal::NotTaken);
        }
    }

    fn start_chunk(self: &Rc<Self>, bytes: Bytes) -> Chunk {
        let streams = &self.streams;
        self.blocked_since.set(Some(Instant::now()));
        streams.blocked.set(streams.blocked.get() + 1);
        streams.update_activity();
        Chunk {
            bytes,
            stream: self.clone(),
        }
    }

    fn finish_chunk(&self) {
        let streams = &self.streams;
        self.blocked_since.set(None);
        streams.blocked.set(streams.blocked.get() - 1);
        // The end of the body, or the next chunk, is still to be sent.
        streams.update_activity();
        self.waker.borrow().wake_by_ref();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let streams = &self.streams;
        streams.open.set(streams.open.get() - 1);
        streams.update_activity();
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for StreamTasks {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(self.0.open_stream().run(future));
    }
}

impl TrackedResponseFuture {
    pub(super) const fn new(response_future: ResponseFuture, streams: Rc<Streams>) -> Self {
        Self {
            response_future,
            streams,
        }
    }
}

impl Future for TrackedResponseFuture {
    type Output = Result<Response<TrackedBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(Pin::new(&mut self.response_future).poll(cx));
        let stream = self.streams.current();
        Poll::Ready(Ok(response.map(|body| TrackedBody {
            body,
            remaining: Bytes::new(),
            stream,
        })))
    }
}

impl http_body::Body for TrackedBody {
    type Data = Chunk;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Self::Error>>> {
        if self.stream.blocked_since.get().is_some() {
            self.stream.waker.borrow_mut().clone_from(cx.waker());
            return Poll::Pending;
        }
        while self.remaining.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.remaining = data,
                    Err(other) => {
                        let other = other.map_data(|data| self.stream.start_chunk(data));
                        return Poll::Ready(Some(Ok(other)));
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = self.remaining.len().min(MAX_CHUNK_BYTES);
        let chunk = self.remaining.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(self.stream.start_chunk(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining.is_empty()
            && self.stream.blocked_since.get().is_none()
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let remaining = self.remaining.len() as u64;
        if let Some(exact) = hint.exact() {
            hint.set_exact(exact + remaining);
        }
        hint
    }
}

impl Buf for Chunk {
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

impl Drop for Chunk {
    fn drop(&mut self) {
        self.stream.finish_chunk();
    }
}
