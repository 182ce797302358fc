//! Sends forged, altered, replayed and malformed postbacks and webhooks among authentic ones over HTTP to a real
//! edge with the deployed functions. The builder of a request knows the expected result; the results are compared
//! with the edge's counters and the tables. The edge's own decision logic is never used here.

mod attacks;
mod case;
mod client;
mod invalid_requests;
mod malformed;
mod oracle;
mod postbacks;
mod random;
mod reconciliation;
mod request;
mod senders;
mod webhooks;

use crate::clickhouse::Analyst;
use crate::function_files::FunctionFiles;
use crate::interrupt::Interrupt;
use crate::links;
use crate::stack::{Stack, StackOptions};
use anyhow::{Context as _, ensure};
use attacks::BuildCase;
use case::{Case, Expect};
use client::{HttpResponse, PipelinedClient};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use oracle::{NextStep, Reasons, RunResults};
use postbacks::TestData;
use random::Random;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tracking_events::{KeyId, KeyRing, MacKey, Micros};

/// Number of real clicks.
const CLICK_COUNT: usize = 200;
/// Maximum number of pipelined requests on a connection.
const MAX_PIPELINE_DEPTH: usize = 4;
const MAX_ATTEMPTS: u32 = 200;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum retries per thousand requests; above it the run measured overload, not correctness.
const MAX_RETRIES_PER_THOUSAND: u64 = 20;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(600);

/// Options of a run of hostile reports.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Number of requests.
    #[arg(long, default_value_t = 1_000_000)]
    pub requests: u64,
    /// Seed of the requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Concurrent connections.
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// Number of the first request; with the same seed, this repeats a single request.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
}

/// Results of a run.
#[derive(Debug, serde::Serialize)]
pub struct HostileReport {
    /// The seed of the run.
    pub seed: u64,
    /// Sent requests, including retries.
    pub sent: u64,
    /// Requests answered with 2xx.
    pub taken: u64,
    /// Requests rejected with a number.
    pub refused: u64,
    /// Requests that are not HTTP and were rejected or got no response.
    pub not_http: u64,
    /// Documented responses above 499, such as of an advertiser without offers.
    pub stated_5xx: u64,
    /// Responses that asked for a retry, which followed.
    pub told_to_try_again: u64,
    /// Accepted requests that are not authentic.
    pub accepted_forgeries: u64,
    /// All differences from the expected results.
    pub faults: Vec<String>,
    /// From the first request to the last response.
    pub seconds: f64,
    /// Responses per second.
    pub rate: f64,
}

/// Runs the requests, prints the results and, as the last line, a JSON object.
///
/// # Errors
/// If a result differs from the expected one, or the stack can't be started.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let dir = crate::demo::RunDir::create("hostile")?;
    let verdict = run_in(options, dir.path(), Some(interrupt))?;
    for fault in &verdict.faults {
        println!("FAULT: {fault}");
    }
    println!("{}", serde_json::to_string(&verdict)?);
    ensure!(
        verdict.faults.is_empty(),
        "faults are listed above; --seed {} repeats the run",
        options.seed
    );
    Ok(())
}

/// Runs the requests against an edge with data in `dir`, prints a table and returns the results.
///
/// # Errors
/// If the stack can't be started.
pub fn run_in(
    options: &Options,
    dir: &Path,
    interrupt: Option<Interrupt>,
) -> anyhow::Result<HostileReport> {
    println!("seed {}, {} requests", options.seed, options.requests);
    let stack_options = StackOptions {
        functions: true,
        function_files: Some(FunctionFiles {
            advertisers: senders::advertisers(),
            variables: senders::variables(),
        }),
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir, 1, None, &stack_options, |_| {})?;
    let edge = stack.edge_urls[0].strip_prefix("http://");
    let edge: SocketAddr = edge.context("an address")?.parse()?;
    let data = test_data(&stack, dir)?;
    let started = Instant::now();
    let results = send(options, edge, data, interrupt)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("\n{}", table(&results));
    let mut faults = results.shown.clone();
    if results.faults > faults.len() as u64 {
        faults.push(format!("… {} in all", results.faults));
    }
    let admin = &stack.edge_admin_urls[0];
    faults.extend(reconciliation::compare_counters(admin, &results)?);
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
    let within = ARRIVAL_TIMEOUT;
    faults.extend(reconciliation::compare_tables(
        admin, &analyst, &results, within,
    )?);
    let verdict = verdict(options, &results, faults, seconds);
    stack.stop()?;
    Ok(verdict)
}

fn verdict(
    options: &Options,
    results: &RunResults,
    mut faults: Vec<String>,
    seconds: f64,
) -> HostileReport {
    let rows = || results.rows.values();
    let sent: u64 = rows().map(|row| row.sent).sum();
    if results.retries * 1_000 > sent * MAX_RETRIES_PER_THOUSAND {
        faults.push(format!(
            "{} of {sent} requests had to be retried",
            results.retries
        ));
    }
    HostileReport {
        seed: options.seed,
        sent,
        taken: rows().map(|row| row.accepted).sum(),
        refused: results.refused().values().sum(),
        not_http: rows().map(|row| row.closed).sum(),
        stated_5xx: rows().map(|row| row.above_499).sum::<u64>() - results.retries,
        told_to_try_again: results.retries,
        accepted_forgeries: results.forgeries,
        faults,
        seconds: (seconds * 10.0).round() / 10.0,
        rate: (sent as f64 / seconds).round(),
    }
}

/// Creates clicks on the edge and reads the keys that sign them.
fn test_data(stack: &Stack, dir: &Path) -> anyhow::Result<TestData> {
    #[derive(serde::Deserialize)]
    struct Secrets {
        click_id: Keys,
    }
    #[derive(serde::Deserialize)]
    struct Keys {
        active: u8,
        keys: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(dir.join("secrets.toml"))?;
    let Secrets { click_id } = toml::from_str(&text)?;
    let key = click_id.keys.get(&click_id.active.to_string());
    let key = data_encoding::HEXLOWER_PERMISSIVE.decode(key.context("a key")?.as_bytes())?;
    let key: [u8; 32] = key.try_into().ok().context("32 bytes")?;
    let ring = |id: u8, key: [u8; 32]| {
        let id = KeyId::new(id)?;
        anyhow::Ok(KeyRing::new(id, [(id, MacKey::new(key))])?)
    };
    let config = ureq::Agent::config_builder().max_redirects(0).build();
    let agent = ureq::Agent::new_with_config(config);
    let slugs = links::sample_slugs();
    let mut clicks = Vec::new();
    for number in 0..CLICK_COUNT {
        let url = format!("{}/c/{}", stack.edge_urls[0], slugs[number % slugs.len()]);
        let response = agent.get(url).call()?;
        let to = response.headers().get("location").context("a redirect")?;
        let id = to
            .to_str()?
            .split("cid=")
            .nth(1)
            .and_then(|rest| rest.get(..tracking_events::CLICK_ID_CHARS));
        clicks.push(id.context("a click id")?.to_owned());
    }
    Ok(TestData {
        clicks,
        ring: ring(click_id.active, key)?,
        foreign: ring(click_id.active, [7; 32])?,
        unknown: ring(click_id.active ^ 16, key)?,
        now: Micros::now(),
    })
}

/// State shared by all connections.
struct Run {
    options: Options,
    edge: SocketAddr,
    data: TestData,
    reasons: Reasons,
    next: Cell<u64>,
    results: RefCell<RunResults>,
    progress: ProgressBar,
    interrupt: Option<Interrupt>,
}

fn send(
    options: &Options,
    edge: SocketAddr,
    data: TestData,
    interrupt: Option<Interrupt>,
) -> anyhow::Result<RunResults> {
    let style = "{bar:40} {human_pos}/{human_len} requests, {per_sec}, {eta} left";
    let progress = ProgressBar::new(options.requests);
    let run = Rc::new(Run {
        options: options.clone(),
        edge,
        data,
        reasons: Reasons::documented(),
        next: Cell::new(options.first),
        results: RefCell::default(),
        progress: progress.with_style(ProgressStyle::with_template(style)?),
        interrupt,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let lanes = LocalSet::new();
    for _ in 0..options.connections.max(1) {
        let run = run.clone();
        lanes.spawn_local(async move { run.lane().await });
    }
    runtime.block_on(lanes);
    if let Some(interrupt) = &run.interrupt {
        interrupt.check()?;
    }
    run.progress.finish_and_clear();
    let results = run.results.take();
    Ok(results)
}

impl Run {
    /// The next request and its number; `None` at the end.
    fn take(&self) -> Option<(u64, Case)> {
        let number = self.next.get();
        let is_interrupted = self
            .interrupt
            .as_ref()
            .is_some_and(|it| it.check().is_err());
        if is_interrupted || number >= self.options.first + self.options.requests {
            return None;
        }
        self.next.set(number + 1);
        self.progress.inc(1);
        let mut random = Random::new(self.options.seed, number);
        Some((number, build_case(&self.data, &mut random, number)))
    }

    async fn lane(&self) {
        let mut lane = PipelinedClient::new(self.edge);
        loop {
            let mut send_pipelined = Vec::new();
            let mut depth = 1 + (self.next.get() as usize) % MAX_PIPELINE_DEPTH;
            while send_pipelined.len() < depth
                && let Some((number, case)) = self.take()
            {
                if case.send_alone {
                    self.send_alone(number, &case).await;
                } else {
                    // A repeated request is sent again before its first response.
                    depth += case.times as usize - 1;
                    let case = Rc::new(case);
                    send_pipelined.extend((0..case.times).map(|_| (number, case.clone())));
                }
            }
            if send_pipelined.is_empty() {
                return;
            }
            self.send_pipelined(&mut lane, send_pipelined).await;
        }
    }

    async fn send_pipelined(&self, lane: &mut PipelinedClient, mut cases: Vec<(u64, Rc<Case>)>) {
        for _ in 0..MAX_ATTEMPTS {
            let sent: Vec<&Case> = cases.iter().map(|(_, case)| &**case).collect();
            let responses = lane.send_all(&sent).await;
            let mut retries = Vec::new();
            for ((number, case), response) in cases.into_iter().zip(&responses) {
                if self.record(number, &case, response) == NextStep::Retry {
                    retries.push((number, case));
                }
            }
            if retries.is_empty() {
                return;
            }
            cases = retries;
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        for (number, case) in cases {
            let mut results = self.results.borrow_mut();
            results.fault(number, &case, "had to be retried too often");
        }
    }

    /// Records a request and its response.
    fn record(
        &self,
        number: u64,
        case: &Case,
        response: &std::io::Result<HttpResponse>,
    ) -> NextStep {
        let mut results = self.results.borrow_mut();
        results.row(case).sent += 1;
        results.take(&self.reasons, number, case, response)
    }

    async fn send_alone(&self, number: u64, case: &Case) {
        if case.expect != Expect::NotHttp {
            for _ in 0..MAX_ATTEMPTS {
                let response = client::send_on_own_connection(self.edge, case).await;
                if self.record(number, case, &response) == NextStep::Done {
                    return;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            return;
        }
        let responses = client::send_raw(self.edge, case).await;
        let mut results = self.results.borrow_mut();
        results.row(case).sent += 1;
        match responses {
            Ok(responses) if responses.is_empty() => results.row(case).closed += 1,
            Ok(responses) => {
                for response in responses {
                    results.take(&self.reasons, number, case, &Ok(response));
                }
            }
            Err(error) => {
                results.take(&self.reasons, number, case, &Err(error));
            }
        }
    }
}

/// Builds a request of a random kind.
fn build_case(data: &TestData, random: &mut Random, number: u64) -> Case {
    let kinds = || {
        let all = [
            attacks::KINDS,
            invalid_requests::KINDS,
            webhooks::KINDS,
            malformed::KINDS,
        ];
        all.into_iter().flatten()
    };
    let mut at = random.below(kinds().map(|(weight, _)| weight).sum());
    for (weight, make) in kinds() {
        if at < *weight {
            return make(data, random, number);
        }
        at -= weight;
    }
    let (_, first): (usize, BuildCase) = attacks::KINDS[0];
    first(data, random, number)
}

fn table(results: &RunResults) -> Table {
    let reasons = Reasons::documented();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "kind of request",
        "sent",
        "2xx",
        "rejected with",
        "not HTTP",
        "5xx",
    ]);
    for (kind, row) in &results.rows {
        let refused = row.refused.iter();
        let refused =
            refused.map(|(number, count)| format!("{number} {}: {count}", reasons.name(*number)));
        table.add_row([
            (*kind).to_owned(),
            row.sent.to_string(),
            row.accepted.to_string(),
            refused.collect::<Vec<_>>().join(", "),
            row.closed.to_string(),
            row.above_499.to_string(),
        ]);
    }
    for column in [1, 2, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
