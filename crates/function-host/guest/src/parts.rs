//! An answer in parts, as a script says: `1,50ms,20000,panic` is a byte, a while, 20,000 bytes and a panic.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub(crate) struct Parts {
    script: VecDeque<String>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Parts {
    pub(crate) fn of(script: &str) -> Self {
        Self {
            script: script.split(',').map(str::to_owned).collect(),
            waiting: None,
        }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        let Some(step) = self.script.pop_front() else {
            return Poll::Ready(None);
        };
        match step.as_str() {
            "panic" => panic!("as asked"),
            "spin" => loop {
                std::hint::black_box(cx.waker());
            },
            wait if wait.ends_with("ms") => {
                let time = wait.trim_end_matches("ms").parse();
                let time = Duration::from_millis(time.expect("a number of milliseconds"));
                self.waiting = Some(Box::pin(spin_sdk::time::sleep(time)));
                self.poll_frame(cx)
            }
            bytes => {
                let bytes = bytes.parse().expect("a number of bytes");
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))))
            }
        }
    }
}
