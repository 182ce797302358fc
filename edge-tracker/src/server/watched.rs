//! A connection's stream, watched for whether it is in the middle of a request or an answer. What
//! requests say never belongs here: heads are told by their last bytes, frames by their lengths; and
//! targets are made readable for the parser.

use super::frames::Frames;
use super::lives::Life;
use super::request_target::RequestTarget;
use super::streams::Streams;
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use std::cell::Cell;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at a time by the last look at a socket before it is closed.
const LAST_LOOK_BYTES: usize = 4_096;

/// Yields what was read before it was known what follows, then what comes from the stream.
#[derive(Debug)]
pub(super) struct Watched {
    prefix: BytesMut,
    stream: TcpStream,
    life: Rc<Life>,
    read: Read,
}

/// How far requests have been read.
#[derive(Debug)]
enum Read {
    /// Not known yet which protocol it is.
    Unknown,
    /// The last bytes that were read, and whether all were looked at: heads end with an empty line.
    Http1 {
        last: [u8; 4],
        all: bool,
        target: RequestTarget,
        /// Set once a request had a body: from then on an empty line may be in one.
        bodies: Rc<Cell<bool>>,
    },
    Http2 {
        frames: Frames,
        streams: Rc<Streams>,
    },
}

impl Watched {
    /// Nothing has been read of it yet.
    pub(super) fn new(stream: TcpStream, life: Rc<Life>) -> Self {
        Self {
            prefix: BytesMut::new(),
            stream,
            life,
            read: Read::Unknown,
        }
    }

    /// What was read of it so far belongs to HTTP/1.1 and is to be read again. The cell is set as soon as a
    /// request has a body.
    pub(super) fn as_http1(&mut self, prefix: BytesMut, bodies: Rc<Cell<bool>>) {
        let mut target = RequestTarget::default();
        self.prefix = target.mend(&prefix).unwrap_or(prefix);
        self.read = Read::Http1 {
            last: [0; 4],
            all: false,
            target,
            bodies,
        };
    }

    /// What was read of it so far belongs to HTTP/2 and is to be read again.
    pub(super) fn as_http2(&mut self, prefix: BytesMut, streams: Rc<Streams>) {
        self.prefix = prefix;
        self.read = Read::Http2 {
            frames: Frames::new(),
            streams,
        };
    }

    /// Sends `bytes` as far as there is room for them, before the connection is closed.
    pub(super) fn send_last(&self, bytes: &[u8]) {
        // The client may have gone.
        let _ = self.stream.try_write(bytes);
    }

    /// Nothing of a request has been read yet.
    pub(super) fn nothing_asked(&self) {
        self.life.rests();
    }

    /// Takes note of `bytes` that are given to who asked for them.
    fn passed_on(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match &mut self.read {
            Read::Unknown => self.life.works(),
            Read::Http1 { last, all, .. } => {
                *all = false;
                match bytes.last_chunk() {
                    Some(chunk) => *last = *chunk,
                    None => {
                        last.rotate_left(bytes.len());
                        last[4 - bytes.len()..].copy_from_slice(bytes);
                    }
                }
                self.life.works();
            }
            Read::Http2 { frames, streams } => {
                frames.pass(bytes);
                streams.read(frames.between());
            }
        }
    }

    /// Tells the connection's life whether it is between requests.
    fn look(&self) {
        match &self.read {
            Read::Unknown => {}
            Read::Http1 { last, all, .. } => {
                if *all && ends_head(last) {
                    self.life.rests();
                } else {
                    self.life.works();
                }
            }
            Read::Http2 { streams, .. } => streams.look(),
        }
    }

    /// Makes what was read beyond `before` readable for the parser.
    fn mend(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        if let Read::Http1 {
            last,
            target,
            bodies,
            ..
        } = &mut self.read
            && !bodies.get()
        {
            if ends_head(last) {
                target.begin();
            }
            if let Some(mended) = target.mend(&buf.filled()[before..]) {
                buf.set_filled(before);
                self.prefix = mended;
            }
        }
    }

    /// Reads past the runtime, which only knows what the system told it at its last look.
    fn last_look(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; LAST_LOOK_BYTES];
        let room = buf.remaining().min(bytes.len());
        match (&*SockRef::from(&self.stream)).read(&mut bytes[..room]) {
            Ok(length) => {
                buf.put_slice(&bytes[..length]);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// Whether a head ends with these bytes.
fn ends_head(last: &[u8; 4]) -> bool {
    last.ends_with(b"\n\r\n") || last.ends_with(b"\n\n")
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.prefix.is_empty() {
            let mut polled = Pin::new(&mut self.stream).poll_read(cx, buf);
            if polled.is_pending() && self.life.is_leaving() {
                polled = self.last_look(buf);
            }
            if polled.is_pending() {
                if let Read::Http1 { all, .. } = &mut self.read {
                    *all = true;
                }
                self.look();
            }
            ready!(polled)?;
            self.mend(buf, before);
        }
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..length]);
            self.prefix.advance(length);
            if self.prefix.is_empty() {
                self.prefix = BytesMut::new();
            }
        }
        self.passed_on(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        let blocked = match &polled {
            Poll::Ready(Ok(length)) => *length < buf.len(),
            Poll::Ready(Err(_)) => false,
            Poll::Pending => true,
        };
        if blocked != self.life.is_blocked() {
            self.life.blocks(blocked);
            self.look();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection is dropped next, and closing it says the same to the client.
        Poll::Ready(Ok(()))
    }
}
