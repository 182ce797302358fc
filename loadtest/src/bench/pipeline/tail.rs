//! The peer's way from log to ClickHouse: follows nginx's JSON log and inserts whole lines as they
//! are (`FORMAT JSONEachRow`), in batches as Vector's ClickHouse sink makes them by default.
//!
//! It does the least that such a program can do: it parses nothing, checks nothing and does not
//! remember where it was. Real log shippers cost more.

use crate::clickhouse::Writer;
use anyhow::Context as _;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// <https://vector.dev/docs/reference/configuration/sinks/clickhouse/>: `batch.max_bytes`.
const BLOCK_BYTES: usize = 10_000_000;
/// As there: `batch.timeout_secs`.
const BLOCK_AGE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const INSERT: &str = "INSERT INTO clicks FORMAT JSONEachRow";

/// What to follow and where to insert.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The log.
    #[arg(long)]
    log: PathBuf,
    /// ClickHouse's HTTP address.
    #[arg(long)]
    clickhouse: String,
    /// The file of users and passwords.
    #[arg(long)]
    credentials: PathBuf,
}

/// Follows the log until killed; prints `{}` when ready.
///
/// # Errors
/// When the log can't be read or ClickHouse refuses.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let writer = Writer::new(&options.clickhouse, &options.credentials)?;
    let mut log = File::open(&options.log)
        .with_context(|| format!("cannot open {}", options.log.display()))?;
    let (mut lines, mut since) = (Vec::new(), Instant::now());
    println!("{{}}");
    loop {
        let before = lines.len();
        (&mut log)
            .take((BLOCK_BYTES - before.min(BLOCK_BYTES)) as u64)
            .read_to_end(&mut lines)?;
        if before == 0 {
            since = Instant::now();
        }
        let due = lines.len() >= BLOCK_BYTES || since.elapsed() >= BLOCK_AGE;
        let whole = lines.iter().rposition(|byte| *byte == b'\n');
        match whole.filter(|_| due) {
            Some(end) => {
                let rest = lines.split_off(end + 1);
                writer.insert(INSERT, std::mem::replace(&mut lines, rest))?;
                since = Instant::now();
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}
