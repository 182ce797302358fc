//! Messages on a byte stream, such as QUIC's; nothing is trusted before its length was checked.

use crate::wire::check_length;
use crate::{Message, WireError};
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Memory is taken in steps of this many bytes, as bytes arrive, not as a length promises them.
const STEP: usize = 256 * 1024;

/// A message could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The stream broke, or ended inside a message.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// What arrived is not a message.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A message could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The message is above its limit.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Reads the next message of at most `limit` bytes; `None` when the stream ended before one.
///
/// Not cancel safe: a message that was begun is lost when the future is dropped.
///
/// # Errors
/// When the stream breaks or what arrives is not a message within the limit.
pub async fn read_message<M: Message>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<M>, ReadError> {
    let mut length = [0; 4];
    let begun = stream.read(&mut length).await?;
    if begun == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[begun..]).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    check_length(length, limit)?;
    Ok(Some(M::from_body(&read_body(stream, length).await?)?))
}

/// Writes one message and returns its length on the stream, in bytes.
///
/// Not cancel safe: half a message may have been written when the future is dropped.
///
/// # Errors
/// When the stream breaks or the message is above its limit.
pub async fn write_message<M: Message>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<usize, WriteError> {
    let frame = message.to_frame()?;
    stream.write_all(&frame).await?;
    Ok(frame.len())
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(length.min(STEP));
    let mut stream = stream.take(u64::try_from(length).unwrap_or(u64::MAX));
    while body.len() < length {
        body.reserve((length - body.len()).min(STEP));
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(body)
}
