//! Reads the log and puts each request into its target's queue. Invariant: never waits for a response.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

use super::ReplayOptions;
use super::request::{PlannedRequest, path_of, stable_hash};
use crate::access_log::{self, LogLine, MAX_LINE_BYTES};

/// Magic bytes of gzip files (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Number of lines read before the first request is sent; most lines of each such group must be readable.
const SAMPLE_LINES: u64 = 1_000;
const BUFFER_BYTES: usize = 1 << 20;

/// Feeds the whole log on schedule and returns the number of unreadable lines.
pub(super) fn feed(
    options: &ReplayOptions,
    start: Instant,
    queues: &[mpsc::Sender<PlannedRequest>],
) -> anyhow::Result<u64> {
    let mut sample = LogReader::open(&options.log)?;
    while sample.lines < SAMPLE_LINES && sample.next()?.is_some() {}
    sample.check_mostly_readable()?;
    let mut number = 0;
    let mut unreadable = 0;
    for _ in 0..options.repeat {
        let mut log = LogReader::open(&options.log)?;
        while let Some(line) = log.next()? {
            let stopped = options.stop.load(Ordering::Relaxed);
            if stopped || options.limit.is_some_and(|limit| number >= limit) {
                return Ok(unreadable + log.unreadable);
            }
            if log.lines.is_multiple_of(SAMPLE_LINES) {
                log.check_mostly_readable()?;
            }
            if let Some(line) = line {
                send(options, start, queues, number, line)?;
                number += 1;
            }
        }
        log.check_mostly_readable()?;
        unreadable += log.unreadable;
    }
    Ok(unreadable)
}

fn send(
    options: &ReplayOptions,
    start: Instant,
    queues: &[mpsc::Sender<PlannedRequest>],
    number: u64,
    line: LogLine,
) -> anyhow::Result<()> {
    let due = options
        .rate
        .map(|rate| start + Duration::from_secs_f64(number as f64 / rate));
    let slug = pick(&options.slugs, path_of(&line.target)).clone();
    // Tokio's timers have millisecond resolution; a thread wakes within 0.1 ms.
    if let Some(wait) = due.map(|due| due.saturating_duration_since(Instant::now())) {
        std::thread::sleep(wait);
    }
    let queue = pick(queues, line.address.to_string().as_bytes());
    let planned = PlannedRequest {
        number,
        due,
        line,
        slug,
    };
    // The channel is closed only if all senders of the target panicked.
    queue
        .blocking_send(planned)
        .ok()
        .context("the senders stopped before the log's end")
}

/// An open log.
struct LogReader<'p> {
    path: &'p Path,
    reader: Box<dyn BufRead>,
    bytes: Vec<u8>,
    lines: u64,
    unreadable: u64,
    first_unreadable: u64,
}

impl<'p> LogReader<'p> {
    /// Opens a plain or gzip log; the file name does not matter.
    fn open(path: &'p Path) -> anyhow::Result<Self> {
        let file = File::open(path)
            .with_context(|| format!("failed to open the log {}", path.display()))?;
        let mut plain = BufReader::with_capacity(BUFFER_BYTES, file);
        let start = plain.fill_buf().context("failed to read the log")?;
        let reader: Box<dyn BufRead> = if start.starts_with(&GZIP_MAGIC) {
            let text = MultiGzDecoder::new(plain);
            Box::new(BufReader::with_capacity(BUFFER_BYTES, text))
        } else {
            Box::new(plain)
        };
        Ok(Self {
            path,
            reader,
            bytes: Vec::new(),
            lines: 0,
            unreadable: 0,
            first_unreadable: 0,
        })
    }

    /// The next line, `None` inside if it is unreadable; `None` at the end.
    fn next(&mut self) -> anyhow::Result<Option<Option<LogLine>>> {
        if !read_line(&mut self.reader, &mut self.bytes).context("failed to read the log")? {
            return Ok(None);
        }
        self.lines += 1;
        let line = access_log::parse(&self.bytes);
        if line.is_none() {
            self.unreadable += 1;
            if self.unreadable == 1 {
                self.first_unreadable = self.lines;
            }
        }
        Ok(Some(line))
    }

    fn check_mostly_readable(&self) -> anyhow::Result<()> {
        ensure!(
            self.unreadable * 2 <= self.lines,
            "{} of the first {} lines of {} can't be read, the first of them is line {}; expected the combined \
             format with the client's address in its first column, or behind a virtual host with its port, or JSON \
             with nginx's remote_addr, time_iso8601 and request; either may be gzipped",
            self.unreadable,
            self.lines,
            self.path.display(),
            self.first_unreadable
        );
        Ok(())
    }
}

fn pick<'a, T>(from: &'a [T], key: &[u8]) -> &'a T {
    &from[(stable_hash(key) % from.len() as u64) as usize]
}

/// Reads a line. A line above the limit is skipped and returned empty, hence unreadable.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<bool> {
    bytes.clear();
    let read = reader
        .by_ref()
        .take(MAX_LINE_BYTES as u64)
        .read_until(b'\n', bytes)?;
    if read == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
        bytes.clear();
        reader.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlong_line_is_skipped_up_to_the_next() {
        let mut text = vec![b'x'; MAX_LINE_BYTES * 2];
        text.extend(b"\nnext\n");
        let (mut reader, mut bytes) = (&text[..], Vec::new());
        assert!(read_line(&mut reader, &mut bytes).expect("memory"));
        assert!(bytes.is_empty());
        assert!(read_line(&mut reader, &mut bytes).expect("memory"));
        assert_eq!(bytes, b"next\n");
        assert!(!read_line(&mut reader, &mut bytes).expect("memory"));
    }
}
