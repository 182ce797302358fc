//! Reads and writes messages on a byte stream, such as a QUIC stream; every length is checked first.

use crate::wire::check_length;
use crate::{Message, WireError};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The step in which memory is allocated as bytes arrive, independent of the announced length.
const READ_STEP_BYTES: usize = 256 * 1024;

/// A message that can't be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The stream failed, or ended within a message.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The received bytes are not a message.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A message that can't be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The message exceeds its limit.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Reads the next message of at most `limit` bytes; `None` at the end of the stream.
///
/// Not cancel safe: a partially read message is lost when the future is dropped.
///
/// # Errors
/// When the stream fails or the received bytes are not a message within the limit.
pub async fn read_message<M: Message>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<M>, ReadError> {
    let mut length = [0; 4];
    let received = stream.read(&mut length).await?;
    if received == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[received..]).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    check_length(length, limit)?;
    Ok(Some(M::from_body(&read_body(stream, length).await?)?))
}

/// Writes one message and returns its length on the stream, in bytes.
///
/// Not cancel safe: a part of the message may have been written when the future is dropped.
///
/// # Errors
/// When the stream fails or the message exceeds its limit.
pub async fn write_message<M: Message>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<usize, WriteError> {
    let frame = message.to_frame()?;
    stream.write_all(&frame).await?;
    Ok(frame.len())
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(length.min(READ_STEP_BYTES));
    let mut stream = stream.take(u64::try_from(length).unwrap_or(u64::MAX));
    while body.len() < length {
        body.reserve((length - body.len()).min(READ_STEP_BYTES));
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body)
}
