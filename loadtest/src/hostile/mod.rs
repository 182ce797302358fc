//! Hostile reports: postbacks and webhooks, forged, altered, moved and malformed, among authentic ones,
//! over HTTP to a real edge with the functions that are deployed. Whoever makes a request knows what must
//! come of it; what was answered is held against what the edge counted and the tables hold. How an edge
//! decides never belongs here.

mod attacks;
mod case;
mod client;
mod judge;
mod ledger;
mod mistakes;
mod nasties;
mod postbacks;
mod random;
mod request;
mod senders;
mod webhooks;

use crate::clickhouse::Analyst;
use crate::interrupt::Interrupt;
use crate::links;
use crate::stack::{FunctionFiles, Stack, Wiring};
use anyhow::{Context as _, ensure};
use attacks::Make;
use case::{Case, Expect};
use client::{Answer, Lane};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use judge::{Account, Reasons, Then};
use postbacks::World;
use random::Random;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tracking_events::{KeyId, KeyRing, MacKey, Micros};

/// Clicks to begin with.
const CLICKS: usize = 200;
/// Requests that are on their way on a connection at most, before the first is answered.
const DEPTH: usize = 4;
/// How often somebody tries again, and how long they wait.
const TRIES: u32 = 200;
const TRY_AFTER: Duration = Duration::from_millis(50);
/// So many of a thousand may be told to try again, or the run was about that.
const AGAIN_IN_A_THOUSAND: u64 = 20;
const ARRIVE_WITHIN: Duration = Duration::from_secs(600);

/// What is tried.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Requests to send.
    #[arg(long, default_value_t = 1_000_000)]
    pub requests: u64,
    /// Seed of the requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Connections at once.
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// Number of the first request: with the same seed, to send one again.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
}

/// What was found.
#[derive(Debug, serde::Serialize)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// Requests sent, those that were sent again included.
    pub sent: u64,
    /// Answered 2xx.
    pub taken: u64,
    /// Refused by a number.
    pub refused: u64,
    /// What was no HTTP, and refused or closed as such.
    pub not_http: u64,
    /// Answered above 499, as stated: an advertiser that is not set up.
    pub stated_5xx: u64,
    /// Told to try again, which they did.
    pub told_to_try_again: u64,
    /// Taken, and not authentic.
    pub accepted_forgeries: u64,
    /// All that is otherwise than it must be.
    pub faults: Vec<String>,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Answers a second.
    pub rate: f64,
}

/// Sends them, prints what came of them and, as the last line, one JSON object.
///
/// # Errors
/// When anything is not as it must be; or when the edge can't be tried here.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let folder = crate::demo::Folder::make("hostile")?;
    let verdict = judge(options, folder.path(), Some(interrupt))?;
    for fault in &verdict.faults {
        println!("FAULT: {fault}");
    }
    println!("{}", serde_json::to_string(&verdict)?);
    ensure!(
        verdict.faults.is_empty(),
        "there are faults, see above; --seed {} sends the same again",
        options.seed
    );
    Ok(())
}

/// Sends them to an edge in `folder`, prints a table, and says what was found.
///
/// # Errors
/// When the edge can't be tried here.
pub fn judge(
    options: &Options,
    folder: &Path,
    interrupt: Option<Interrupt>,
) -> anyhow::Result<Verdict> {
    println!("seed {}, {} requests", options.seed, options.requests);
    let wiring = Wiring {
        functions: true,
        function_files: Some(FunctionFiles {
            advertisers: senders::advertisers(),
            variables: senders::variables(),
        }),
        ..Wiring::default()
    };
    let stack = Stack::start_wired(folder, 1, None, &wiring, |_| {})?;
    let edge = stack.edge_urls[0].strip_prefix("http://");
    let edge: SocketAddr = edge.context("an address")?.parse()?;
    let world = world(&stack, folder)?;
    let begun = Instant::now();
    let account = send(options, edge, world, interrupt)?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("\n{}", table(&account));
    let mut faults = account.shown.clone();
    if account.faults > faults.len() as u64 {
        faults.push(format!("… {} in all", account.faults));
    }
    let admin = &stack.edge_admin_urls[0];
    faults.extend(ledger::against_counters(admin, &account)?);
    let analyst = Analyst::new(&stack.clickhouse_url, &stack.credentials)?;
    let within = ARRIVE_WITHIN;
    faults.extend(ledger::against_tables(admin, &analyst, &account, within)?);
    let verdict = verdict(options, &account, faults, seconds);
    stack.stop()?;
    Ok(verdict)
}

fn verdict(options: &Options, account: &Account, mut faults: Vec<String>, seconds: f64) -> Verdict {
    let rows = || account.rows.values();
    let sent: u64 = rows().map(|row| row.sent).sum();
    if account.again * 1_000 > sent * AGAIN_IN_A_THOUSAND {
        faults.push(format!(
            "{} of {sent} were told to try again",
            account.again
        ));
    }
    Verdict {
        seed: options.seed,
        sent,
        taken: rows().map(|row| row.taken).sum(),
        refused: account.refused().values().sum(),
        not_http: rows().map(|row| row.closed).sum(),
        stated_5xx: rows().map(|row| row.above_499).sum::<u64>() - account.again,
        told_to_try_again: account.again,
        accepted_forgeries: account.forgeries,
        faults,
        seconds: (seconds * 10.0).round() / 10.0,
        rate: (sent as f64 / seconds).round(),
    }
}

/// Clicks that the edge logs, and the keys that it signs them with.
fn world(stack: &Stack, folder: &Path) -> anyhow::Result<World> {
    #[derive(serde::Deserialize)]
    struct Secrets {
        click_id: Keys,
    }
    #[derive(serde::Deserialize)]
    struct Keys {
        active: u8,
        keys: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(folder.join("secrets.toml"))?;
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
    for number in 0..CLICKS {
        let url = format!("{}/c/{}", stack.edge_urls[0], slugs[number % slugs.len()]);
        let answer = agent.get(url).call()?;
        let to = answer.headers().get("location").context("a redirect")?;
        let id = to
            .to_str()?
            .split("cid=")
            .nth(1)
            .and_then(|rest| rest.get(..tracking_events::CLICK_ID_CHARS));
        clicks.push(id.context("a click id")?.to_owned());
    }
    Ok(World {
        clicks,
        ring: ring(click_id.active, key)?,
        foreign: ring(click_id.active, [7; 32])?,
        unknown: ring(click_id.active ^ 16, key)?,
        now: Micros::now(),
    })
}

/// What all connections share.
struct Run {
    options: Options,
    edge: SocketAddr,
    world: World,
    reasons: Reasons,
    next: Cell<u64>,
    account: RefCell<Account>,
    progress: ProgressBar,
    interrupt: Option<Interrupt>,
}

fn send(
    options: &Options,
    edge: SocketAddr,
    world: World,
    interrupt: Option<Interrupt>,
) -> anyhow::Result<Account> {
    let style = "{bar:40} {human_pos}/{human_len} requests, {per_sec}, {eta} left";
    let progress = ProgressBar::new(options.requests);
    let run = Rc::new(Run {
        options: options.clone(),
        edge,
        world,
        reasons: Reasons::documented(),
        next: Cell::new(options.first),
        account: RefCell::default(),
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
    let account = run.account.take();
    Ok(account)
}

impl Run {
    /// The next request and its number, as long as there are any.
    fn take(&self) -> Option<(u64, Case)> {
        let number = self.next.get();
        let wished = self
            .interrupt
            .as_ref()
            .is_some_and(|it| it.check().is_err());
        if wished || number >= self.options.first + self.options.requests {
            return None;
        }
        self.next.set(number + 1);
        self.progress.inc(1);
        let mut random = Random::new(self.options.seed, number);
        Some((number, made(&self.world, &mut random, number)))
    }

    async fn lane(&self) {
        let mut lane = Lane::new(self.edge);
        loop {
            let mut together = Vec::new();
            let mut depth = 1 + (self.next.get() as usize) % DEPTH;
            while together.len() < depth
                && let Some((number, case)) = self.take()
            {
                if case.alone {
                    self.alone(number, &case).await;
                } else {
                    // One that comes again is sent again before the first is answered.
                    depth += case.times as usize - 1;
                    let case = Rc::new(case);
                    together.extend((0..case.times).map(|_| (number, case.clone())));
                }
            }
            if together.is_empty() {
                return;
            }
            self.together(&mut lane, together).await;
        }
    }

    async fn together(&self, lane: &mut Lane, mut cases: Vec<(u64, Rc<Case>)>) {
        for _ in 0..TRIES {
            let sent: Vec<&Case> = cases.iter().map(|(_, case)| &**case).collect();
            let answers = lane.ask(&sent).await;
            let mut again = Vec::new();
            for ((number, case), answer) in cases.into_iter().zip(&answers) {
                if self.settle(number, &case, answer) == Then::Again {
                    again.push((number, case));
                }
            }
            if again.is_empty() {
                return;
            }
            cases = again;
            tokio::time::sleep(TRY_AFTER).await;
        }
        for (number, case) in cases {
            let mut account = self.account.borrow_mut();
            account.fault(number, &case, "was told to try again for ever");
        }
    }

    /// Takes down one that was sent, and its answer.
    fn settle(&self, number: u64, case: &Case, answer: &std::io::Result<Answer>) -> Then {
        let mut account = self.account.borrow_mut();
        account.row(case).sent += 1;
        account.take(&self.reasons, number, case, answer)
    }

    async fn alone(&self, number: u64, case: &Case) {
        if case.expect != Expect::Broken {
            for _ in 0..TRIES {
                let answer = client::ask_alone(self.edge, case).await;
                if self.settle(number, case, &answer) == Then::Done {
                    return;
                }
                tokio::time::sleep(TRY_AFTER).await;
            }
            return;
        }
        let answers = client::ask_nonsense(self.edge, case).await;
        let mut account = self.account.borrow_mut();
        account.row(case).sent += 1;
        match answers {
            Ok(answers) if answers.is_empty() => account.row(case).closed += 1,
            Ok(answers) => {
                for answer in answers {
                    account.take(&self.reasons, number, case, &Ok(answer));
                }
            }
            Err(error) => {
                account.take(&self.reasons, number, case, &Err(error));
            }
        }
    }
}

/// One of any kind.
fn made(world: &World, random: &mut Random, number: u64) -> Case {
    let kinds = || {
        let all = [
            attacks::KINDS,
            mistakes::KINDS,
            webhooks::KINDS,
            nasties::KINDS,
        ];
        all.into_iter().flatten()
    };
    let mut at = random.below(kinds().map(|(weight, _)| weight).sum());
    for (weight, make) in kinds() {
        if at < *weight {
            return make(world, random, number);
        }
        at -= weight;
    }
    let (_, first): (usize, Make) = attacks::KINDS[0];
    first(world, random, number)
}

fn table(account: &Account) -> Table {
    let reasons = Reasons::documented();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "kind of request",
        "sent",
        "2xx",
        "refused by",
        "no HTTP",
        "5xx",
    ]);
    for (kind, row) in &account.rows {
        let refused = row.refused.iter();
        let refused =
            refused.map(|(number, count)| format!("{number} {}: {count}", reasons.name(*number)));
        table.add_row([
            (*kind).to_owned(),
            row.sent.to_string(),
            row.taken.to_string(),
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
