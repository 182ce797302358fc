//! What each piece may cost: `budgets.toml`, and what is said of a measurement against it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The budgets by piece.
pub(crate) type Budgets = BTreeMap<String, Budget>;

/// What one piece may cost, and why so much.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// Nanoseconds per iteration, or per element for a piece that counts elements.
    pub(crate) nanos: f64,
    /// For those who read the file.
    #[serde(rename = "why")]
    _why: String,
}

/// How a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Holds,
    Exceeded,
    NoBudget,
    NotMeasured,
}

/// One piece, measured or not.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Judged {
    pub(crate) piece: String,
    pub(crate) nanos: Option<f64>,
    pub(crate) budget_nanos: Option<f64>,
    pub(crate) verdict: Verdict,
}

impl Verdict {
    fn of(nanos: Option<f64>, budget: Option<f64>) -> Self {
        match (nanos, budget) {
            (None, _) => Self::NotMeasured,
            (Some(_), None) => Self::NoBudget,
            (Some(nanos), Some(budget)) if nanos > budget => Self::Exceeded,
            (Some(_), Some(_)) => Self::Holds,
        }
    }

    /// Whether the command fails because of it.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Self::Exceeded | Self::NoBudget)
    }

    /// As the table shows it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Exceeded => "EXCEEDED",
            Self::NoBudget => "NO BUDGET",
            Self::NotMeasured => "not measured",
        }
    }
}

/// Reads the budgets.
pub(crate) fn read(file: &Path) -> anyhow::Result<Budgets> {
    let shown = || format!("cannot read {}", file.display());
    let text = fs::read_to_string(file).with_context(shown)?;
    toml::from_str(&text).with_context(shown)
}

/// Every piece that was measured or has a budget, by name.
pub(crate) fn judge(measured: &BTreeMap<String, f64>, budgets: &Budgets) -> Vec<Judged> {
    let mut names: Vec<_> = measured.keys().chain(budgets.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let judged = names.into_iter().map(|piece| {
        let nanos = measured.get(piece).copied();
        let budget_nanos = budgets.get(piece).map(|budget| budget.nanos);
        Judged {
            piece: piece.clone(),
            nanos,
            budget_nanos,
            verdict: Verdict::of(nanos, budget_nanos),
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_sound_and_every_budget_says_why() {
        let budgets = read(&crate::root().join("xtask/budgets.toml")).expect("readable");
        assert!(!budgets.is_empty());
        for (piece, budget) in budgets {
            assert!(budget.nanos > 0.0 && !budget._why.is_empty(), "{piece}");
        }
    }

    #[test]
    fn each_piece_gets_its_verdict() {
        let budgets = r#"
            "a" = { nanos = 10, why = "w" }
            "b" = { nanos = 10, why = "w" }
            "c" = { nanos = 10, why = "w" }
        "#;
        let budgets = toml::from_str(budgets).expect("sound");
        let measured = [("a", 10.0), ("b", 10.1), ("d", 1.0)];
        let measured = measured.map(|(piece, nanos)| (piece.to_owned(), nanos));
        let verdicts: Vec<_> = judge(&BTreeMap::from(measured), &budgets)
            .iter()
            .map(|judged| judged.verdict)
            .collect();
        use Verdict::*;
        assert_eq!(verdicts, [Holds, Exceeded, NotMeasured, NoBudget]);
    }
}
