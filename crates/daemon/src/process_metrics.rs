//! Metrics of the process itself: its version and its use of resources, under the names of Prometheus'
//! client libraries.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGaugeVec, Opts, Registry};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Registers `build_info` and `process_*`; call this when the process starts.
///
/// # Errors
/// When the registry already has metrics of these names.
pub fn register(registry: &Registry, program: &str, version: &str) -> prometheus::Result<()> {
    let build = IntGaugeVec::new(
        Opts::new("build_info", "1, with the program and its version."),
        &["program", "version"],
    )?;
    build.with_label_values(&[program, version]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(ProcessMetrics::new()?))
}

/// Process metrics, updated when metrics are gathered.
struct ProcessMetrics {
    cpu_seconds: Counter,
    start_time: Gauge,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    threads: Gauge,
    open_files: Gauge,
    max_files: Gauge,
}

impl ProcessMetrics {
    fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::new(name, help);
        let process = Self {
            cpu_seconds: Counter::new("process_cpu_seconds_total", "Processor time, in seconds.")?,
            start_time: gauge(
                "process_start_time_seconds",
                "When the process started, in seconds since 1970.",
            )?,
            resident_bytes: gauge("process_resident_memory_bytes", "Memory that is resident.")?,
            virtual_bytes: gauge("process_virtual_memory_bytes", "Memory that is mapped.")?,
            threads: gauge("process_threads", "Threads.")?,
            open_files: gauge("process_open_fds", "Open file descriptors.")?,
            max_files: gauge("process_max_fds", "Limit of open file descriptors.")?,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        process
            .start_time
            .set(now.unwrap_or_default().as_secs_f64());
        Ok(process)
    }

    fn collectors(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu_seconds,
            &self.start_time,
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.threads,
            &self.open_files,
            &self.max_files,
        ]
    }

    fn update(&self) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        self.cpu_seconds
            .inc_by((used - self.cpu_seconds.get()).max(0.0));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
        };
        self.resident_bytes.set(field("VmRSS:") * 1024.0);
        self.virtual_bytes.set(field("VmSize:") * 1024.0);
        self.threads.set(field("Threads:"));
        // Excludes the descriptor that reads the directory.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1));
        self.open_files.set(open as f64);
        let limit = getrlimit(Resource::Nofile).current;
        self.max_files
            .set(limit.map_or(f64::INFINITY, |limit| limit as f64));
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let collectors = self.collectors().into_iter();
        collectors.flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.update();
        let collectors = self.collectors().into_iter();
        collectors.flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_metrics_have_values() {
        let registry = Registry::new();
        register(&registry, "tests", "1.2.3").expect("registered once");
        let families = registry.gather();
        let value = |name: &str| {
            let family = families.iter().find(|it| it.name() == name);
            let family = family.unwrap_or_else(|| panic!("no {name}"));
            let metric = &family.get_metric()[0];
            metric
                .get_gauge()
                .get_value()
                .max(metric.get_counter().get_value())
        };
        for name in [
            "build_info",
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(value(name) > 0.0, "{name}");
        }
    }
}
