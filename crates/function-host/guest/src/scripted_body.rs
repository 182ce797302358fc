//! A response body in parts, by a script: `1,50ms,20000,panic` is one byte, a wait, 20,000 bytes, and a panic.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub(crate) struct ScriptedBody {
    steps: VecDeque<String>,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl ScriptedBody {
    pub(crate) fn new(script: &str) -> Self {
        Self {
            steps: script.split(',').map(str::to_owned).collect(),
            wait: None,
        }
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        let Some(step) = self.steps.pop_front() else {
            return Poll::Ready(None);
        };
        match step.as_str() {
            "panic" => panic!("panic requested"),
            "spin" => loop {
                std::hint::black_box(cx.waker());
            },
            step if step.ends_with("ms") => {
                let time = step.trim_end_matches("ms").parse();
                let time = Duration::from_millis(time.expect("number of milliseconds"));
                self.wait = Some(Box::pin(spin_sdk::time::sleep(time)));
                self.poll_frame(cx)
            }
            step => {
                let bytes = step.parse().expect("number of bytes");
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; bytes])))))
            }
        }
    }
}
