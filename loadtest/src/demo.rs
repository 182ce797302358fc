//! The demo: the whole pipeline on real traffic, shown as an analyst sees it, and proved.

use crate::affiliates::{Heard, Tracker};
use crate::clickhouse::{Analyst, Answer};
use crate::interrupt::Interrupt;
use crate::replay::{self, Outcome};
use crate::sales::{self, Progress, Sales};
use crate::stack::{Stack, Wiring};
use crate::verify::{self, Verdict};
use crate::{links, traffic};
use anyhow::{Context as _, bail};
use clickhouse_schema::COOKBOOK;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SAMPLE_LINES: u64 = 10_000;
const SAMPLE_SEED: u64 = 20_261_120;
const EDGES: u16 = 2;
const ARRIVE_WITHIN: Duration = Duration::from_secs(60);
/// What the aggregator was sending when it was killed is sent again when its lease has ended.
const TOLD_WITHIN: Duration = Duration::from_secs(90);
const CONNECTIONS: usize = 16;
/// How often edges, and as often the aggregator, are killed while sales are reported.
const KILLS: usize = 6;

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    /// A log to replay instead of sample traffic.
    pub replay: Option<PathBuf>,
    /// Requests a second.
    pub rate: f64,
    /// A file of countries by address; absent, countries are unknown.
    pub geo: Option<PathBuf>,
    /// Whether edges and aggregator are killed while sales are reported.
    pub kill: bool,
    /// Whether to stop once everything is shown.
    pub exit: bool,
}

/// Runs the demo.
///
/// # Errors
/// When something does not start, or an answered request is missing or doubled at the end.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::listen()?;
    let folder = Folder::make("demo")?;
    let log = match &options.replay {
        Some(log) => log.clone(),
        None => sample(folder.path())?,
    };
    let geo = options.geo.as_deref().filter(|file| file.is_file());
    if geo.is_none() {
        println!("No file of countries by address: countries will be unknown.");
    }
    let tracker = Tracker::start()?;
    let mut stack = start(folder.path(), geo, &tracker)?;
    interrupt.check()?;
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
    let outcome = replay(&stack, &log, options.rate, &mut interrupt)?;
    interrupt.check()?;
    print!("\n{}", outcome.table());
    let mut verdict = verify::verify(&analyst, &outcome, 0, ARRIVE_WITHIN)?;
    let times = Times::read(&stack)?;
    let kills = if options.kill { KILLS } else { 0 };
    let sales = sell(&mut stack, &analyst, &outcome.run, kills)?;
    let told = tell(&tracker, &sales)?;
    if options.kill {
        verdict = verify::verify(&analyst, &outcome, 0, ARRIVE_WITHIN)?;
    }
    show_tables(&analyst, &outcome.run)?;
    show_addresses(&stack);
    let summary = summary(&times, &outcome, &verdict, &sales, told);
    if !options.exit {
        println!("{summary}\n\nEverything stays up until Ctrl-C.");
        runtime()?.block_on(interrupt.wished());
    }
    stack.stop()?;
    println!("{summary}");
    if verdict.missing + verdict.duplicated + verdict.wrong_ids > 0 {
        bail!("an answered request is missing, doubled or has another id: {verdict:?}");
    }
    if outcome.sent == 0 || outcome.answered.len() as u64 != outcome.sent || outcome.unsent > 0 {
        bail!("not every request was answered; see the table above");
    }
    Ok(())
}

/// A folder of a run's own, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn make(what: &str) -> anyhow::Result<Self> {
        let name = format!(
            "fanzfiliate-{what}-{:08x}",
            getrandom::u32().context("no randomness")?
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sample(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("sample.log");
    let mut out = BufWriter::new(File::create(&path)?);
    traffic::write(SAMPLE_SEED, SAMPLE_LINES, &mut out)?;
    out.flush()?;
    println!("Sample traffic: {SAMPLE_LINES} requests of one day.");
    Ok(path)
}

fn start(folder: &Path, geo: Option<&Path>, tracker: &Tracker) -> anyhow::Result<Stack> {
    let started = Instant::now();
    let wiring = Wiring {
        functions: true,
        aggregator_settings: tracker.settings(folder)?,
        ..Wiring::default()
    };
    let stack = Stack::start_wired(folder, EDGES, geo, &wiring, |step| {
        println!(
            "{:>6.1} s  starting {step}",
            started.elapsed().as_secs_f64()
        );
    })?;
    println!("{:>6.1} s  all ready", started.elapsed().as_secs_f64());
    Ok(stack)
}

fn replay(
    stack: &Stack,
    log: &Path,
    rate: f64,
    interrupt: &mut Interrupt,
) -> anyhow::Result<Outcome> {
    println!(
        "\nReplaying {} at {rate:.0} requests a second.",
        log.display()
    );
    let options = replay::Options {
        log: log.into(),
        targets: stack.edge_urls.clone(),
        slugs: links::sample_slugs(),
        rate: Some(rate),
        connections: CONNECTIONS,
        limit: None,
        repeat: 1,
        run: format!("demo-{:08x}", getrandom::u32().context("no randomness")?),
        progress: std::io::stderr().is_terminal(),
        stop: Arc::default(),
    };
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = replay::run(options) => outcome,
            () = interrupt.wished() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // The log's reader may wait for a sender that is gone.
    runtime.shutdown_background();
    outcome
}

/// Advertisers report sales for a share of the clicks, and the identity service checks affiliates; the
/// tables must hold just that, whatever is killed meanwhile.
///
/// # Errors
/// When the tables hold something else.
pub fn sell(
    stack: &mut Stack,
    analyst: &Analyst,
    run: &str,
    kills: usize,
) -> anyhow::Result<Sales> {
    println!("\nAdvertisers report sales; some repeat, revise, forge or forget.");
    let begun = Instant::now();
    let (edges, affiliates) = (stack.edge_urls.clone(), links::sample_affiliates());
    let sent = sales::report(analyst, run, &edges, &affiliates, |progress| {
        kill(stack, progress, kills)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let found = sales::arrived(analyst, &sent, ARRIVE_WITHIN)?;
    println!(
        "{} conversions, {} revisions, {} repeats, {} refused, {} identity checks in {seconds:.1} s: \
         the tables hold just that.",
        found.conversions,
        found.revisions,
        found.duplicates,
        found.refusals(),
        found.kyc_updates
    );
    if kills > 0 {
        println!(
            "Edges and the aggregator were killed {kills} times each; {} requests were sent again, for \
             their answers were lost. Of these, repeats and refusals may be there twice.",
            sent.again()
        );
    }
    println!("{}", sent.refusals(&found));
    Ok(found)
}

/// Waits until affiliates were told of every conversion and each change of one, and of nothing else.
///
/// # Errors
/// When they were not.
pub fn tell(tracker: &Tracker, sales: &Sales) -> anyhow::Result<Heard> {
    let told = tracker.heard(sales.conversions + sales.revisions, TOLD_WITHIN)?;
    println!(
        "Affiliates' tracker was told of each conversion and each revision: {} signed postbacks, {} of which \
         it took only when they came again.",
        told.postbacks, told.retried
    );
    Ok(told)
}

/// `kill -9` of one edge after another and of the aggregator, while senders are busy.
fn kill(stack: &mut Stack, progress: &Progress<'_>, kills: usize) -> anyhow::Result<()> {
    for number in 0..kills {
        progress.wait_for((number as f64 + 0.5) / kills as f64);
        let edge = number % stack.edges.len();
        stack.edges[edge].kill9()?;
        stack.aggregator.kill9()?;
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
        "\nClicks by the log's own hour (sent along as sub1)\n{}",
        table(&analyst.query(&curve)?)
    );
    Ok(())
}

fn table(answer: &Answer) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_header(&answer.columns);
    for row in &answer.rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        let rows = &answer.rows;
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

/// What is measured of clicks; a process that is killed forgets it.
struct Times {
    log: f64,
    freshness: f64,
}

impl Times {
    fn read(stack: &Stack) -> anyhow::Result<Self> {
        let aggregator = std::slice::from_ref(&stack.aggregator_admin_url);
        Ok(Self {
            log: verify::quantile(&stack.edge_admin_urls, "edge_click_log_seconds", 0.99)?,
            freshness: verify::quantile(aggregator, "aggregator_freshness_seconds", 0.99)?,
        })
    }
}

fn summary(
    times: &Times,
    outcome: &Outcome,
    verdict: &Verdict,
    sales: &Sales,
    told: Heard,
) -> String {
    let counts = &verdict.counts;
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
        "missing": verdict.missing,
        "duplicated": verdict.duplicated,
        "conversions": sales.conversions,
        "conversion_revisions": sales.revisions,
        "conversion_duplicates": sales.duplicates,
        "postbacks_refused": sales.refusals(),
        "kyc_updates": sales.kyc_updates,
        "affiliate_postbacks": told.postbacks,
        "redirect_p50_us": outcome.latency.value_at_quantile(0.5),
        "redirect_p99_us": outcome.latency.value_at_quantile(0.99),
        "click_log_p99_us": (times.log * 1e7).round() / 10.0,
        "freshness_p99_ms": (times.freshness * 1e4).round() / 10.0,
    });
    summary.to_string()
}
