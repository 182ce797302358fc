//! Prints the progress of a drain, as text or as lines of JSON, with the rate and the estimated time.

use super::error::human;
use super::{Progress, Stage};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

const PRINT_INTERVAL: Duration = Duration::from_secs(1);

/// Prints progress at each change of the stage, and otherwise once a second.
#[derive(Debug)]
pub(super) struct Reporter {
    json: bool,
    printed: Option<(Stage, Instant)>,
    /// When the number of events was first known, and that number.
    shipping: Option<(Instant, u64)>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    progress: &'a Progress,
    /// Acknowledged events a second since shipping began; absent before the first.
    events_per_second: Option<f64>,
    /// The estimated time until every event is acknowledged.
    seconds_left: Option<f64>,
}

impl Reporter {
    pub(super) const fn new(json: bool) -> Self {
        Self {
            json,
            printed: None,
            shipping: None,
        }
    }

    pub(super) fn report(&mut self, progress: &Progress) {
        let now = Instant::now();
        if self.shipping.is_none() {
            self.shipping = progress.events.map(|events| (now, events));
        }
        let is_due = self.printed.is_none_or(|(stage, at)| {
            stage != progress.stage || now.duration_since(at) >= PRINT_INTERVAL
        });
        if !is_due {
            return;
        }
        self.printed = Some((progress.stage, now));
        let line = self.line(progress, now);
        let text = match self.json {
            true => serde_json::to_string(&line).unwrap_or_default(),
            false => text(&line),
        };
        // A reader that has gone must not end the drain.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    fn line<'a>(&self, progress: &'a Progress, now: Instant) -> Line<'a> {
        let rate = self
            .shipping
            .zip(progress.events)
            .and_then(|(begun, left)| {
                let (since, at_first) = begun;
                let (seconds, shipped) = (
                    now.duration_since(since).as_secs_f64(),
                    at_first.saturating_sub(left),
                );
                (shipped > 0 && seconds > 0.0).then(|| shipped as f64 / seconds)
            });
        let seconds = progress
            .events
            .zip(rate)
            .map(|(left, rate)| left as f64 / rate);
        Line {
            progress,
            events_per_second: rate.map(rounded),
            seconds_left: seconds.map(rounded),
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn text(line: &Line<'_>) -> String {
    let Progress {
        stage,
        events,
        bytes,
        problem,
    } = line.progress;
    let mut text = match stage {
        Stage::Serving => "the edge accepts clicks".to_owned(),
        Stage::Leaving => {
            "leaving: the edge is not ready any more and still accepts clicks".to_owned()
        }
        Stage::Closing => "closing: requests in flight are answered".to_owned(),
        Stage::Shipping => format!(
            "shipping: {} events ({}) left",
            events.unwrap_or_default(),
            human(bytes.unwrap_or_default())
        ),
        Stage::Drained => "drained: the aggregator has acknowledged every event".to_owned(),
    };
    if *stage == Stage::Shipping {
        if let (Some(rate), Some(seconds)) = (line.events_per_second, line.seconds_left) {
            let _ = write!(text, ", {rate:.0} events/s, about {seconds:.0} s");
        }
        if let Some(problem) = problem {
            let _ = write!(text, "; not connected: {problem}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_estimate_follow_from_acknowledged_events() {
        let mut reporter = Reporter::new(true);
        let begin = Instant::now();
        reporter.shipping = Some((begin, 1_000));
        let progress = |events| Progress {
            stage: Stage::Shipping,
            events: Some(events),
            bytes: Some(events * 100),
            problem: None,
        };
        let at = |seconds| begin + Duration::from_secs(seconds);
        let first = progress(1_000);
        assert_eq!(reporter.line(&first, at(3)).seconds_left, None);
        let later = progress(400);
        let line = reporter.line(&later, at(3));
        assert_eq!(line.events_per_second, Some(200.0));
        assert_eq!(line.seconds_left, Some(2.0));
        let expected = "shipping: 400 events (39KiB) left, 200 events/s, about 2 s";
        assert_eq!(text(&line), expected);
    }
}
