//! The threads that functions run on. A call begins in front, on threads that are a little behind those who
//! answer clicks; one that has computed for a while goes on behind, when nobody else wants the processor.

use crate::answer;
use crate::cpu::Budget;
use crate::engine::TICK;
use crate::outbound::Internal;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use thread_priority::unix::{NormalThreadSchedulePolicy, set_thread_priority_and_policy};
use thread_priority::{ThreadPriority, ThreadSchedulePolicy, thread_native_id};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

/// What a call may compute in front. Calls that are none too long take a fraction of it.
const IN_FRONT: Duration = Duration::from_millis(5);
/// So many ticks that its calls computed through within [`WINDOW`], a tenth of a thread's time, are too many for a
/// function, whichever calls they were: of a hundred that never end, each would have its turns in front first. But
/// where more than two calls ended for each of these ticks, the machine is slow, not they.
const TICKS: u32 = 6;
const WINDOW: Duration = Duration::from_millis(100);
/// What a call computes that tells by itself how its function is: longer than any machine holds up a short one.
const LONG: Duration = Duration::from_millis(25);
/// A function that computes for long begins behind for so long.
const REMEMBERED: Duration = Duration::from_secs(1);
/// After so many polls a thread looks at its input and output.
const EVENT_INTERVAL: u32 = 8;
/// The nearest timer is never further off than this.
const NEAREST_TIMER: Duration = Duration::from_secs(1);
/// Threads in front give way to those who answer clicks (nice value).
const NICENESS: i32 = 10;

/// All threads that functions run on.
pub(crate) struct Threads {
    front: Runtime,
    behind: Runtime,
}

/// Where calls can be started from.
#[derive(Clone)]
pub(crate) struct Starter {
    front: Handle,
    behind: Handle,
}

/// Which functions have computed for long lately.
#[derive(Debug)]
pub(crate) struct Manners {
    origin: Instant,
    /// Until when calls begin behind, in microseconds since `origin`.
    behind_until: AtomicU64,
    /// When the window began, in which so many ticks were computed through, and so many calls ended.
    window: AtomicU64,
    ticks: AtomicU32,
    ended: AtomicU32,
}

impl Threads {
    /// So many in front, and as many behind. One that rests lets `internal` settle what was put off.
    pub(crate) fn start(threads: usize, internal: &Arc<dyn Internal>) -> io::Result<Self> {
        let runtime = |name: &str, begin: fn()| {
            let internal = internal.clone();
            let built = Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                // A guest that computes must not keep the others' input and output waiting for long.
                .event_interval(EVENT_INTERVAL)
                .on_thread_start(move || {
                    begin();
                    answer::collect();
                })
                .on_thread_park(move || {
                    answer::hand_over();
                    internal.settle();
                })
                .enable_all()
                .build()?;
            built.spawn(keep_a_timer());
            io::Result::Ok(built)
        };
        Ok(Self {
            front: runtime("function", give_way)?,
            behind: runtime("function-behind", wait_for_all)?,
        })
    }

    pub(crate) fn starter(&self) -> Starter {
        Starter {
            front: self.front.handle().clone(),
            behind: self.behind.handle().clone(),
        }
    }

    /// Runs something to its end on this thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.front.block_on(future)
    }

    /// Ends them without waiting for what runs.
    pub(crate) fn stop(self) {
        self.front.shutdown_background();
        self.behind.shutdown_background();
    }
}

impl Starter {
    /// Runs `work`, whose computing is charged to `budget`: in front as long as its function's manners allow.
    pub(crate) fn run<F>(
        &self,
        manners: Arc<Manners>,
        budget: Arc<Budget>,
        work: F,
    ) -> JoinHandle<Result<F::Output, JoinError>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let behind = self.behind.clone();
        let begun = Begun {
            manners: manners.clone(),
            budget: budget.clone(),
            work: Some(Box::pin(work)),
            polled: false,
        };
        self.front.spawn(async move {
            match begun.await {
                Ok(done) => Ok(done),
                Err(rest) => {
                    let rest = async move {
                        let done = rest.await;
                        manners.ended(&budget);
                        done
                    };
                    behind.spawn(rest).await
                }
            }
        })
    }
}

impl Manners {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            behind_until: AtomicU64::new(0),
            window: AtomicU64::new(0),
            ticks: AtomicU32::new(0),
            ended: AtomicU32::new(0),
        })
    }

    fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }

    fn are_bad(&self) -> bool {
        self.now() < self.behind_until.load(Ordering::Relaxed)
    }

    /// Takes note of a poll of a call in front that is to go on.
    fn polled(&self, computed: Duration) {
        // Who waits before the tick has hardly computed.
        if computed < TICK / 2 {
            return;
        }
        self.look_at_the_clock();
        let ticks = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        if ticks >= TICKS && ticks > self.ended.load(Ordering::Relaxed) / 2 {
            self.computed_for_long();
        }
    }

    /// Takes note of a call that has ended.
    fn ended(&self, budget: &Budget) {
        self.look_at_the_clock();
        self.ended.fetch_add(1, Ordering::Relaxed);
        if budget.spent() > LONG {
            self.computed_for_long();
        }
    }

    /// Begins another window when this one is over.
    fn look_at_the_clock(&self) {
        let now = self.now();
        // Another thread's clock may have been read a little later.
        if now.saturating_sub(self.window.load(Ordering::Relaxed)) > micros(WINDOW) {
            self.window.store(now, Ordering::Relaxed);
            self.ticks.store(0, Ordering::Relaxed);
            self.ended.store(0, Ordering::Relaxed);
        }
    }

    fn computed_for_long(&self) {
        let until = self.now() + micros(REMEMBERED);
        self.behind_until.store(until, Ordering::Relaxed);
    }
}

/// Work in front: done, or to be gone on with behind.
struct Begun<F> {
    manners: Arc<Manners>,
    budget: Arc<Budget>,
    work: Option<Pin<Box<F>>>,
    polled: bool,
}

impl<F: Future> Future for Begun<F> {
    type Output = Result<F::Output, Pin<Box<F>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut work = this.work.take().expect("nobody polls what has ended");
        if !std::mem::replace(&mut this.polled, true) && this.manners.are_bad() {
            return Poll::Ready(Err(work));
        }
        let before = this.budget.spent();
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            this.manners.ended(&this.budget);
            return Poll::Ready(Ok(done));
        }
        this.manners
            .polled(this.budget.spent().saturating_sub(before));
        let in_front = if this.manners.are_bad() {
            TICK
        } else {
            IN_FRONT
        };
        if this.budget.spent() > in_front {
            return Poll::Ready(Err(work));
        }
        this.work = Some(work);
        Poll::Pending
    }
}

/// Whoever sets a timer that is nearer than all others wakes the thread that waits for the nearest, though it be the
/// same: with none, each call would do so for each of its limits.
async fn keep_a_timer() {
    loop {
        tokio::time::sleep(NEAREST_TIMER).await;
    }
}

/// Clicks go before functions.
fn give_way() {
    // Without the right to it they run as the others do.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

/// Whoever else wakes goes on at once, in place of a thread like this.
fn wait_for_all() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    if set.is_err() {
        give_way();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::InternalAnswer;
    use bytes::Bytes;
    use http::{Request, Response};
    use std::future::poll_fn;
    use std::thread;
    use tokio::sync::oneshot;

    /// Puts nothing off.
    struct Nobody;

    impl Internal for Nobody {
        fn host(&self) -> &str {
            "nobody.internal"
        }

        fn answer(&self, _request: Request<Bytes>) -> InternalAnswer {
            Box::pin(async { Response::new(Bytes::new()) })
        }

        fn settle(&self) {}
    }

    fn threads() -> Threads {
        let nobody: Arc<dyn Internal> = Arc::new(Nobody);
        Threads::start(1, &nobody).expect("started")
    }

    fn here() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    /// Says on which threads its polls were, the first of which takes `computed` from `budget`.
    async fn polls(budget: Arc<Budget>, computed: Duration) -> Vec<String> {
        let (mut polled, mut future) = (Vec::new(), Some(()));
        poll_fn(move |cx| {
            polled.push(here());
            if future.take().is_some() {
                budget.spend(computed);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(std::mem::take(&mut polled))
        })
        .await
    }

    fn run(threads: &Threads, manners: &Arc<Manners>, computed: Duration) -> Vec<String> {
        let budget = Budget::new(Duration::from_secs(1));
        let work = polls(budget.clone(), computed);
        let task = threads.starter().run(manners.clone(), budget, work);
        let (send, receive) = oneshot::channel();
        threads.front.spawn(async move {
            let _ = send.send(task.await.expect("no panic").expect("no panic"));
        });
        receive.blocking_recv().expect("answered")
    }

    #[test]
    fn who_computes_for_long_goes_on_behind_and_its_function_begins_there() {
        let threads = threads();
        let (short, long) = (IN_FRONT / 2, LONG * 2);
        let (good, bad) = (Manners::new(), Manners::new());
        assert_eq!(run(&threads, &good, short), ["function", "function"]);
        assert_eq!(run(&threads, &bad, long), ["function", "function-behind"]);
        assert_eq!(
            run(&threads, &bad, short),
            ["function-behind", "function-behind"]
        );
        assert_eq!(run(&threads, &good, short), ["function", "function"]);
        // It is not held against the function for ever.
        bad.behind_until.store(0, Ordering::Relaxed);
        assert_eq!(run(&threads, &bad, short), ["function", "function"]);
        threads.stop();
    }

    #[test]
    fn many_calls_that_compute_at_once_are_known_before_each_had_its_turns() {
        let threads = threads();
        let manners = Manners::new();
        let in_front = (0..100).take_while(|_| run(&threads, &manners, TICK)[0] == "function");
        // More than that many only if it took longer than the window here.
        let in_front = in_front.count();
        let windows = manners.origin.elapsed().div_duration_f64(WINDOW).ceil();
        assert!(in_front as f64 <= f64::from(TICKS) * windows, "{in_front}");
        threads.stop();
    }

    #[test]
    fn one_call_that_computes_goes_on_behind_by_itself() {
        let threads = threads();
        let manners = Manners::new();
        let held_up = run(&threads, &manners, IN_FRONT * 2);
        assert_eq!(held_up, ["function", "function-behind"]);
        let next = run(&threads, &manners, Duration::ZERO);
        assert_eq!(next, ["function", "function"]);
        threads.stop();
    }

    #[test]
    fn a_function_whose_calls_end_stays_in_front_though_some_are_held_up() {
        let threads = threads();
        let manners = Manners::new();
        for call in 0..100 {
            let computed = if call % 4 == 3 { TICK } else { Duration::ZERO };
            let polls = run(&threads, &manners, computed);
            assert_eq!(polls, ["function", "function"], "call {call}");
        }
        threads.stop();
    }

    #[test]
    fn calls_that_ended_long_ago_do_not_excuse_those_of_now() {
        let threads = threads();
        let mut manners = Arc::into_inner(Manners::new()).expect("the only one");
        manners.origin -= Duration::from_secs(10);
        let manners = Arc::new(manners);
        for _ in 0..100 {
            run(&threads, &manners, Duration::ZERO);
        }
        // As if it had begun ten seconds ago.
        manners.window.store(0, Ordering::Relaxed);
        for _ in 0..TICKS {
            assert_eq!(run(&threads, &manners, TICK)[0], "function");
        }
        assert_eq!(run(&threads, &manners, TICK)[0], "function-behind");
        threads.stop();
    }

    #[test]
    fn a_window_that_another_thread_began_later_does_no_harm() {
        let threads = threads();
        let manners = Manners::new();
        let later = manners.now() + micros(WINDOW);
        manners.window.store(later, Ordering::Relaxed);
        assert_eq!(run(&threads, &manners, TICK), ["function", "function"]);
        threads.stop();
    }

    #[test]
    fn whoever_is_behind_gives_way_to_all() {
        let threads = threads();
        let (send, receive) = oneshot::channel();
        threads.behind.spawn(async move {
            let own = std::fs::read_to_string("/proc/thread-self/stat").expect("read");
            let _ = send.send(own);
        });
        let stat = receive.blocking_recv().expect("answered");
        let after_name = stat.rsplit(')').next().expect("a name");
        // The 41st field; 5 is SCHED_IDLE.
        let policy = after_name.split_whitespace().nth(41 - 3);
        assert_eq!(policy, Some("5"), "{stat}");
        threads.stop();
    }
}
