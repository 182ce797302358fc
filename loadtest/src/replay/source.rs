//! Reads the log and hands each request to its target's queue. It never waits for an answer.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::Options;
use super::request::{Planned, path_of, stable_hash};
use crate::combined_log::{self, MAX_LINE_BYTES};

/// Feeds the whole log, each request at its moment; answers how many lines were unreadable.
pub(super) fn feed(
    options: &Options,
    start: Instant,
    queues: &[mpsc::Sender<Planned>],
) -> anyhow::Result<u64> {
    let mut number = 0;
    let mut unreadable = 0;
    let mut bytes = Vec::new();
    for _ in 0..options.repeat {
        let file = File::open(&options.log)
            .with_context(|| format!("cannot open the log {}", options.log.display()))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        while read_line(&mut reader, &mut bytes).context("cannot read the log")? {
            let stopped = options.stop.load(Ordering::Relaxed);
            if stopped || options.limit.is_some_and(|limit| number >= limit) {
                return Ok(unreadable);
            }
            let Some(line) = combined_log::parse(&bytes) else {
                unreadable += 1;
                continue;
            };
            let due = options
                .rate
                .map(|rate| start + Duration::from_secs_f64(number as f64 / rate));
            let slug = pick(&options.slugs, path_of(&line.target)).clone();
            // Timers of the runtime count in milliseconds; a thread wakes up within 0.1.
            if let Some(wait) = due.map(|due| due.saturating_duration_since(Instant::now())) {
                std::thread::sleep(wait);
            }
            let queue = pick(queues, line.address.as_bytes());
            // Nobody listens any more only when every sender of the target panicked.
            queue
                .blocking_send(Planned {
                    number,
                    due,
                    line,
                    slug,
                })
                .ok()
                .context("the senders stopped before the log's end")?;
            number += 1;
        }
    }
    Ok(unreadable)
}

fn pick<'a, T>(from: &'a [T], key: &[u8]) -> &'a T {
    &from[(stable_hash(key) % from.len() as u64) as usize]
}

/// Reads one line; an overlong one is skipped to its end and left empty, hence unreadable.
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
    fn an_overlong_line_does_not_spoil_the_next() {
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
