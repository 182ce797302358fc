//! Sample traffic: generates a combined log with browsers, phones, crawlers, returning visitors and a daily curve.
//! The same seed gives the same bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// User agents with their percentage of visitors.
const AGENTS: [(&str, u64); 14] = [
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        24,
    ),
    (
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
        26,
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        18,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
        7,
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        3,
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
        4,
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
        4,
    ),
    (
        "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 Mobile/15E148 Safari/604.1",
        4,
    ),
    (
        "Mozilla/5.0 (Linux; Android 13; SM-X200) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        2,
    ),
    (
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        3,
    ),
    (
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        2,
    ),
    (
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        1,
    ),
    ("python-requests/2.32.3", 1),
    ("curl/8.9.1", 1),
];

/// Relative traffic in each hour of the day.
const HOURLY_SHARES: [u64; 24] = [
    4, 3, 2, 2, 2, 2, 3, 4, 5, 5, 5, 6, 7, 6, 5, 5, 6, 7, 8, 10, 12, 12, 10, 7,
];

const SAMPLE_LINES: u64 = 10_000;
const SAMPLE_SEED: u64 = 20_261_120;

/// Writes the sample traffic to a log in `dir`, and says so.
///
/// # Errors
/// If the log can't be written.
pub fn sample(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("sample.log");
    let mut out = BufWriter::new(File::create(&path)?);
    write(SAMPLE_SEED, SAMPLE_LINES, &mut out)?;
    out.flush()?;
    println!("Sample traffic: {SAMPLE_LINES} requests spread over one day.");
    Ok(path)
}

/// Writes `lines` requests spread over one day.
///
/// # Errors
/// If `out` can't be written.
pub fn write(seed: u64, lines: u64, out: &mut impl Write) -> std::io::Result<()> {
    let mut random = Random::new(seed);
    // About one visitor in three returns, some of them often.
    let visitors = (lines / 3).max(1);
    let total: u64 = HOURLY_SHARES.iter().sum();
    let mut written = 0;
    for (hour, share) in HOURLY_SHARES.iter().enumerate() {
        let until = lines * HOURLY_SHARES[..=hour].iter().sum::<u64>() / total;
        for number in written..until {
            let within = (number - written) * 3_600 / (until - written).max(1);
            let visitor = random.below(visitors) * random.below(100) / 99;
            line(&mut random, visitor, hour as u64 * 3_600 + within, out)?;
        }
        debug_assert!(*share > 0, "every hour has visitors");
        written = until;
    }
    Ok(())
}

fn line(
    random: &mut Random,
    visitor: u64,
    second: u64,
    out: &mut impl Write,
) -> std::io::Result<()> {
    // A visitor's properties depend only on its number.
    let mut visitor_random = Random::new(visitor);
    let agent = AGENTS[agent_of(visitor_random.below(100))].0;
    let [a, b, c] = [
        visitor_random.below(1 << 8),
        visitor_random.below(1 << 8),
        visitor_random.below(254) + 1,
    ];
    let first = [24, 62, 77, 81, 88, 93, 109, 151, 177, 186, 189, 200, 212]
        [visitor_random.below(13) as usize];
    let page = random.below(40);
    let (path, method) = match random.below(100) {
        0..=34 => (format!("/banner/{page}.png"), "GET"),
        35..=36 => (format!("/offer/{page}"), "HEAD"),
        _ => (format!("/offer/{page}"), "GET"),
    };
    let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
    writeln!(
        out,
        "{first}.{a}.{b}.{c} - - [20/Nov/2026:{h:02}:{m:02}:{s:02} +0000] \"{method} {path} HTTP/1.1\" \
         302 0 \"https://creator{}.example/\" \"{agent}\"",
        visitor % 50
    )
}

/// The user agents of sample traffic.
pub fn agents() -> impl Iterator<Item = &'static str> {
    AGENTS.iter().map(|(agent, _)| *agent)
}

/// Index into [`agents`] of a visitor's user agent, from a number below 100.
#[must_use]
pub fn agent_of(mut hundredth: u64) -> usize {
    for (number, (_, share)) in AGENTS.iter().enumerate() {
        if hundredth < *share {
            return number;
        }
        hundredth -= share;
    }
    0
}

/// Random numbers that follow from a seed.
#[derive(Debug, Clone)]
pub struct Random(fastrand::Rng);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number from 0 up to and excluding `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound)
    }

    /// The time until the next event of a Poisson process with `rate` events per second.
    pub fn poisson_gap(&mut self, rate: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.0.f64()).ln() / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log;

    fn log(seed: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write(seed, 1_000, &mut out).expect("Vec");
        out
    }

    #[test]
    fn seed_determines_a_readable_log() {
        assert_eq!(AGENTS.iter().map(|(_, share)| share).sum::<u64>(), 100);
        assert_eq!(log(7), log(7));
        assert_ne!(log(7), log(8));
        let text = log(7);
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.len(), 1_000);
        assert!(lines.iter().all(|line| access_log::parse(line).is_some()));
    }
}
