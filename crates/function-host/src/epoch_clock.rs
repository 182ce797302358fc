//! A thread that ticks during calls, so that computing guests are interrupted. It sleeps while no call runs.

use crate::cpu::TICK_INTERVAL;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Ticks after the last call. Stopping and starting the clock with each call would cost more.
const IDLE_TICKS: u32 = 50;

/// Ticks while there are guards, and [`IDLE_TICKS`] more. Its thread ends when it is dropped.
pub(crate) struct EpochClock {
    state: Arc<ClockState>,
    thread: Option<JoinHandle<()>>,
}

struct ClockState {
    guards: AtomicUsize,
    is_stopping: AtomicBool,
}

/// Keeps the clock ticking.
pub(crate) struct ClockGuard(Arc<ClockState>);

impl EpochClock {
    /// Starts a clock that calls `on_tick` at each tick.
    pub(crate) fn start(on_tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let state = Arc::new(ClockState {
            guards: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
        });
        let ticking = state.clone();
        let thread = thread::Builder::new()
            .name("function-clock".into())
            .spawn(move || tick(&on_tick, &ticking))?;
        Ok(Self {
            state,
            thread: Some(thread),
        })
    }

    pub(crate) fn keep_ticking(&self) -> ClockGuard {
        if self.state.guards.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        ClockGuard(self.state.clone())
    }
}

fn tick(on_tick: &impl Fn(), state: &ClockState) {
    let mut idle_ticks = 0;
    while !state.is_stopping.load(Ordering::Acquire) {
        let is_used = state.guards.load(Ordering::Acquire) > 0;
        idle_ticks = if is_used { 0 } else { idle_ticks + 1 };
        if idle_ticks > IDLE_TICKS {
            thread::park();
        } else {
            thread::sleep(TICK_INTERVAL);
            on_tick();
        }
    }
}

impl Drop for ClockGuard {
    fn drop(&mut self) {
        self.0.guards.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for EpochClock {
    fn drop(&mut self) {
        self.state.is_stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::Duration;

    #[test]
    fn clock_stops_when_idle_and_restarts_with_the_next_call() {
        let (tick, ticks) = mpsc::channel();
        let clock = EpochClock::start(move || {
            // The test may be over.
            let _ = tick.send(());
        });
        let clock = clock.expect("clock starts");
        for _ in 0..2 {
            let guard = clock.keep_ticking();
            for _ in 0..2 * IDLE_TICKS {
                let tick = ticks.recv_timeout(Duration::from_secs(10));
                tick.expect("tick while there is a guard");
            }
            drop(guard);
            let mut rest = 0..10 * IDLE_TICKS;
            let stopped = rest.find_map(|_| ticks.recv_timeout(Duration::from_secs(1)).err());
            assert_eq!(stopped, Some(RecvTimeoutError::Timeout));
        }
    }
}
