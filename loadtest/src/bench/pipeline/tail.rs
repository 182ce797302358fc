//! The log shipper of the compared pipeline: follows nginx's JSON log and inserts whole lines unchanged (`FORMAT
//! JSONEachRow`), in batches like the defaults of Vector's ClickHouse sink.
//!
//! It does the minimum: it neither parses nor checks lines, and keeps no position. Real log shippers cost more.

use crate::clickhouse::Writer;
use anyhow::Context as _;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// <https://vector.dev/docs/reference/configuration/sinks/clickhouse/>: `batch.max_bytes`.
const BLOCK_BYTES: usize = 10_000_000;
/// The same page: `batch.timeout_secs`.
const BLOCK_AGE: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const INSERT: &str = "INSERT INTO clicks FORMAT JSONEachRow";

/// Options of the log shipper.
#[derive(Debug, Clone, clap::Args)]
pub struct TailOptions {
    /// The log to follow.
    #[arg(long)]
    log: PathBuf,
    /// ClickHouse's HTTP URL.
    #[arg(long)]
    clickhouse: String,
    /// The file of ClickHouse's users and passwords.
    #[arg(long)]
    credentials: PathBuf,
}

/// Follows the log until killed; prints `{}` when ready.
///
/// # Errors
/// If the log can't be read or ClickHouse rejects an insert.
pub fn run(options: &TailOptions) -> anyhow::Result<()> {
    let writer = Writer::new(&options.clickhouse, &options.credentials)?;
    let mut log = File::open(&options.log)
        .with_context(|| format!("failed to open {}", options.log.display()))?;
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
            None => std::thread::sleep(POLL_INTERVAL),
        }
    }
}
