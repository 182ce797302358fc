//! docs/refusals.md: the numbered reasons of both programs and of the functions.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{Reference, cell, paragraph};

const INTRODUCTION: &str = include_str!("refusals.md");

/// Reasons of one kind.
#[derive(Deserialize)]
pub(super) struct Table {
    title: String,
    introduction: String,
    refusals: Vec<Refusal>,
    retired: Vec<(u16, String)>,
}

#[derive(Deserialize)]
struct Refusal {
    number: u16,
    name: String,
    status: Option<u16>,
    meaning: String,
}

pub(super) fn render(references: &[Reference]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for table in references.iter().flat_map(|it| &it.refusals) {
        let _ = write!(text, "\n## {}\n\n", table.title);
        text.push_str(&paragraph(&table.introduction));
        text.push_str("| number | name | status | fault and correction |\n|---|---|---|---|\n");
        for refusal in &table.refusals {
            let (number, name) = (refusal.number, &refusal.name);
            let status = refusal.status.map_or("–".into(), |it| it.to_string());
            let _ = writeln!(
                text,
                "| {number} | `{name}` | {status} | {} |",
                cell(&refusal.meaning)
            );
        }
        if !table.retired.is_empty() {
            text.push_str("\nRetired numbers:\n\n");
            for (number, what) in &table.retired {
                let _ = writeln!(text, "- {number}: {what}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_listed_with_retired_numbers() {
        let refusal = Refusal {
            number: 7,
            name: "gone".into(),
            status: Some(410),
            meaning: " It is\n gone.".into(),
        };
        let reference = Reference {
            program: "edge",
            settings: serde_json::Value::Null,
            metrics: Vec::new(),
            refusals: vec![Table {
                title: "Requests".into(),
                introduction: "Counted.".into(),
                refusals: vec![refusal],
                retired: vec![(8, "too old".into())],
            }],
        };
        let text = render(&[reference]);
        assert!(text.contains("\n## Requests\n\nCounted.\n\n"), "{text}");
        assert!(
            text.contains("| 7 | `gone` | 410 | It is gone. |\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\nRetired numbers:\n\n- 8: too old\n"),
            "{text}"
        );
    }
}
