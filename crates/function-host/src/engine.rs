//! wasmtime as we use it: code compiled ahead and kept on disk, instances from a pool, and a clock that
//! interrupts whoever computes for long.

use crate::guest::Guest;
use crate::outbound::Internal;
use crate::{LoadError, offered};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;

/// How often who computes is interrupted: to look at its budget and to let others go on.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// So many ticks the clock goes on while nothing runs: to stop it and start it again with each call would cost more.
const IDLE_TICKS: u32 = 50;
/// Modules that a component may be made of; Rust's are of three or four.
const MODULES: u32 = 10;
const PAGE: usize = 64 << 10;
/// What an instance gives back to the pool without asking the system, in bytes.
const KEEP_RESIDENT: usize = 1 << 20;

/// Compiles components and keeps time for their instances.
pub(crate) struct Engine {
    engine: wasmtime::Engine,
    linker: Linker<Guest>,
    clock: Clock,
}

impl Engine {
    /// An engine for so many instances at once, each with so much memory. Its clock lets `internal` settle what was
    /// put off, so that nobody waits for a thread that others keep from running.
    pub(crate) fn new(
        cache_dir: &Path,
        instances: u32,
        memory_bytes: usize,
        internal: Arc<dyn Internal>,
    ) -> Result<Self, LoadError> {
        let made = configure(cache_dir, instances, memory_bytes).and_then(|config| {
            let engine = wasmtime::Engine::new(&config)?;
            let mut linker = Linker::new(&engine);
            // The standard library imports WASI 0.2, what the SDK makes 0.3.
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            wasmtime_wasi::p3::add_to_linker(&mut linker)?;
            wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
            offered::add_to_linker(&mut linker)?;
            let interrupted = engine.clone();
            let clock = Clock::start(move || {
                interrupted.increment_epoch();
                internal.settle();
            })?;
            Ok(Self {
                engine,
                linker,
                clock,
            })
        });
        made.map_err(|error| LoadError::Engine(format!("{error:#}")))
    }

    /// Compiles a component, or finds it compiled, and links all that it imports.
    pub(crate) fn prepare(&self, wasm: &[u8]) -> wasmtime::Result<ServicePre<Guest>> {
        let component = Component::new(&self.engine, wasm)?;
        ServicePre::new(self.linker.instantiate_pre(&component)?)
    }

    pub(crate) const fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Keeps the clock going while something runs.
    pub(crate) fn running(&self) -> Running {
        self.clock.begin()
    }
}

fn configure(cache_dir: &Path, instances: u32, memory_bytes: usize) -> wasmtime::Result<Config> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * MODULES)
        .total_memories(instances * 2)
        .total_tables(instances * MODULES)
        .total_stacks(instances * 2)
        .max_core_instances_per_component(MODULES)
        .max_memories_per_component(2)
        .max_tables_per_component(MODULES)
        .max_memory_size(memory_bytes.next_multiple_of(PAGE))
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(PAGE)
        .pagemap_scan(Enabled::Auto);
    let mut cache = CacheConfig::new();
    cache.with_directory(cache_dir);
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cache(Some(Cache::new(cache)?));
    Ok(config)
}

/// Ticks while something runs and a little longer, and sleeps while nothing does.
struct Clock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    running: AtomicUsize,
    stop: AtomicBool,
}

/// Something that runs.
pub(crate) struct Running(Arc<Shared>);

impl Clock {
    /// One that does this with each tick.
    fn start(does: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let ticking = shared.clone();
        let thread = thread::Builder::new()
            .name("function-clock".into())
            .spawn(move || tick(&does, &ticking))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    fn begin(&self) -> Running {
        if self.shared.running.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(self.shared.clone())
    }
}

fn tick(does: &impl Fn(), shared: &Shared) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::Acquire) {
        let runs = shared.running.load(Ordering::Acquire) > 0;
        idle = if runs { 0 } else { idle + 1 };
        if idle > IDLE_TICKS {
            thread::park();
        } else {
            thread::sleep(TICK);
            does();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has no way to fail.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, RecvTimeoutError};

    #[test]
    fn the_clock_stops_when_nothing_runs_for_long_and_goes_on_when_something_does() {
        let (tick, ticks) = mpsc::channel();
        let clock = Clock::start(move || {
            // The test may be over.
            let _ = tick.send(());
        });
        let clock = clock.expect("started");
        for _ in 0..2 {
            let running = clock.begin();
            for _ in 0..2 * IDLE_TICKS {
                let tick = ticks.recv_timeout(Duration::from_secs(10));
                tick.expect("it goes on while something runs");
            }
            drop(running);
            let mut rest = 0..10 * IDLE_TICKS;
            let stopped = rest.find_map(|_| ticks.recv_timeout(Duration::from_secs(1)).err());
            assert_eq!(stopped, Some(RecvTimeoutError::Timeout));
        }
    }
}
