//! An accepted TCP connection: the only code that uses its descriptor. The layers above, such as TLS, see a stream of
//! bytes.

use super::connections::ConnectionState;
use socket2::SockRef;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Buffer of the final read from a socket before it is closed.
const FINAL_READ_BYTES: usize = 4_096;

/// A socket that is read to its end before its connection is evicted.
#[derive(Debug)]
pub(super) struct AcceptedSocket {
    stream: TcpStream,
    state: Rc<ConnectionState>,
}

impl AcceptedSocket {
    pub(super) const fn new(stream: TcpStream, state: Rc<ConnectionState>) -> Self {
        Self { stream, state }
    }

    /// Reads from the socket itself: the runtime only knows the readiness of its last poll.
    fn final_read(&self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; FINAL_READ_BYTES];
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

impl AsyncRead for AcceptedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_pending() && self.state.is_evicted() {
            return self.final_read(buf);
        }
        polled
    }
}

impl AsyncWrite for AcceptedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection is dropped next, and closing the socket has the same effect for the client.
        Poll::Ready(Ok(()))
    }
}
