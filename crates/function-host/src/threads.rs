//! The threads that run functions. Foreground threads have a lower priority than those that serve clicks; background
//! threads run only when no other thread wants the processor.

use crate::cpu::CpuBudget;
use crate::outbound::InternalService;
use crate::response_sender;
use crate::scheduling::{ForegroundTask, SchedulingClass};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thread_priority::unix::{NormalThreadSchedulePolicy, set_thread_priority_and_policy};
use thread_priority::{ThreadPriority, ThreadSchedulePolicy, thread_native_id};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

/// Names of the threads.
pub(crate) const FOREGROUND: &str = "function";
pub(crate) const BACKGROUND: &str = "function-bg";
/// Polls after which a thread checks its input and output.
const EVENT_INTERVAL_POLLS: u32 = 8;
/// The longest time to a runtime's next timer; see [`keep_timer`].
const TIMER_INTERVAL: Duration = Duration::from_secs(1);
/// The nice value of foreground threads.
const FOREGROUND_NICE: i32 = 10;

/// All threads that run functions.
pub(crate) struct Threads {
    foreground: Runtime,
    background: Runtime,
}

/// Starts calls on the threads.
#[derive(Clone)]
pub(crate) struct CallStarter {
    foreground: Handle,
    background: Handle,
}

impl Threads {
    /// Starts `threads` foreground threads and as many background threads. A thread that becomes idle flushes deferred
    /// work of `internal`.
    pub(crate) fn start(threads: usize, internal: &Arc<dyn InternalService>) -> io::Result<Self> {
        let runtime = |name: &str, set_priority: fn()| {
            let internal = internal.clone();
            let built = Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name(name)
                // Computing guests must not delay the input and output of others for long.
                .event_interval(EVENT_INTERVAL_POLLS)
                .on_thread_start(move || {
                    set_priority();
                    response_sender::enable_batching();
                })
                .on_thread_park(move || {
                    response_sender::flush();
                    internal.flush_deferred();
                })
                .enable_all()
                .build()?;
            built.spawn(keep_timer());
            io::Result::Ok(built)
        };
        Ok(Self {
            foreground: runtime(FOREGROUND, lower_priority)?,
            background: runtime(BACKGROUND, set_sched_idle)?,
        })
    }

    pub(crate) fn starter(&self) -> CallStarter {
        CallStarter {
            foreground: self.foreground.handle().clone(),
            background: self.background.handle().clone(),
        }
    }

    /// Runs `future` to its end on the present thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.foreground.block_on(future)
    }

    /// Stops the threads without waiting for running calls.
    pub(crate) fn stop(self) {
        self.foreground.shutdown_background();
        self.background.shutdown_background();
    }
}

impl CallStarter {
    /// Runs `call`, whose computing is charged to `budget`, on the threads that its function's `class` selects.
    pub(crate) fn run<F>(
        &self,
        class: Arc<SchedulingClass>,
        budget: Arc<CpuBudget>,
        call: F,
    ) -> JoinHandle<Result<F::Output, JoinError>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let background = self.background.clone();
        let foreground_task = ForegroundTask::new(class.clone(), budget.clone(), call);
        self.foreground.spawn(async move {
            match foreground_task.await {
                Ok(output) => Ok(output),
                Err(call) => {
                    let rest = async move {
                        let output = call.await;
                        class.record_end(&budget);
                        output
                    };
                    background.spawn(rest).await
                }
            }
        })
    }
}

/// Keeps a timer set. A timer earlier than all others wakes the thread that waits for the earliest; without this one,
/// each call would cause such a wake-up for each of its time limits.
async fn keep_timer() {
    loop {
        tokio::time::sleep(TIMER_INTERVAL).await;
    }
}

/// Lowers the priority of the present thread below that of the threads that serve clicks.
fn lower_priority() {
    // On failure, for lack of permission, the thread keeps its priority.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), FOREGROUND_NICE);
}

/// Makes the present thread yield to every other thread that wakes.
fn set_sched_idle() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let set = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
    if set.is_err() {
        lower_priority();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::outbound::InternalResponse;
    use bytes::Bytes;
    use http::{Request, Response};

    struct NoService;

    impl InternalService for NoService {
        fn host(&self) -> &str {
            "none.internal"
        }

        fn respond(&self, _request: Request<Bytes>) -> InternalResponse {
            Box::pin(async { Response::new(Bytes::new()) })
        }

        fn flush_deferred(&self) {}
    }

    /// One thread of each kind, without an internal service.
    pub(crate) fn threads() -> Threads {
        let internal: Arc<dyn InternalService> = Arc::new(NoService);
        Threads::start(1, &internal).expect("threads start")
    }

    #[test]
    fn background_threads_have_the_idle_policy() {
        let threads = threads();
        let stat = threads.background.spawn(async {
            std::fs::read_to_string("/proc/thread-self/stat").expect("readable file")
        });
        let stat = threads.block_on(stat).expect("no panic");
        let after_name = stat.rsplit(')').next().expect("fields after the name");
        // The 41st field; 5 is SCHED_IDLE.
        let policy = after_name.split_whitespace().nth(41 - 3);
        assert_eq!(policy, Some("5"), "{stat}");
        threads.stop();
    }
}
