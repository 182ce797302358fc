//! What a call costs of the processor: the time of its thread while it is polled.

use rustix::time::{ClockId, clock_gettime};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// A budget and what is spent of it, in nanoseconds of processor time.
#[derive(Debug)]
pub(crate) struct Budget {
    allowed: u64,
    spent: AtomicU64,
    /// The thread's time when it was last polled.
    since: AtomicU64,
}

impl Budget {
    pub(crate) fn new(allowed: Duration) -> Arc<Self> {
        Arc::new(Self {
            allowed: nanos(allowed),
            spent: AtomicU64::new(0),
            since: AtomicU64::new(thread_time()),
        })
    }

    /// Whether it is spent; asked in the middle of a poll.
    pub(crate) fn is_spent(&self) -> bool {
        let lately = thread_time().saturating_sub(self.since.load(Ordering::Relaxed));
        self.spent.load(Ordering::Relaxed) + lately > self.allowed
    }

    fn begin(&self) {
        self.since.store(thread_time(), Ordering::Relaxed);
    }

    fn end(&self) {
        let lately = thread_time().saturating_sub(self.since.load(Ordering::Relaxed));
        self.spent.fetch_add(lately, Ordering::Relaxed);
    }
}

/// Charges each poll of a future to a budget.
pub(crate) struct Charged<F> {
    pub(crate) budget: Arc<Budget>,
    pub(crate) future: Pin<Box<F>>,
}

impl<F: Future> Future for Charged<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.budget.begin();
        let polled = self.future.as_mut().poll(cx);
        self.budget.end();
        polled
    }
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
