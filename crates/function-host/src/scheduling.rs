//! Decides whether a call runs on foreground or background threads, by the processor time of its function's calls.
//! A call starts in the foreground; after a few milliseconds of computing it continues in the background.

use crate::cpu::{CpuBudget, TICK_INTERVAL};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The processor time of a call in the foreground. Calls of ordinary functions take a fraction of it.
const FOREGROUND_BUDGET: Duration = Duration::from_millis(5);
/// A function is demoted once its calls, together, computed through this many ticks within [`TICK_WINDOW`]: a tenth of
/// a thread's time. Without this rule, each of a hundred endless calls would first use its own foreground budget.
/// Exception: more than two calls per tick ended in the window; then the machine is slow, not the function.
const MAX_TICKS: u32 = 6;
const TICK_WINDOW: Duration = Duration::from_millis(100);
/// A call that computed for longer demotes its function by itself; no machine is slow enough to stretch a short call
/// to this.
const LONG_CALL_DURATION: Duration = Duration::from_millis(25);
/// For how long calls of a demoted function start in the background.
const DEMOTION_PERIOD: Duration = Duration::from_secs(1);

/// Where the calls of one function start, by how long its recent calls computed.
#[derive(Debug)]
pub(crate) struct SchedulingClass {
    origin: Instant,
    /// Until when calls start in the background, in microseconds since `origin`.
    background_until: AtomicU64,
    /// When the present window started, in microseconds since `origin`.
    window_start: AtomicU64,
    /// Ticks that calls computed through in this window.
    ticks: AtomicU32,
    /// Calls that ended in this window.
    ended_calls: AtomicU32,
}

impl SchedulingClass {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            background_until: AtomicU64::new(0),
            window_start: AtomicU64::new(0),
            ticks: AtomicU32::new(0),
            ended_calls: AtomicU32::new(0),
        })
    }

    fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }

    fn is_background(&self) -> bool {
        self.now() < self.background_until.load(Ordering::Relaxed)
    }

    /// Records a foreground poll of a call that has not ended.
    fn record_poll(&self, computed: Duration) {
        // A poll that ended in a wait before the tick computed little.
        if computed < TICK_INTERVAL / 2 {
            return;
        }
        self.update_window();
        let ticks = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        if ticks >= MAX_TICKS && ticks > self.ended_calls.load(Ordering::Relaxed) / 2 {
            self.demote();
        }
    }

    /// Records the end of a call.
    pub(crate) fn record_end(&self, budget: &CpuBudget) {
        self.update_window();
        self.ended_calls.fetch_add(1, Ordering::Relaxed);
        if budget.spent() > LONG_CALL_DURATION {
            self.demote();
        }
    }

    /// Starts a new window if the present one is over.
    fn update_window(&self) {
        let now = self.now();
        // Another thread may have read a slightly later time.
        let age = now.saturating_sub(self.window_start.load(Ordering::Relaxed));
        if age > micros(TICK_WINDOW) {
            self.window_start.store(now, Ordering::Relaxed);
            self.ticks.store(0, Ordering::Relaxed);
            self.ended_calls.store(0, Ordering::Relaxed);
        }
    }

    fn demote(&self) {
        let until = self.now() + micros(DEMOTION_PERIOD);
        self.background_until.store(until, Ordering::Relaxed);
    }
}

/// The foreground part of a call. Returns its output, or the call itself if it has to continue in the background.
pub(crate) struct ForegroundTask<F> {
    class: Arc<SchedulingClass>,
    budget: Arc<CpuBudget>,
    call: Option<Pin<Box<F>>>,
    was_polled: bool,
}

impl<F> ForegroundTask<F> {
    /// A task of `call`, whose computing is charged to `budget`.
    pub(crate) fn new(class: Arc<SchedulingClass>, budget: Arc<CpuBudget>, call: F) -> Self {
        Self {
            class,
            budget,
            call: Some(Box::pin(call)),
            was_polled: false,
        }
    }
}

impl<F: Future> Future for ForegroundTask<F> {
    type Output = Result<F::Output, Pin<Box<F>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut call = this.call.take().expect("not polled after its end");
        if !mem::replace(&mut this.was_polled, true) && this.class.is_background() {
            return Poll::Ready(Err(call));
        }
        let before = this.budget.spent();
        if let Poll::Ready(output) = call.as_mut().poll(cx) {
            this.class.record_end(&this.budget);
            return Poll::Ready(Ok(output));
        }
        let spent = this.budget.spent();
        this.class.record_poll(spent.saturating_sub(before));
        let limit = if this.class.is_background() {
            TICK_INTERVAL
        } else {
            FOREGROUND_BUDGET
        };
        if spent > limit {
            return Poll::Ready(Err(call));
        }
        this.call = Some(call);
        Poll::Pending
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::tests::threads;
    use crate::threads::{BACKGROUND, FOREGROUND, Threads};
    use std::future::poll_fn;
    use std::thread;

    /// Returns the names of the threads of its two polls, the first of which spends `computed` of `budget`.
    async fn polling_threads(budget: Arc<CpuBudget>, computed: Duration) -> Vec<String> {
        let mut names = Vec::new();
        poll_fn(move |cx| {
            names.push(thread::current().name().unwrap_or_default().to_owned());
            if names.len() == 1 {
                budget.spend(computed);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(mem::take(&mut names))
        })
        .await
    }

    /// Runs a call that computes for `computed`; returns the threads of its polls.
    fn run(threads: &Threads, class: &Arc<SchedulingClass>, computed: Duration) -> Vec<String> {
        let budget = CpuBudget::new(Duration::from_secs(1));
        let call = polling_threads(budget.clone(), computed);
        let task = threads.starter().run(class.clone(), budget, call);
        let done = threads.block_on(task).expect("no panic");
        done.expect("no panic")
    }

    #[test]
    fn long_call_demotes_its_function_for_a_while() {
        let threads = threads();
        let (short, long) = (FOREGROUND_BUDGET / 2, LONG_CALL_DURATION * 2);
        let (good, bad) = (SchedulingClass::new(), SchedulingClass::new());
        assert_eq!(run(&threads, &good, short), [FOREGROUND, FOREGROUND]);
        assert_eq!(run(&threads, &bad, long), [FOREGROUND, BACKGROUND]);
        assert_eq!(run(&threads, &bad, short), [BACKGROUND, BACKGROUND]);
        assert_eq!(run(&threads, &good, short), [FOREGROUND, FOREGROUND]);
        bad.background_until.store(0, Ordering::Relaxed);
        assert_eq!(run(&threads, &bad, short), [FOREGROUND, FOREGROUND]);
        threads.stop();
    }

    #[test]
    fn many_computing_calls_demote_their_function_early() {
        let threads = threads();
        let class = SchedulingClass::new();
        let in_foreground =
            (0..100).take_while(|_| run(&threads, &class, TICK_INTERVAL)[0] == FOREGROUND);
        // More than the limit only if the calls took longer than one window.
        let in_foreground = in_foreground.count();
        let windows = class.origin.elapsed().div_duration_f64(TICK_WINDOW).ceil();
        let limit = f64::from(MAX_TICKS) * windows;
        assert!(in_foreground as f64 <= limit, "{in_foreground}");
        threads.stop();
    }

    #[test]
    fn single_computing_call_moves_without_its_function() {
        let threads = threads();
        let class = SchedulingClass::new();
        let computing = run(&threads, &class, FOREGROUND_BUDGET * 2);
        assert_eq!(computing, [FOREGROUND, BACKGROUND]);
        let next = run(&threads, &class, Duration::ZERO);
        assert_eq!(next, [FOREGROUND, FOREGROUND]);
        threads.stop();
    }

    #[test]
    fn function_whose_calls_end_is_not_demoted() {
        let threads = threads();
        let class = SchedulingClass::new();
        for call in 0..100 {
            let computed = if call % 4 == 3 {
                TICK_INTERVAL
            } else {
                Duration::ZERO
            };
            let names = run(&threads, &class, computed);
            assert_eq!(names, [FOREGROUND, FOREGROUND], "call {call}");
        }
        threads.stop();
    }

    #[test]
    fn calls_of_earlier_windows_do_not_prevent_demotion() {
        let threads = threads();
        let mut class = Arc::into_inner(SchedulingClass::new()).expect("not shared yet");
        class.origin -= Duration::from_secs(10);
        let class = Arc::new(class);
        for _ in 0..100 {
            run(&threads, &class, Duration::ZERO);
        }
        // As if the window had started ten seconds ago.
        class.window_start.store(0, Ordering::Relaxed);
        for _ in 0..MAX_TICKS {
            assert_eq!(run(&threads, &class, TICK_INTERVAL)[0], FOREGROUND);
        }
        assert_eq!(run(&threads, &class, TICK_INTERVAL)[0], BACKGROUND);
        threads.stop();
    }

    #[test]
    fn window_that_starts_in_the_future_is_harmless() {
        let threads = threads();
        let class = SchedulingClass::new();
        let later = class.now() + micros(TICK_WINDOW);
        class.window_start.store(later, Ordering::Relaxed);
        let names = run(&threads, &class, TICK_INTERVAL);
        assert_eq!(names, [FOREGROUND, FOREGROUND]);
        threads.stop();
    }
}
