//! Time budgets of single parts in `budgets.toml`, and the comparison with measurements.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The budgets by part.
pub(crate) type Budgets = BTreeMap<String, Budget>;

/// The budget of a part and its reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// Nanoseconds per iteration, or per element if the benchmark counts elements.
    pub(crate) nanos: f64,
    /// The reason, for readers of the file.
    #[serde(rename = "why")]
    _why: String,
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BudgetStatus {
    Holds,
    Exceeded,
    NoBudget,
    NotMeasured,
}

/// A part with its measurement and budget, if any.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct BudgetResult {
    pub(crate) piece: String,
    pub(crate) nanos: Option<f64>,
    pub(crate) budget_nanos: Option<f64>,
    pub(crate) verdict: BudgetStatus,
}

impl BudgetStatus {
    fn of(nanos: Option<f64>, budget: Option<f64>) -> Self {
        match (nanos, budget) {
            (None, _) => Self::NotMeasured,
            (Some(_), None) => Self::NoBudget,
            (Some(nanos), Some(budget)) if nanos > budget => Self::Exceeded,
            (Some(_), Some(_)) => Self::Holds,
        }
    }

    /// Whether it fails the command.
    pub(crate) fn is_fault(self) -> bool {
        matches!(self, Self::Exceeded | Self::NoBudget)
    }

    /// Its text in the table.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Exceeded => "EXCEEDED",
            Self::NoBudget => "NO BUDGET",
            Self::NotMeasured => "not measured",
        }
    }
}

pub(crate) fn read(file: &Path) -> anyhow::Result<Budgets> {
    let shown = || format!("failed to read {}", file.display());
    let text = fs::read_to_string(file).with_context(shown)?;
    toml::from_str(&text).with_context(shown)
}

/// Compares all parts that were measured or have a budget, sorted by name.
pub(crate) fn compare_all(
    measured: &BTreeMap<String, f64>,
    budgets: &Budgets,
) -> Vec<BudgetResult> {
    let mut names: Vec<_> = measured.keys().chain(budgets.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let results = names.into_iter().map(|piece| {
        let nanos = measured.get(piece).copied();
        let budget_nanos = budgets.get(piece).map(|budget| budget.nanos);
        BudgetResult {
            piece: piece.clone(),
            nanos,
            budget_nanos,
            verdict: BudgetStatus::of(nanos, budget_nanos),
        }
    });
    results.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_budget_in_the_file_has_a_reason() {
        let budgets = read(&crate::root().join("xtask/budgets.toml")).expect("readable");
        assert!(!budgets.is_empty());
        for (piece, budget) in budgets {
            assert!(budget.nanos > 0.0 && !budget._why.is_empty(), "{piece}");
        }
    }

    #[test]
    fn measurements_are_compared_with_budgets() {
        let budgets = r#"
            "a" = { nanos = 10, why = "w" }
            "b" = { nanos = 10, why = "w" }
            "c" = { nanos = 10, why = "w" }
        "#;
        let budgets = toml::from_str(budgets).expect("valid");
        let measured = [("a", 10.0), ("b", 10.1), ("d", 1.0)];
        let measured = measured.map(|(piece, nanos)| (piece.to_owned(), nanos));
        let verdicts: Vec<_> = compare_all(&BTreeMap::from(measured), &budgets)
            .iter()
            .map(|it| it.verdict)
            .collect();
        use BudgetStatus::*;
        assert_eq!(verdicts, [Holds, Exceeded, NotMeasured, NoBudget]);
    }
}
