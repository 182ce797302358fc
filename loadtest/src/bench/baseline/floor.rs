//! One read and one write per request on one thread: the lower bound of the cost of a server on sockets.

use super::LOCATION;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};

const LISTENER: Token = Token(usize::MAX);

pub(super) fn serve(listener: std::net::TcpListener) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listener);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut streams: HashMap<Token, TcpStream> = HashMap::new();
    let mut events = Events::with_capacity(1_024);
    let mut next = 0;
    let response = format!(
        "HTTP/1.1 302 Found\r\nlocation: {LOCATION}\r\ncache-control: no-store\r\n\
         content-length: 0\r\ndate: Mon, 23 Nov 2026 04:00:00 GMT\r\n\r\n"
    );
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Some(mut stream) = accept(&listener)? {
                    let token = Token(next);
                    next += 1;
                    stream.set_nodelay(true)?;
                    poll.registry()
                        .register(&mut stream, token, Interest::READABLE)?;
                    streams.insert(token, stream);
                }
            } else if let Some(stream) = streams.get_mut(&event.token())
                && !respond(stream, response.as_bytes())
            {
                streams.remove(&event.token());
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Responds to what was read as to one request; returns whether the connection stays open.
fn respond(stream: &mut TcpStream, response: &[u8]) -> bool {
    let mut request = [0; 4_096];
    match stream.read(&mut request) {
        Ok(0) => false,
        Ok(length) => {
            let asks_to_close = request[..length]
                .windows(17)
                .any(|text| text == b"Connection: close");
            stream.write_all(response).is_ok() && !asks_to_close
        }
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
