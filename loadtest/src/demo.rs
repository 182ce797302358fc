//! The demo: runs the whole pipeline on traffic, shows the analysts' tables, and verifies that nothing was lost.

use crate::affiliates::{AffiliateTracker, DeliveryCounts};
use crate::clickhouse::{Analyst, QueryResult};
use crate::interrupt::Interrupt;
use crate::replay::{self, Outcome};
use crate::sales::{self, Progress, SalesCounts};
use crate::stack::{Stack, StackOptions};
use crate::verify::{self, Comparison};
use crate::{links, traffic};
use anyhow::{Context as _, bail, ensure};
use clickhouse_schema::COOKBOOK;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const EDGES: u16 = 2;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
/// A postback that was in flight when the aggregator was killed is retried after its lease.
const POSTBACK_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECTIONS: usize = 16;
/// Kills of edges, and as many of the aggregator, while sales are reported.
const KILLS: usize = 6;

/// Options of the demo.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// A log to replay; sample traffic if absent.
    pub replay: Option<PathBuf>,
    /// Requests per second.
    pub rate: f64,
    /// A file of countries by IP address; without it countries are unknown.
    pub geo: Option<PathBuf>,
    /// Whether edges and aggregator are killed while sales are reported.
    pub kill: bool,
    /// Whether to exit once everything is shown.
    pub exit: bool,
}

/// Runs the demo.
///
/// # Errors
/// If a process does not start, or an answered request is missing or duplicated at the end.
pub fn run(options: &DemoOptions) -> anyhow::Result<()> {
    ensure!(options.rate > 0.0, "--rate must be above 0");
    let mut interrupt = Interrupt::listen()?;
    let dir = tempfile::Builder::new()
        .prefix("fanzfiliate-demo-")
        .tempdir()?;
    let log = match &options.replay {
        Some(log) => log.clone(),
        None => traffic::sample(dir.path())?,
    };
    let geo = options.geo.as_deref().filter(|file| file.is_file());
    if geo.is_none() {
        println!("No country file: countries will be unknown.");
    }
    let tracker = AffiliateTracker::start()?;
    let mut stack = start(dir.path(), geo, &tracker)?;
    interrupt.check()?;
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
    let outcome = replay(&stack, &log, options.rate, &mut interrupt)?;
    interrupt.check()?;
    print!("\n{}", outcome.table());
    let mut comparison = verify::verify(&analyst, &outcome, 0, ARRIVAL_TIMEOUT)?;
    let times = Latencies::read(&stack)?;
    let kills = if options.kill { KILLS } else { 0 };
    let sales = report_sales(&mut stack, &analyst, &outcome.run, kills)?;
    let delivered = check_affiliate_postbacks(&tracker, &sales)?;
    if options.kill {
        comparison = verify::verify(&analyst, &outcome, 0, ARRIVAL_TIMEOUT)?;
    }
    show_tables(&analyst, &outcome.run)?;
    show_addresses(&stack);
    let summary = summary(&times, &outcome, &comparison, &sales, delivered);
    if !options.exit {
        println!("{summary}\n\nAll processes keep running until Ctrl-C.");
        runtime()?.block_on(interrupt.received());
    }
    stack.stop()?;
    println!("{summary}");
    if comparison.missing + comparison.duplicated + comparison.wrong_ids > 0 {
        bail!("an answered request is missing, duplicated or has another id: {comparison:?}");
    }
    if outcome.sent == 0 || outcome.answered.len() as u64 != outcome.sent || outcome.unsent > 0 {
        bail!("not every request was answered; see the table above");
    }
    Ok(())
}

fn start(dir: &Path, geo: Option<&Path>, tracker: &AffiliateTracker) -> anyhow::Result<Stack> {
    let started = Instant::now();
    let options = StackOptions {
        functions: true,
        aggregator_settings: tracker.settings(dir)?,
        ..StackOptions::default()
    };
    let stack = Stack::start_with(dir, EDGES, geo, &options, |step| {
        println!(
            "{:>6.1} s  starting {step}",
            started.elapsed().as_secs_f64()
        );
    })?;
    println!(
        "{:>6.1} s  all processes ready",
        started.elapsed().as_secs_f64()
    );
    Ok(stack)
}

fn replay(
    stack: &Stack,
    log: &Path,
    rate: f64,
    interrupt: &mut Interrupt,
) -> anyhow::Result<Outcome> {
    println!(
        "\nReplaying {} at {rate:.0} requests per second.",
        log.display()
    );
    let run = format!("demo-{:08x}", getrandom::u32().context("no randomness")?);
    let options = replay::ReplayOptions {
        rate: Some(rate),
        connections: CONNECTIONS,
        progress: std::io::stderr().is_terminal(),
        ..replay::ReplayOptions::new(log, &stack.edge_urls, &run)
    };
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = replay::run(options) => outcome,
            () = interrupt.received() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // The log's reader may be blocked on a closed queue.
    runtime.shutdown_background();
    outcome
}

/// Advertisers report sales for a share of the clicks, and the KYC provider checks affiliates, while processes are
/// killed. Afterwards the tables must hold exactly these sales.
///
/// # Errors
/// If the tables hold something else.
pub fn report_sales(
    stack: &mut Stack,
    analyst: &Analyst,
    run: &str,
    kills: usize,
) -> anyhow::Result<SalesCounts> {
    println!("\nAdvertisers report sales, with repeats, revisions and forgeries among them.");
    let started = Instant::now();
    let (edges, affiliates) = (stack.edge_urls.clone(), links::sample_affiliates());
    let sent = sales::report(analyst, run, &edges, &affiliates, |progress| {
        kill(stack, progress, kills)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let found = sales::wait_until_stored(analyst, &sent, ARRIVAL_TIMEOUT)?;
    println!(
        "{} conversions, {} revisions, {} repeats, {} rejected, {} KYC checks in {seconds:.1} s: \
         the tables hold exactly these.",
        found.conversions,
        found.revisions,
        found.duplicates,
        found.rejections(),
        found.kyc_updates
    );
    if kills > 0 {
        println!(
            "Edges and the aggregator were killed {kills} times each; {} requests were retried because \
             their responses were lost. Of these, repeats and rejections may be stored twice.",
            sent.retries()
        );
    }
    println!("{}", sent.rejections_table(&found));
    Ok(found)
}

/// Waits until the affiliates received exactly one postback per conversion and per revision.
///
/// # Errors
/// If they received fewer or more.
pub fn check_affiliate_postbacks(
    tracker: &AffiliateTracker,
    sales: &SalesCounts,
) -> anyhow::Result<DeliveryCounts> {
    let delivered =
        tracker.wait_for_postbacks(sales.conversions + sales.revisions, POSTBACK_TIMEOUT)?;
    println!(
        "Affiliates received a signed postback for each conversion and each revision: {} postbacks, {} of \
         them only after a retry.",
        delivered.postbacks, delivered.retried
    );
    Ok(delivered)
}

/// Kills one edge after another, each together with the aggregator, while requests are sent.
fn kill(stack: &mut Stack, progress: &Progress<'_>, kills: usize) -> anyhow::Result<()> {
    for number in 0..kills {
        progress.wait_for((number as f64 + 0.5) / kills as f64);
        let edge = number % stack.edges.len();
        stack.edges[edge].kill()?;
        stack.aggregator.kill()?;
        stack.edges[edge].restart()?;
        stack.aggregator.restart()?;
    }
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

fn show_tables(analyst: &Analyst, run: &str) -> anyhow::Result<()> {
    for query in COOKBOOK {
        println!("\n{}\n{}", query.title, table(&analyst.query(query.sql)?));
    }
    let curve = format!(
        "SELECT sub1 AS hour_in_log, countIf(counted) AS clicks, \
         countIf(counted AND NOT repeated AND NOT uniqueness_unknown) AS uniques, countIf(bot) AS bots, \
         bar(clicks, 0, max(clicks) OVER (), 30) AS curve \
         FROM clicks WHERE source = '{run}' GROUP BY sub1 ORDER BY sub1"
    );
    println!(
        "\nClicks by the hour in the log (sent as sub1)\n{}",
        table(&analyst.query(&curve)?)
    );
    Ok(())
}

fn table(result: &QueryResult) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(&result.columns);
    for row in &result.rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        let rows = &result.rows;
        let is_number = |row: &Vec<String>| row[column.index].parse::<f64>().is_ok();
        if !rows.is_empty() && rows.iter().all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn show_addresses(stack: &Stack) {
    let slug = &links::sample_slugs()[0];
    println!("\nTry:");
    for (edge, admin) in stack.edge_urls.iter().zip(&stack.edge_admin_urls) {
        println!("  curl -i '{edge}/c/{slug}?sub1=hello'");
        println!("  curl -o pixel.gif '{edge}/i/{slug}.gif'");
        println!("  curl -s {admin}/metrics");
    }
    println!("  curl -s {}/metrics", stack.aggregator_admin_url);
    println!(
        "  {}/play as user `analyst`; the password is in {}\n",
        stack.clickhouse_url,
        stack.credentials.display()
    );
}

/// Latencies of clicks; a killed process loses its measurements.
struct Latencies {
    log: f64,
    freshness: f64,
}

impl Latencies {
    fn read(stack: &Stack) -> anyhow::Result<Self> {
        let aggregator = std::slice::from_ref(&stack.aggregator_admin_url);
        Ok(Self {
            log: verify::quantile(&stack.edge_admin_urls, "edge_click_log_seconds", 0.99)?,
            freshness: verify::quantile(aggregator, "aggregator_freshness_seconds", 0.99)?,
        })
    }
}

fn summary(
    times: &Latencies,
    outcome: &Outcome,
    comparison: &Comparison,
    sales: &SalesCounts,
    delivered: DeliveryCounts,
) -> String {
    let counts = &comparison.counts;
    let summary = json!({
        "sent": outcome.sent,
        "answered": outcome.answered.len(),
        "clicks": counts.clicks,
        "impressions": counts.impressions,
        "unique_clicks": counts.unique_clicks,
        "repeated_clicks": counts.repeated_clicks,
        "bot_clicks": counts.bot_clicks,
        "bot_impressions": counts.bot_impressions,
        "prefetch": counts.prefetch,
        "head": counts.head,
        "flagged": counts.flagged,
        "missing": comparison.missing,
        "duplicated": comparison.duplicated,
        "conversions": sales.conversions,
        "conversion_revisions": sales.revisions,
        "conversion_duplicates": sales.duplicates,
        "postbacks_refused": sales.rejections(),
        "kyc_updates": sales.kyc_updates,
        "affiliate_postbacks": delivered.postbacks,
        "redirect_p50_us": outcome.latency.value_at_quantile(0.5),
        "redirect_p99_us": outcome.latency.value_at_quantile(0.99),
        "click_log_p99_us": (times.log * 1e7).round() / 10.0,
        "freshness_p99_ms": (times.freshness * 1e4).round() / 10.0,
    });
    summary.to_string()
}
