//! A client that sends bytes as they are and reads answers: several requests on a connection before the
//! first answer, or one connection for what may break it. What an answer means is `judge`'s.

use super::case::Case;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whoever is not answered within this is taken for never answered.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer is not longer than this, in bytes.
const LONGEST: usize = 64 << 10;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
    closes: bool,
}

impl Answer {
    /// As it would be read.
    #[cfg(test)]
    pub(super) fn new(status: u16, text: &str) -> Self {
        Self {
            status,
            text: text.into(),
            closes: false,
        }
    }
}

/// One after another over one connection, which is made anew when the edge says that it closes it.
#[derive(Debug)]
pub(super) struct Lane {
    edge: SocketAddr,
    open: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Lane {
    pub(super) const fn new(edge: SocketAddr) -> Self {
        Self { edge, open: None }
    }

    /// Sends all of them, and only then reads the answers; an error stands for the answer that the
    /// connection ended without.
    pub(super) async fn ask(&mut self, cases: &[&Case]) -> Vec<io::Result<Answer>> {
        let mut answers = Vec::new();
        while answers.len() < cases.len() {
            let left = &cases[answers.len()..];
            match self.some(left, &mut answers).await {
                Ok(()) => {}
                Err(error) => {
                    self.open = None;
                    answers.push(Err(error));
                }
            }
        }
        answers
    }

    /// As many answers as there are on one connection.
    async fn some(
        &mut self,
        cases: &[&Case],
        answers: &mut Vec<io::Result<Answer>>,
    ) -> io::Result<()> {
        let mut connection = match self.open.take() {
            Some(open) => open,
            None => Connection::open(self.edge).await?,
        };
        let bytes: Vec<u8> = cases.iter().flat_map(|case| &case.bytes).copied().collect();
        connection.stream.write_all(&bytes).await?;
        for case in cases {
            let answer = connection.answer(case.head).await?;
            let answer = answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let closes = answer.closes;
            answers.push(Ok(answer));
            if closes {
                return Ok(());
            }
        }
        self.open = Some(connection);
        Ok(())
    }
}

/// Sends it over a connection of its own, reading meanwhile.
pub(super) async fn ask_alone(edge: SocketAddr, case: &Case) -> io::Result<Answer> {
    let connection = Connection::open(edge).await?;
    let (mut reading, mut writing) = connection.stream.into_split();
    let bytes = case.bytes.clone();
    // Who is refused early is not read to the end.
    let sending = tokio::spawn(async move {
        let _ = writing.write_all(&bytes).await;
        writing
    });
    let mut read = Vec::new();
    let answer = answer_from(&mut reading, &mut read, case.head).await;
    sending.abort();
    answer?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends what is not HTTP, and reads whatever is said to it until the connection ends.
pub(super) async fn ask_nonsense(edge: SocketAddr, case: &Case) -> io::Result<Vec<Answer>> {
    let mut connection = Connection::open(edge).await?;
    // It may have been closed in the middle, and that is an answer.
    let _ = connection.stream.write_all(&case.bytes).await;
    let _ = connection.stream.shutdown().await;
    let mut answers = Vec::new();
    loop {
        match connection.answer(case.head).await {
            Ok(Some(answer)) => answers.push(answer),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Ok(None) | Err(_) => return Ok(answers),
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

    async fn answer(&mut self, head: bool) -> io::Result<Option<Answer>> {
        answer_from(&mut self.stream, &mut self.read, head).await
    }
}

/// The next answer; none when the connection ended before it began.
async fn answer_from(
    stream: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    head: bool,
) -> io::Result<Option<Answer>> {
    let wanted = async {
        loop {
            if let Some((answer, length)) = parsed(read, head)? {
                read.drain(..length);
                // That the body may be sent is no answer yet.
                if answer.status != 100 {
                    return Ok(Some(answer));
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
    timeout(PATIENCE, wanted)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// An answer and its length, once it is all there.
fn parsed(bytes: &[u8], head: bool) -> io::Result<Option<(Answer, usize)>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if bytes.len() > LONGEST {
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
    let answered = bytes.get(end + 4..whole).map(|body| {
        let text = String::from_utf8_lossy(body).into_owned();
        let answer = Answer {
            status,
            text,
            closes,
        };
        (answer, whole)
    });
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_another() {
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
