//! Figures of several rounds: medians, spread and ratios, as tables, Markdown and JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::{self, Write as _};

/// Figures of one measurement, by round.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Rounds(pub Vec<f64>);

impl Rounds {
    /// The median; 0 without figures.
    #[must_use]
    pub(super) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => 0.0,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        }
    }

    /// Half of the range from lowest to highest, relative to the median.
    #[must_use]
    pub(super) fn spread(&self) -> f64 {
        let low = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.0.is_empty() || self.median() == 0.0 {
            0.0
        } else {
            (high - low) / 2.0 / self.median()
        }
    }

    /// This divided by `other`, round by round, so that common noise of a round cancels out.
    #[must_use]
    pub(super) fn ratio(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// Median and spread as text.
    #[must_use]
    pub(super) fn shown(&self, decimals: usize) -> String {
        format!(
            "{:.decimals$} ±{:.0}%",
            self.median(),
            self.spread() * 100.0
        )
    }
}

/// The bound of a goal.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A goal with its measured value.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Goal {
    /// The measured quantity.
    pub(super) what: String,
    /// The allowed range.
    #[serde(flatten)]
    pub(super) bound: Bound,
    /// The measured value; `None` if it could not be measured here.
    pub(super) found: Option<f64>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most:.2}"),
            Self::AtLeast(least) => write!(f, "at least {least:.2}"),
        }
    }
}

impl Goal {
    /// A goal with an upper bound.
    #[must_use]
    pub(super) fn new(what: &str, at_most: f64, found: Option<f64>) -> Self {
        Self {
            what: what.into(),
            bound: Bound::AtMost(at_most),
            found,
        }
    }

    /// A goal with a lower bound.
    #[must_use]
    pub(super) fn at_least(what: &str, at_least: f64, found: f64) -> Self {
        Self {
            what: what.into(),
            bound: Bound::AtLeast(at_least),
            found: Some(found),
        }
    }

    /// Whether the goal was measured and missed.
    #[must_use]
    pub(super) fn missed(&self) -> bool {
        self.found.is_some_and(|found| match self.bound {
            Bound::AtMost(most) => found > most,
            Bound::AtLeast(least) => found < least,
        })
    }
}

/// A table for terminals and Markdown.
#[derive(Debug, Clone, Default)]
pub(super) struct TextTable {
    title: String,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// An empty table.
    #[must_use]
    pub(super) fn new(title: &str, headings: &[&str]) -> Self {
        Self {
            title: title.into(),
            headings: headings.iter().map(|&heading| heading.into()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table for a terminal.
    #[must_use]
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_header(&self.headings);
        for row in &self.rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("\n{}\n{}\n", self.title, table.trim_fmt())
    }

    /// The table in Markdown.
    #[must_use]
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n| {} |\n", self.title, self.headings.join(" | "));
        let rule = |column| if column == 0 { "---|" } else { "---:|" };
        text.push('|');
        text.extend((0..self.headings.len()).map(rule));
        text.push('\n');
        for row in &self.rows {
            writeln!(text, "| {} |", row.join(" | ")).expect("writing to a String can't fail");
        }
        text.push('\n');
        text
    }
}

/// The table of goals.
#[must_use]
pub(super) fn goals_sheet(goals: &[Goal]) -> TextTable {
    let mut sheet = TextTable::new("Goals", &["goal", "allowed", "found", ""]);
    for goal in goals {
        let (found, verdict) = match goal.found {
            None => ("not measured".into(), "?"),
            Some(found) if goal.missed() => (format!("{found:.2}"), "missed"),
            Some(found) => (format!("{found:.2}"), "met"),
        };
        sheet.row([
            goal.what.clone(),
            goal.bound.to_string(),
            found,
            verdict.into(),
        ]);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios_are_by_round() {
        let ours = Rounds(vec![10.0, 30.0, 20.0]);
        let theirs = Rounds(vec![20.0, 30.0, 80.0]);
        assert!((ours.median() - 20.0).abs() < 1e-9);
        assert!((ours.spread() - 0.5).abs() < 1e-9);
        assert!((ours.ratio(&theirs).median() - 0.5).abs() < 1e-9);
        assert!(Rounds::default().median().abs() < 1e-9);
    }

    #[test]
    fn unmeasured_goal_is_neither_met_nor_missed() {
        assert!(Goal::new("x", 1.0, Some(1.1)).missed());
        assert!(!Goal::new("x", 1.0, Some(1.0)).missed());
        assert!(!Goal::new("x", 1.0, None).missed());
        assert!(Goal::at_least("x", 1.0, 0.9).missed());
        assert!(!Goal::at_least("x", 1.0, 1.0).missed());
        let table = goals_sheet(&[Goal::new("x", 1.0, None)]).table();
        assert!(table.contains("not measured"), "{table}");
    }
}
