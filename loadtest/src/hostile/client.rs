//! A client that sends raw bytes and reads responses: several requests are pipelined on a connection, or one
//! request has its own connection. Responses are evaluated in `oracle`.

use super::case::Case;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A later response counts as none.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum length of a response.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpResponse {
    pub(super) status: u16,
    pub(super) text: String,
    closes: bool,
}

impl HttpResponse {
    /// A response as the client would read it.
    #[cfg(test)]
    pub(super) fn new(status: u16, text: &str) -> Self {
        Self {
            status,
            text: text.into(),
            closes: false,
        }
    }
}

/// Sends requests over one connection, which is reopened after the edge closed it.
#[derive(Debug)]
pub(super) struct PipelinedClient {
    edge: SocketAddr,
    open: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl PipelinedClient {
    pub(super) const fn new(edge: SocketAddr) -> Self {
        Self { edge, open: None }
    }

    /// Sends all requests and then reads the responses. An error stands for the response that was missing when the
    /// connection ended.
    pub(super) async fn send_all(&mut self, cases: &[&Case]) -> Vec<io::Result<HttpResponse>> {
        let mut responses = Vec::new();
        while responses.len() < cases.len() {
            let left = &cases[responses.len()..];
            match self.send_batch(left, &mut responses).await {
                Ok(()) => {}
                Err(error) => {
                    self.open = None;
                    responses.push(Err(error));
                }
            }
        }
        responses
    }

    /// Reads as many responses as one connection delivers.
    async fn send_batch(
        &mut self,
        cases: &[&Case],
        responses: &mut Vec<io::Result<HttpResponse>>,
    ) -> io::Result<()> {
        let mut connection = match self.open.take() {
            Some(open) => open,
            None => Connection::open(self.edge).await?,
        };
        let bytes: Vec<u8> = cases.iter().flat_map(|case| &case.bytes).copied().collect();
        connection.stream.write_all(&bytes).await?;
        for case in cases {
            let response = connection.response(case.head).await?;
            let response = response.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let closes = response.closes;
            responses.push(Ok(response));
            if closes {
                return Ok(());
            }
        }
        self.open = Some(connection);
        Ok(())
    }
}

/// Sends a request over its own connection and reads while sending.
pub(super) async fn send_on_own_connection(
    edge: SocketAddr,
    case: &Case,
) -> io::Result<HttpResponse> {
    let connection = Connection::open(edge).await?;
    let (mut reading, mut writing) = connection.stream.into_split();
    let bytes = case.bytes.clone();
    // The edge stops reading a request that it rejects early.
    let sending = tokio::spawn(async move {
        let _ = writing.write_all(&bytes).await;
        writing
    });
    let mut read = Vec::new();
    let response = answer_from(&mut reading, &mut read, case.head).await;
    sending.abort();
    response?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends bytes that are not HTTP and reads all responses until the connection ends.
pub(super) async fn send_raw(edge: SocketAddr, case: &Case) -> io::Result<Vec<HttpResponse>> {
    let mut connection = Connection::open(edge).await?;
    // The edge may have closed the connection in the middle, which is a valid result.
    let _ = connection.stream.write_all(&case.bytes).await;
    let _ = connection.stream.shutdown().await;
    let mut responses = Vec::new();
    loop {
        match connection.response(case.head).await {
            Ok(Some(response)) => responses.push(response),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Ok(None) | Err(_) => return Ok(responses),
        }
    }
}

impl Connection {
    async fn open(edge: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(edge).await?;
        stream.set_nodelay(true)?;
        let read = Vec::new();
        Ok(Self { stream, read })
    }

    async fn response(&mut self, head: bool) -> io::Result<Option<HttpResponse>> {
        answer_from(&mut self.stream, &mut self.read, head).await
    }
}

/// The next response; `None` if the connection ended before it.
async fn answer_from(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    head: bool,
) -> io::Result<Option<HttpResponse>> {
    let wanted = async {
        loop {
            if let Some((response, length)) = parsed(read, head)? {
                read.drain(..length);
                // `100 Continue` is not the final response.
                if response.status != 100 {
                    return Ok(Some(response));
                }
                continue;
            }
            if stream.read_buf(read).await? == 0 {
                return if read.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    };
    timeout(RESPONSE_TIMEOUT, wanted)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A response and its length, once it is complete.
fn parsed(bytes: &[u8], head: bool) -> io::Result<Option<(HttpResponse, usize)>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if bytes.len() > MAX_RESPONSE_BYTES {
        return Err(wrong("an answer is longer than any should be"));
    }
    let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("a head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
    let status: u16 = status.ok_or_else(|| wrong("an answer does not begin as one"))?;
    let mut length = Some(0);
    let mut closes = false;
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok(),
            "transfer-encoding" => length = None,
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let length: usize = length.ok_or_else(|| wrong("an answer's length is not told"))?;
    let length = if head || status == 100 { 0 } else { length };
    let whole = end + 4 + length;
    let response_and_length = bytes.get(end + 4..whole).map(|body| {
        let text = String::from_utf8_lossy(body).into_owned();
        let response = HttpResponse {
            status,
            text,
            closes,
        };
        (response, whole)
    });
    Ok(response_and_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelined_responses_are_parsed_in_order() {
        let two = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOKHTTP/1.1 405 No\r\nConnection: close\r\ncontent-length: 9\r\n\r\n";
        let (first, length) = parsed(two, false).expect("HTTP").expect("whole");
        assert_eq!(
            (first.status, first.text.as_str(), first.closes),
            (200, "OK", false)
        );
        assert_eq!(parsed(&two[length..], false).expect("HTTP"), None);
        let (second, _) = parsed(&two[length..], true).expect("HTTP").expect("whole");
        assert_eq!(
            (second.status, second.text.as_str(), second.closes),
            (405, "", true)
        );
        assert!(parsed(b"SSH-2.0\r\n\r\n", false).is_err());
    }
}
