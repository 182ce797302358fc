//! A real Prometheus that scrapes a stack and evaluates the deployed rules.

use anyhow::{Context as _, ensure};
use loadtest::process::Process;
use loadtest::stack::Stack;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const RANGE_SECONDS: u64 = 60;

/// A running Prometheus; dropping it kills it.
pub(crate) struct Prometheus {
    url: String,
    _process: Process,
}

impl Prometheus {
    /// Starts Prometheus with its data in `dir`.
    pub(crate) fn start(dir: &Path, stack: &Stack) -> anyhow::Result<Self> {
        let dir = dir.join("prometheus");
        fs::create_dir_all(&dir)?;
        let file = dir.join("prometheus.yaml");
        fs::write(&file, configuration(stack)?)?;
        let address = format!("127.0.0.1:{}", clickhouse_embedded::free_port()?);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start("prometheus", &mut command, &dir.join("log"))
            .context("install it: apt-get install prometheus")?;
        let prometheus = Self {
            url: format!("http://{address}"),
            _process: process,
        };
        let deadline = Instant::now() + READY_TIMEOUT;
        while ureq::get(format!("{}/-/ready", prometheus.url))
            .call()
            .is_err()
        {
            ensure!(Instant::now() < deadline, "Prometheus is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(prometheus)
    }

    /// The alerts that fire, or will if nothing changes.
    pub(crate) fn active_alerts(&self) -> anyhow::Result<Vec<Value>> {
        let mut response = ureq::get(format!("{}/api/v1/alerts", self.url)).call()?;
        let body: Value = serde_json::from_str(&response.body_mut().read_to_string()?)?;
        let alerts = body["data"]["alerts"].as_array();
        alerts.cloned().context("no list of alerts")
    }

    /// Whether a query returns a finite number.
    pub(crate) fn has_data(&self, expression: &str, instant: bool) -> anyhow::Result<bool> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let path = if instant { "query" } else { "query_range" };
        let mut response = ureq::get(format!("{}/api/v1/{path}", self.url))
            .query("query", expression)
            .query("start", (now - RANGE_SECONDS).to_string())
            .query("end", now.to_string())
            .query("step", "1")
            .config()
            .http_status_as_error(false)
            .build()
            .call()?;
        let body: Value = serde_json::from_str(&response.body_mut().read_to_string()?)?;
        ensure!(
            body["status"] == "success",
            "{expression}: {}",
            body["error"]
        );
        let series = body["data"]["result"].as_array();
        let series = series.with_context(|| format!("{expression}: no result"))?;
        let samples = series.iter().flat_map(samples);
        Ok(samples.filter_map(|it| it[1].as_str()).any(is_finite))
    }
}

fn samples(series: &Value) -> Vec<&Value> {
    match series["values"].as_array() {
        Some(values) => values.iter().collect(),
        None => vec![&series["value"]],
    }
}

fn is_finite(number: &str) -> bool {
    number.parse().is_ok_and(f64::is_finite)
}

fn configuration(stack: &Stack) -> anyhow::Result<String> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/prometheus/fanzfiliate-edge.rules.yaml")
        .canonicalize()?;
    let target = |url: &String| url.trim_start_matches("http://").to_owned();
    let edges: Vec<String> = stack.edge_admin_urls.iter().map(target).collect();
    let aggregator = target(&stack.aggregator_admin_url);
    Ok(format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [{rules:?}]\n\
         scrape_configs:\n\
         - job_name: edge-tracker\n  static_configs: [{{targets: {edges:?}}}]\n\
         - job_name: aggregator\n  static_configs: [{{targets: [{aggregator:?}]}}]\n"
    ))
}
