//! Answers on their way back to who asked. Those that are made shortly one after another go together: who
//! waits for them is woken once, and the processor changes threads once, not once for each.

use crate::body::Body;
use http::Response;
use std::cell::RefCell;
use std::mem;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// So many at most go together.
const TOGETHER: usize = 16;
/// The first of them waits for no longer before the next one that is made takes it along.
const WAITS: Duration = Duration::from_micros(500);

/// Where the head of an answer goes, and as much of its body as is there.
pub(crate) struct Answer {
    to: oneshot::Sender<Response<Body>>,
    /// The runtime in which it is waited for.
    home: Handle,
}

/// Answers that a thread has ready.
struct Ready {
    since: Instant,
    answers: Vec<(Answer, Response<Body>)>,
}

thread_local! {
    /// None where answers go at once.
    static READY: RefCell<Option<Ready>> = const { RefCell::new(None) };
}

impl Answer {
    /// An answer that will be waited for in this runtime.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Response<Body>>) {
        let (to, waits) = oneshot::channel();
        let home = Handle::current();
        (Self { to, home }, waits)
    }

    /// Returns when nobody waits for it any more.
    pub(crate) async fn closed(&mut self) {
        self.to.closed().await;
    }

    /// Sends it, at the latest with [`hand_over`]; false when nobody waits for it any more.
    pub(crate) fn send(self, response: Response<Body>) -> bool {
        if self.to.is_closed() {
            return false;
        }
        let full = READY.with_borrow_mut(|ready| match ready {
            Some(ready) => {
                if ready.answers.is_empty() {
                    ready.since = Instant::now();
                }
                ready.answers.push((self, response));
                ready.answers.len() >= TOGETHER || ready.since.elapsed() >= WAITS
            }
            None => {
                // Who waited may be gone by now.
                let _ = self.to.send(response);
                false
            }
        });
        if full {
            hand_over();
        }
        true
    }
}

/// From now on this thread's answers go together. It has to hand them over before it rests.
pub(crate) fn collect() {
    READY.set(Some(Ready {
        since: Instant::now(),
        answers: Vec::new(),
    }));
}

/// Hands over what this thread has ready.
pub(crate) fn hand_over() {
    let ready = READY.with_borrow_mut(|ready| {
        let ready = ready.as_mut();
        ready.map(|ready| mem::take(&mut ready.answers))
    });
    let mut ready = ready.unwrap_or_default();
    while let Some((first, _)) = ready.first() {
        let home = first.home.clone();
        let (there, elsewhere) = ready
            .into_iter()
            .partition(|(answer, _)| answer.home.id() == home.id());
        ready = elsewhere;
        home.spawn(deliver(there));
    }
}

/// In the runtime where they are waited for, which is woken for the first and finds the others.
async fn deliver(answers: Vec<(Answer, Response<Body>)>) {
    for (answer, response) in answers {
        // Who waited may be gone by now.
        let _ = answer.to.send(response);
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
        Builder::new_current_thread().build().expect("a runtime")
    }

    /// An answer that is waited for in `home`.
    fn waited_for(home: &Runtime) -> (Answer, Receiver<Response<Body>>) {
        let _in_it = home.enter();
        Answer::new()
    }

    fn response(status: u16) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::new()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        response
    }

    fn said(home: &Runtime, waits: Receiver<Response<Body>>) -> u16 {
        home.block_on(waits).expect("answered").status().as_u16()
    }

    #[test]
    fn answers_go_together_each_to_who_waits_for_it() {
        let homes = [runtime(), runtime()];
        let (answers, waits): (Vec<_>, Vec<_>) =
            (0..6).map(|at| waited_for(&homes[at % 2])).unzip();
        let sent = thread::spawn(move || {
            collect();
            for (answer, status) in answers.into_iter().zip(200..) {
                assert!(answer.send(response(status)), "each is waited for");
            }
            hand_over();
        });
        sent.join().expect("handed over");
        for (at, wait) in waits.into_iter().enumerate() {
            assert_eq!(usize::from(said(&homes[at % 2], wait)), 200 + at);
        }
    }

    #[test]
    fn no_answer_waits_for_more_than_so_many() {
        let home = runtime();
        let (answers, waits): (Vec<_>, Vec<_>) = (0..TOGETHER).map(|_| waited_for(&home)).unzip();
        let (last, is_last) = waited_for(&home);
        let full = thread::spawn(move || {
            collect();
            let all = answers.into_iter().all(|answer| answer.send(response(200)));
            assert!(all, "each is waited for");
            last
        });
        // Nothing was handed over by name.
        let last = full.join().expect("sent");
        for wait in waits.into_iter() {
            assert_eq!(said(&home, wait), 200);
        }
        // Here answers go at once.
        assert!(last.send(response(201)));
        assert_eq!(said(&home, is_last), 201);
    }

    #[test]
    fn who_does_not_wait_any_more_is_not_answered() {
        let home = runtime();
        let (answer, waits) = waited_for(&home);
        drop(waits);
        assert!(!answer.send(response(200)));
    }
}
