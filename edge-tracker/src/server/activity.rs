//! A connection's stream that tracks whether the connection is in the middle of a request or response. The end of
//! an HTTP/1.1 head is recognised by its last bytes, HTTP/2 frames by their lengths; request targets are escaped
//! for the parser.
//!
//! The stream below may be anything that reads and writes, a socket or TLS over one. Descriptors never belong here,
//! nor the meaning of requests.

use super::connections::ConnectionState;
use super::h2_frame_tracker::H2FrameTracker;
use super::request_target::RequestTarget;
use super::streams::Streams;
use bytes::{Buf, BytesMut};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::task::coop::unconstrained;

/// A stream that a connection is served over.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Transport for S {}

/// Yields the bytes read during protocol detection, then those of the stream.
#[derive(Debug)]
pub(super) struct ActivityTrackingStream<S> {
    prefix: BytesMut,
    stream: S,
    state: Rc<ConnectionState>,
    progress: Progress,
}

/// How far requests have been read.
#[derive(Debug)]
enum Progress {
    /// The protocol is not known yet.
    Unknown,
    Http1 {
        /// The last bytes that were read: heads end with an empty line.
        last: [u8; 4],
        /// Whether the parser has seen all of them.
        all: bool,
        target: RequestTarget,
        /// Set once a request had a body: from then on an empty line may be in one.
        bodies: Rc<Cell<bool>>,
    },
    Http2 {
        frames: H2FrameTracker,
        streams: Rc<Streams>,
    },
}

impl<S: Transport> ActivityTrackingStream<S> {
    pub(super) fn new(stream: S, state: Rc<ConnectionState>) -> Self {
        Self {
            prefix: BytesMut::new(),
            stream,
            state,
            progress: Progress::Unknown,
        }
    }

    /// Parses the remaining stream as HTTP/1.1, beginning with `prefix`, which was read before. `bodies` is set as soon as
    /// a request has a body.
    pub(super) fn as_http1(&mut self, prefix: BytesMut, bodies: Rc<Cell<bool>>) {
        let mut target = RequestTarget::default();
        self.prefix = target.escape(&prefix).unwrap_or(prefix);
        self.progress = Progress::Http1 {
            last: [0; 4],
            all: false,
            target,
            bodies,
        };
    }

    /// Parses the remaining stream as HTTP/2, beginning with `prefix`, which was read before.
    pub(super) fn as_http2(&mut self, prefix: BytesMut, streams: Rc<Streams>) {
        self.prefix = prefix;
        self.progress = Progress::Http2 {
            frames: H2FrameTracker::new(),
            streams,
        };
    }

    /// Sends as many of `bytes` as the stream accepts at once, before the connection is closed.
    pub(super) async fn send_before_close(&mut self, bytes: &[u8]) {
        let stream = &mut self.stream;
        let mut sending = pin!(unconstrained(async {
            stream.write_all(bytes).await?;
            stream.flush().await
        }));
        // The client may have closed the connection, or not read the bytes that were sent before.
        let _: Poll<io::Result<()>> = poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
    }

    /// Marks the connection idle: only a PROXY header has been read.
    pub(super) fn await_first_request(&self) {
        self.state.mark_idle();
    }

    /// Follows `bytes` that are handed to the reader.
    fn track(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.progress {
            Progress::Unknown => self.state.mark_busy(),
            Progress::Http1 { last, all, .. } => {
                *all = false;
                match bytes.last_chunk() {
                    Some(chunk) => *last = *chunk,
                    None => {
                        last.rotate_left(bytes.len());
                        last[4 - bytes.len()..].copy_from_slice(bytes);
                    }
                }
                self.state.mark_busy();
            }
            Progress::Http2 { frames, streams } => {
                frames.advance(bytes);
                streams.head_progressed(frames.is_between_heads());
            }
        }
    }

    /// Marks the connection idle when it is between requests, else busy.
    fn update_activity(&self) {
        match &self.progress {
            Progress::Unknown => {}
            Progress::Http1 { last, all, .. } => {
                if *all && ends_head(last) {
                    self.state.mark_idle();
                } else {
                    self.state.mark_busy();
                }
            }
            Progress::Http2 { streams, .. } => streams.update_activity(),
        }
    }

    /// Escapes the target in the bytes after `before`, where the parser would refuse it.
    fn escape_target(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if let Progress::Http1 {
            last,
            target,
            bodies,
            ..
        } = &mut self.progress
            && !bodies.get()
        {
            if ends_head(last) {
                target.begin();
            }
            if let Some(escaped) = target.escape(&buf.filled()[before..]) {
                buf.set_filled(before);
                self.prefix = escaped;
            }
        }
    }

    /// Records whether the client keeps the edge from sending.
    fn set_blocked(&self, blocked: bool) {
        if blocked != self.state.is_blocked() {
            self.state.set_blocked(blocked);
            self.update_activity();
        }
    }
}

/// Whether a head ends with these bytes.
fn ends_head(last: &[u8; 4]) -> bool {
    last.ends_with(b"\n\r\n") || last.ends_with(b"\n\n")
}

impl<S: Transport> AsyncRead for ActivityTrackingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.prefix.is_empty() {
            let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
            if polled.is_pending() {
                if let Progress::Http1 { all, .. } = &mut self.progress {
                    *all = true;
                }
                self.update_activity();
            }
            ready!(polled)?;
            self.escape_target(buf, before);
        }
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..length]);
            self.prefix.advance(length);
            if self.prefix.is_empty() {
                self.prefix = BytesMut::new();
            }
        }
        self.track(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for ActivityTrackingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.set_blocked(match &polled {
            Poll::Ready(Ok(length)) => *length < buf.len(),
            Poll::Ready(Err(_)) => false,
            Poll::Pending => true,
        });
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Streams with a buffer of their own accept bytes that the client does not read.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.set_blocked(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
