//! Sends responses from the threads of functions to the runtimes that await them. Responses that become ready shortly
//! after each other are sent as a batch: the awaiting thread wakes once for all of them.

use crate::response_body::Body;
use http::Response;
use std::cell::RefCell;
use std::mem;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

const MAX_BATCH_RESPONSES: usize = 16;
/// The age of a batch at which the next response sends it.
const MAX_BATCH_DELAY: Duration = Duration::from_micros(500);

/// Sends the head of one response, with its body as far as it is complete.
pub(crate) struct ResponseSender {
    channel: oneshot::Sender<Response<Body>>,
    /// The runtime that awaits the response.
    runtime: Handle,
}

/// A thread's responses that were not sent yet.
struct ResponseBatch {
    /// When the first of the responses was added.
    since: Instant,
    responses: Vec<(ResponseSender, Response<Body>)>,
}

thread_local! {
    /// `None` on threads that send each response at once.
    static BATCH: RefCell<Option<ResponseBatch>> = const { RefCell::new(None) };
}

impl ResponseSender {
    /// A sender and its receiver; the present runtime awaits the response.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Response<Body>>) {
        let (channel, receiver) = oneshot::channel();
        let runtime = Handle::current();
        (Self { channel, runtime }, receiver)
    }

    /// Returns when the receiver is dropped.
    pub(crate) async fn closed(&mut self) {
        self.channel.closed().await;
    }

    /// Sends `response`, at the latest with [`flush`]; false if the receiver is dropped.
    pub(crate) fn send(self, response: Response<Body>) -> bool {
        if self.channel.is_closed() {
            return false;
        }
        let is_full = BATCH.with_borrow_mut(|batch| match batch {
            Some(batch) => {
                if batch.responses.is_empty() {
                    batch.since = Instant::now();
                }
                batch.responses.push((self, response));
                batch.responses.len() >= MAX_BATCH_RESPONSES
                    || batch.since.elapsed() >= MAX_BATCH_DELAY
            }
            None => {
                // The receiver may have been dropped by now.
                let _ = self.channel.send(response);
                false
            }
        });
        if is_full {
            flush();
        }
        true
    }
}

/// Makes this thread send its responses in batches. It must call [`flush`] before it parks.
pub(crate) fn enable_batching() {
    BATCH.set(Some(ResponseBatch {
        since: Instant::now(),
        responses: Vec::new(),
    }));
}

/// Sends this thread's batch.
pub(crate) fn flush() {
    let responses = BATCH.with_borrow_mut(|batch| {
        let batch = batch.as_mut();
        batch.map(|batch| mem::take(&mut batch.responses))
    });
    let mut remaining = responses.unwrap_or_default();
    while let Some((first, _)) = remaining.first() {
        let runtime = first.runtime.clone();
        let (of_runtime, of_others) = remaining
            .into_iter()
            .partition(|(sender, _)| sender.runtime.id() == runtime.id());
        remaining = of_others;
        runtime.spawn(send_all(of_runtime));
    }
}

/// Runs in the awaiting runtime: the first response wakes it, and it finds the others ready.
async fn send_all(responses: Vec<(ResponseSender, Response<Body>)>) {
    for (sender, response) in responses {
        // The receiver may have been dropped by now.
        let _ = sender.channel.send(response);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::StatusCode;
    use std::thread;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot::Receiver;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("runtime")
    }

    /// A sender whose response `runtime` awaits.
    fn sender_to(runtime: &Runtime) -> (ResponseSender, Receiver<Response<Body>>) {
        let _entered = runtime.enter();
        ResponseSender::new()
    }

    fn response(status: u16) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::new()));
        *response.status_mut() = StatusCode::from_u16(status).expect("valid status");
        response
    }

    fn received(runtime: &Runtime, receiver: Receiver<Response<Body>>) -> u16 {
        let response = runtime.block_on(receiver);
        response.expect("response sent").status().as_u16()
    }

    #[test]
    fn batch_delivers_each_response_to_its_runtime() {
        let runtimes = [runtime(), runtime()];
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..6).map(|at| sender_to(&runtimes[at % 2])).unzip();
        let sending = thread::spawn(move || {
            enable_batching();
            for (sender, status) in senders.into_iter().zip(200..) {
                assert!(sender.send(response(status)), "every receiver waits");
            }
            flush();
        });
        sending.join().expect("batch sent");
        for (at, receiver) in receivers.into_iter().enumerate() {
            assert_eq!(usize::from(received(&runtimes[at % 2], receiver)), 200 + at);
        }
    }

    #[test]
    fn full_batch_is_sent_without_flush() {
        let runtime = runtime();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..MAX_BATCH_RESPONSES)
            .map(|_| sender_to(&runtime))
            .unzip();
        let (last, last_receiver) = sender_to(&runtime);
        let sending = thread::spawn(move || {
            enable_batching();
            let all = senders.into_iter().all(|it| it.send(response(200)));
            assert!(all, "every receiver waits");
            last
        });
        let last = sending.join().expect("batch sent");
        for receiver in receivers {
            assert_eq!(received(&runtime, receiver), 200);
        }
        // This thread does not batch.
        assert!(last.send(response(201)));
        assert_eq!(received(&runtime, last_receiver), 201);
    }

    #[test]
    fn send_to_a_dropped_receiver_fails() {
        let runtime = runtime();
        let (sender, receiver) = sender_to(&runtime);
        drop(receiver);
        assert!(!sender.send(response(200)));
    }
}
