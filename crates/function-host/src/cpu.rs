//! What a call costs of the processor: the time of its thread while it is polled.

use crate::engine::TICK;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// For so long after a look at the thread's time, the wall's is taken for it: a look is a system call, and
/// short polls would cost more by being looked at than by what they do.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Between two looks no more is charged: who computes is looked at with each tick, and what is beyond that
/// was taken from the thread without its knowledge, such as by the host of a virtual machine.
const CHARGED_AT_MOST: Duration = TICK.saturating_mul(2);

thread_local! {
    /// The last look: when, and what the thread's time was.
    static LOOKED: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// A budget and what is spent of it, in nanoseconds of processor time.
#[derive(Debug)]
pub(crate) struct Budget {
    allowed: u64,
    spent: AtomicU64,
    /// The thread's time when it was last charged, or polled after that.
    since: AtomicU64,
}

impl Budget {
    pub(crate) fn new(allowed: Duration) -> Arc<Self> {
        Arc::new(Self {
            allowed: nanos(allowed),
            spent: AtomicU64::new(0),
            // Nothing is charged before the first poll.
            since: AtomicU64::new(u64::MAX),
        })
    }

    /// Charges what was computed since the last look, in the middle of a poll; true once all is spent.
    pub(crate) fn charge(&self) -> bool {
        self.charge_until(look())
    }

    /// What is spent, asked between polls.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn spend(&self, time: Duration) {
        self.spent.fetch_add(nanos(time), Ordering::Relaxed);
    }

    fn begin(&self) {
        self.begin_at(about_thread_time());
    }

    fn begin_at(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
    }

    /// True once all is spent.
    fn charge_until(&self, now: u64) -> bool {
        let lately = now.saturating_sub(self.since.swap(now, Ordering::Relaxed));
        let charged = lately.min(nanos(CHARGED_AT_MOST));
        self.spent.fetch_add(charged, Ordering::Relaxed) + charged > self.allowed
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
        self.budget.charge_until(about_thread_time());
        polled
    }
}

/// This thread's time, too late by at most what it was kept from running since the last look.
fn about_thread_time() -> u64 {
    if let Some((at, time)) = LOOKED.get() {
        let since = at.elapsed();
        if since < BETWEEN_LOOKS {
            return time + nanos(since);
        }
    }
    look()
}

fn look() -> u64 {
    let time = thread_time();
    LOOKED.set(Some((Instant::now(), time)));
    time
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// Computes for so long of its thread's time.
    fn compute(time: Duration) {
        let until = thread_time() + nanos(time);
        while thread_time() < until {}
    }

    #[test]
    fn short_polls_are_charged_as_long_ones_are() {
        let budget = Budget::new(Duration::from_secs(60));
        let mut left = 400;
        let mut charged = Charged {
            budget: budget.clone(),
            future: Box::pin(poll_fn(move |_| {
                compute(Duration::from_micros(50));
                left -= 1;
                if left == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })),
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while Pin::new(&mut charged).poll(&mut cx).is_pending() {}
        let spent = budget.spent();
        assert!(spent > Duration::from_millis(15), "{spent:?} of 20 ms");
    }

    #[test]
    fn waiting_costs_nothing() {
        let budget = Budget::new(CHARGED_AT_MOST * 10);
        budget.begin();
        // By the wall's time the budget would be spent twice; of a thread that is about to wait or has just
        // waited the host of a virtual machine may take something, and rarely so each time.
        for _ in 0..20 {
            std::thread::park_timeout(CHARGED_AT_MOST);
            assert!(!budget.charge(), "{:?}", budget.spent());
        }
    }

    #[test]
    fn all_is_spent_once_more_was_computed_than_is_allowed() {
        let budget = Budget::new(TICK * 3);
        budget.begin_at(0);
        for ticks in 1..=3 {
            assert!(
                !budget.charge_until(nanos(TICK * ticks)),
                "after {ticks} ticks"
            );
        }
        assert!(budget.charge_until(nanos(TICK * 3) + 1));
        assert_eq!(budget.spent(), TICK * 3 + Duration::from_nanos(1));
    }

    #[test]
    fn what_was_taken_from_the_thread_is_not_charged() {
        let budget = Budget::new(Duration::from_millis(20));
        budget.begin();
        // As a virtual machine sees it when its host runs others meanwhile.
        compute(Duration::from_millis(40));
        assert!(!budget.charge());
    }
}
