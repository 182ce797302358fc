//! Measures and limits the processor time of calls: the time of the thread that polls them, while it polls them.

use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How often a computing guest is interrupted, to check its budget and to run other calls.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_millis(2);
/// The age up to which a reading of the thread's time is extrapolated by wall time. A reading is a system call: short
/// polls would cost less than their measurement.
const MAX_READING_AGE: Duration = Duration::from_millis(1);
/// The most that is charged between two readings. A computing guest is charged at each tick. Time
/// beyond two ticks was stolen from the thread, for example by the host of a virtual machine.
const MAX_CHARGE: Duration = TICK_INTERVAL.saturating_mul(2);

thread_local! {
    /// When this thread's time was last read, and the time in nanoseconds.
    static LAST_READING: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// A call's budget of processor time, in nanoseconds.
#[derive(Debug)]
pub(crate) struct CpuBudget {
    limit: u64,
    spent: AtomicU64,
    /// The thread's time up to which the call is charged, or when its present poll started.
    charged_until: AtomicU64,
}

impl CpuBudget {
    pub(crate) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit: nanos(limit),
            spent: AtomicU64::new(0),
            // Nothing is charged before the first poll.
            charged_until: AtomicU64::new(u64::MAX),
        })
    }

    /// Charges the time since the last charge, during a poll; true once the budget is exceeded.
    pub(crate) fn charge(&self) -> bool {
        self.charge_until(read_thread_time())
    }

    /// The time spent up to the end of the last poll.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(crate) fn spend(&self, time: Duration) {
        self.spent.fetch_add(nanos(time), Ordering::Relaxed);
    }

    fn start_poll(&self) {
        self.start_poll_at(estimated_thread_time());
    }

    fn start_poll_at(&self, now: u64) {
        self.charged_until.store(now, Ordering::Relaxed);
    }

    /// True once the budget is exceeded.
    fn charge_until(&self, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.charged_until.swap(now, Ordering::Relaxed));
        let charge = elapsed.min(nanos(MAX_CHARGE));
        self.spent.fetch_add(charge, Ordering::Relaxed) + charge > self.limit
    }
}

/// Charges each poll of a future to a budget.
pub(crate) struct MeteredFuture<F> {
    pub(crate) budget: Arc<CpuBudget>,
    pub(crate) future: Pin<Box<F>>,
}

impl<F: Future> Future for MeteredFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.budget.start_poll();
        let polled = self.future.as_mut().poll(cx);
        self.budget.charge_until(estimated_thread_time());
        polled
    }
}

/// This thread's time in nanoseconds; too high by at most the time that the thread did not run since the last reading.
fn estimated_thread_time() -> u64 {
    if let Some((at, time)) = LAST_READING.get() {
        let age = at.elapsed();
        if age < MAX_READING_AGE {
            return time + nanos(age);
        }
    }
    read_thread_time()
}

fn read_thread_time() -> u64 {
    let time = thread_time();
    LAST_READING.set(Some((Instant::now(), time)));
    time
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let unsigned = |part: i64| u64::try_from(part).unwrap_or(0);
    unsigned(time.tv_sec) * 1_000_000_000 + unsigned(time.tv_nsec)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    /// Computes until the thread's time has advanced by `time`.
    fn compute(time: Duration) {
        let until = thread_time() + nanos(time);
        while thread_time() < until {}
    }

    #[test]
    fn short_polls_are_charged() {
        let budget = CpuBudget::new(Duration::from_secs(60));
        let mut remaining_polls = 400;
        let mut metered = MeteredFuture {
            budget: budget.clone(),
            future: Box::pin(poll_fn(move |_| {
                compute(Duration::from_micros(50));
                remaining_polls -= 1;
                if remaining_polls == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })),
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while Pin::new(&mut metered).poll(&mut cx).is_pending() {}
        let spent = budget.spent();
        assert!(spent > Duration::from_millis(15), "{spent:?} of 20 ms");
    }

    #[test]
    fn waiting_is_not_charged() {
        let budget = CpuBudget::new(MAX_CHARGE * 10);
        budget.start_poll();
        // Charged by wall time, the waits would spend the budget twice. The host of a virtual machine may run others
        // shortly before or after a wait, but rarely each time.
        for _ in 0..20 {
            std::thread::park_timeout(MAX_CHARGE);
            assert!(!budget.charge(), "{:?}", budget.spent());
        }
    }

    #[test]
    fn charge_above_the_limit_exceeds_the_budget() {
        let budget = CpuBudget::new(TICK_INTERVAL * 3);
        budget.start_poll_at(0);
        for ticks in 1..=3 {
            let exceeded = budget.charge_until(nanos(TICK_INTERVAL * ticks));
            assert!(!exceeded, "after {ticks} ticks");
        }
        assert!(budget.charge_until(nanos(TICK_INTERVAL * 3) + 1));
        let expected = TICK_INTERVAL * 3 + Duration::from_nanos(1);
        assert_eq!(budget.spent(), expected);
    }

    #[test]
    fn stolen_time_is_not_charged() {
        let budget = CpuBudget::new(Duration::from_millis(20));
        budget.start_poll();
        // Without a tick in between, as when the host of a virtual machine runs others.
        compute(Duration::from_millis(40));
        assert!(!budget.charge());
    }
}
