//! Verifies a replay: every answered request must be in ClickHouse exactly once.

use crate::clickhouse::{Analyst, Counts};
use crate::replay::Outcome;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The result of comparing a replay with ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Counts of the run's rows.
    pub counts: Counts,
    /// Number of the run's rows.
    pub rows: u64,
    /// Answered requests without a row.
    pub missing: u64,
    /// Rows beyond one per request.
    pub duplicated: u64,
    /// Answered clicks whose row has another id than their redirect.
    pub wrong_ids: u64,
}

/// Minimum time without new rows before ClickHouse counts as complete: retried batches and rows of unanswered
/// requests arrive within it.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until all answered requests of `outcome` except `lost` have a row and no more rows arrive, or until
/// `within` has passed. `lost` is the number of events that edges counted as lost. Then compares.
///
/// # Errors
/// If ClickHouse does not respond at the end.
pub fn verify(
    analyst: &Analyst,
    outcome: &Outcome,
    lost: u64,
    within: Duration,
) -> anyhow::Result<Comparison> {
    let deadline = Instant::now() + within;
    let (mut row_count, mut since) = (0, Instant::now());
    loop {
        let last = Instant::now() >= deadline;
        match analyst.external_ids(&outcome.run) {
            Ok(ids) => {
                let rows: u64 = ids.values().sum();
                if rows != row_count {
                    (row_count, since) = (rows, Instant::now());
                }
                let missing = missing(outcome, &ids);
                if last || (missing <= lost && since.elapsed() >= QUIET_PERIOD) {
                    return compare(analyst, outcome, &ids, missing);
                }
            }
            Err(error) if last => return Err(error),
            Err(_) => {}
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn missing(outcome: &Outcome, ids: &BTreeMap<String, u64>) -> u64 {
    let absent = |number: &&u64| !ids.contains_key(&outcome.external_id(**number));
    outcome.answered.iter().filter(absent).count() as u64
}

fn compare(
    analyst: &Analyst,
    outcome: &Outcome,
    ids: &BTreeMap<String, u64>,
    missing: u64,
) -> anyhow::Result<Comparison> {
    let rows: u64 = ids.values().sum();
    let click_ids = analyst.click_ids(&outcome.run)?;
    let wrong = |(number, sent): &&(u64, String)| {
        click_ids
            .get(&outcome.external_id(*number))
            .is_some_and(|logged| logged != sent)
    };
    Ok(Comparison {
        counts: analyst.counts(&outcome.run)?,
        rows,
        missing,
        duplicated: rows - ids.len() as u64,
        wrong_ids: outcome.click_ids.iter().filter(wrong).count() as u64,
    })
}

/// The `quantile` of a Prometheus histogram, summed over all labels and over the `/metrics` of all `urls`, by
/// linear interpolation within its bucket; 0 without samples.
///
/// # Errors
/// If a process does not respond or has no such histogram.
pub fn quantile(urls: &[String], histogram: &str, quantile: f64) -> anyhow::Result<f64> {
    Ok(Distribution::read(urls, histogram)?.quantile(quantile))
}

/// A Prometheus counter or gauge, summed over the label sets that contain `labels`; 0 if there are none.
///
/// # Errors
/// If the process does not respond.
pub fn labelled_counter(url: &str, name: &str, labels: &str) -> anyhow::Result<f64> {
    let text = metrics(url)?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (found, value) = rest.rsplit_once("} ")?;
        found.contains(labels).then(|| value.parse::<f64>().ok())?
    });
    Ok(values.sum())
}

/// A Prometheus counter or gauge, summed over all labels.
///
/// # Errors
/// If the process does not respond or has no such metric.
pub fn counter(url: &str, name: &str) -> anyhow::Result<f64> {
    let text = metrics(url)?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' '])).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    });
    let values: Vec<f64> = values.collect();
    anyhow::ensure!(!values.is_empty(), "there is no metric {name}");
    Ok(values.iter().sum())
}

fn metrics(url: &str) -> anyhow::Result<String> {
    Ok(ureq::get(format!("{url}/metrics"))
        .call()
        .with_context(|| format!("{url} does not respond"))?
        .body_mut()
        .read_to_string()?)
}

/// A snapshot of a Prometheus histogram, by the bits of its buckets' upper bounds.
#[derive(Debug, Clone, Default)]
pub struct Distribution(BTreeMap<u64, (f64, f64)>);

impl Distribution {
    /// Reads the histogram, summed over all labels and over the `/metrics` of all `urls`.
    ///
    /// # Errors
    /// If a process does not respond or has no such histogram.
    pub fn read(urls: &[String], histogram: &str) -> anyhow::Result<Self> {
        let mut buckets = BTreeMap::new();
        for url in urls {
            add_buckets(&metrics(url)?, histogram, &mut buckets);
        }
        anyhow::ensure!(!buckets.is_empty(), "there is no histogram {histogram}");
        Ok(Self(buckets))
    }

    /// The samples added after `earlier`.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        for (bits, (_, count)) in &mut self.0 {
            *count -= earlier.0.get(bits).map_or(0.0, |(_, before)| *before);
        }
        self
    }

    /// The given quantile, by linear interpolation within its bucket; 0 without samples.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        interpolate(&self.0.values().copied().collect::<Vec<_>>(), quantile)
    }
}

/// Adds buckets by the bits of their upper bound, which sort like the bounds since none is negative.
fn add_buckets(text: &str, histogram: &str, buckets: &mut BTreeMap<u64, (f64, f64)>) {
    let prefix = format!("{histogram}_bucket{{");
    for line in text.lines().filter(|line| line.starts_with(&prefix)) {
        let bound = line
            .split("le=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let bound = match bound {
            Some("+Inf") => Some(f64::INFINITY),
            other => other.and_then(|bound| bound.parse().ok()),
        };
        let count = line
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse::<f64>().ok());
        if let (Some(bound), Some(count)) = (bound, count) {
            buckets.entry(bound.to_bits()).or_insert((bound, 0.0)).1 += count;
        }
    }
}

fn interpolate(buckets: &[(f64, f64)], quantile: f64) -> f64 {
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    let rank = total * quantile;
    let mut below = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank && *count > below.1 {
            let share = (rank - below.1) / (count - below.1);
            return if bound.is_finite() {
                below.0 + (bound - below.0) * share
            } else {
                below.0
            };
        }
        below = (*bound, *count);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated_over_labels() {
        let text = "h_bucket{worker=\"0\",le=\"1\"} 50\nh_bucket{worker=\"0\",le=\"2\"} 90\n\
                    h_bucket{worker=\"0\",le=\"+Inf\"} 100\nh_bucket{worker=\"1\",le=\"1\"} 50\n\
                    h_bucket{worker=\"1\",le=\"2\"} 90\nh_bucket{worker=\"1\",le=\"+Inf\"} 100\n\
                    other_bucket{le=\"1\"} 7\n";
        let mut buckets = BTreeMap::new();
        add_buckets(text, "h", &mut buckets);
        let buckets: Vec<_> = buckets.into_values().collect();
        assert_eq!(
            buckets,
            [(1.0, 100.0), (2.0, 180.0), (f64::INFINITY, 200.0)]
        );
        assert!((interpolate(&buckets, 0.25) - 0.5).abs() < 1e-9);
        assert!((interpolate(&buckets, 0.7) - 1.5).abs() < 1e-9);
        assert!(
            (interpolate(&buckets, 0.99) - 2.0).abs() < 1e-9,
            "beyond the last bound"
        );
        assert!(interpolate(&[(1.0, 0.0)], 0.5).abs() < 1e-9);
    }
}
