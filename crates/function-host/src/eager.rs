//! Work that goes on at once when it asks to. wasmtime asks to be polled again whenever it has looked at what a
//! call waits for; to stand in line for that, behind calls that push each other out of the caches, costs a
//! call a third more where many are in line, and each of them its turn.

use crate::cpu::Budget;
use crate::engine::TICK;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// So many polls at most follow each other.
const POLLS: u32 = 8;
/// Who computed for as long meanwhile lets others go on.
const LONG: Duration = TICK.checked_div(2).expect("two is not zero");

/// Nobody woke it since it was polled.
const RESTS: u8 = 0;
/// It is being polled.
const POLLED: u8 = 1;
/// It is to be polled again.
const WOKEN: u8 = 2;

/// A future that is polled again at once when it is woken while it is polled.
pub(crate) struct Eager<F> {
    future: Pin<Box<F>>,
    budget: Arc<Budget>,
    waking: Option<Arc<Waking>>,
}

/// Wakes a task, but not one that is being polled.
struct Waking {
    state: AtomicU8,
    task: Waker,
}

impl Waking {
    fn of(task: &Waker) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(RESTS),
            task: task.clone(),
        })
    }
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == RESTS {
            self.task.wake_by_ref();
        }
    }
}

impl<F> Eager<F> {
    /// What `future` computes is charged to `budget` while it is polled.
    pub(crate) fn new(future: F, budget: Arc<Budget>) -> Self {
        Self {
            future: Box::pin(future),
            budget,
            waking: None,
        }
    }
}

impl<F: Future> Future for Eager<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let known = self.waking.take();
        let known = known.filter(|waking| waking.task.will_wake(cx.waker()));
        let waking = known.unwrap_or_else(|| Waking::of(cx.waker()));
        self.waking = Some(waking.clone());
        let waker = Waker::from(waking.clone());
        let before = self.budget.spent();
        for _ in 0..POLLS {
            waking.state.swap(POLLED, Ordering::AcqRel);
            let polled = self.future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || waking.state.swap(RESTS, Ordering::AcqRel) == POLLED {
                return polled;
            }
            if self.budget.spent().saturating_sub(before) >= LONG {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("a runtime")
    }

    fn eager<F>(future: F) -> Eager<F> {
        Eager::new(future, Budget::new(Duration::from_secs(1)))
    }

    /// Asks to be polled again until `enough` says so.
    async fn until(mut enough: impl FnMut() -> bool) {
        poll_fn(|cx| {
            if enough() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    #[test]
    fn who_asks_to_go_on_goes_before_those_in_line() {
        let order = Arc::new(Mutex::new(Vec::new()));
        runtime().block_on(async {
            let tasks = ["first", "second"].map(|name| {
                let order = order.clone();
                let mut polls = 0;
                tokio::spawn(eager(until(move || {
                    order.lock().expect("whole").push(name);
                    polls += 1;
                    polls == 3
                })))
            });
            for task in tasks {
                task.await.expect("done");
            }
        });
        let order = order.lock().expect("whole");
        assert_eq!(order[..3], ["first"; 3]);
        assert_eq!(order[3..], ["second"; 3]);
    }

    #[test]
    fn who_never_stops_asking_keeps_nobody_waiting() {
        let others_went_on = Arc::new(AtomicBool::new(false));
        let seen = others_went_on.clone();
        runtime().block_on(async {
            let asks = tokio::spawn(eager(until(move || seen.load(Ordering::Relaxed))));
            let other = async move { others_went_on.store(true, Ordering::Relaxed) };
            tokio::spawn(other).await.expect("done");
            asks.await.expect("done");
        });
    }

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll<F: Future>(eager: &mut Eager<F>, task: &Arc<Task>) -> Poll<F::Output> {
        let waker = Waker::from(task.clone());
        Pin::new(eager).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn who_rests_is_woken_once_in_the_task_that_polled_it_last() {
        let (send, receive) = oneshot::channel();
        let mut waits = eager(receive);
        let tasks = [Arc::<Task>::default(), Arc::default()];
        for task in &tasks {
            assert!(poll(&mut waits, task).is_pending());
        }
        send.send("woken").expect("it waits");
        let woken = tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
        assert_eq!(poll(&mut waits, &tasks[1]), Poll::Ready(Ok("woken")));
    }
}
