//! Names in documents must exist: tests, metrics, settings, columns, source files, texts of the log.

use std::collections::BTreeSet;

use super::{Fault, Text};

/// Names defined elsewhere: settings of ClickHouse.
const FOREIGN: [&str; 3] = [
    "materialize_skip_indexes_on_insert",
    "merge_selector_base",
    "optimize_on_insert",
];

/// The table of invariants with their tests.
const INVARIANTS: &str = "docs/invariants.md";

/// Names in documents that are in no source.
pub(super) fn faults(texts: &[Text]) -> Vec<Fault> {
    let is_source = |text: &&Text| !text.has_extension("md") && !text.path.ends_with(file!());
    let end = |c: char| !c.is_alphanumeric() && c != '_';
    let sources = texts.iter().filter(is_source);
    let known: BTreeSet<&str> = sources.flat_map(|it| it.text.split(end)).collect();
    let mut faults = Vec::new();
    for document in texts.iter().filter(|it| it.has_extension("md")) {
        for (number, line) in document.text.lines().enumerate() {
            for name in
                names(line).filter(|name| !FOREIGN.contains(name) && !is_known(name, &known))
            {
                let message = format!("`{name}` is in no source; correct the name or the document");
                faults.push(document.fault(number + 1, message));
            }
            let exists = |file: &str| texts.iter().any(|it| it.path.ends_with(file));
            for file in source_files(line).filter(|file| !exists(file)) {
                let message = format!("there is no file `{file}`; correct the path");
                faults.push(document.fault(number + 1, message));
            }
            let is_logged = |text: &str| {
                texts
                    .iter()
                    .filter(is_source)
                    .any(|it| it.text.contains(text))
            };
            for text in log_texts(line).filter(|text| !is_logged(text)) {
                let message = format!("no source logs '{text}'; correct the command");
                faults.push(document.fault(number + 1, message));
            }
        }
    }
    for document in texts.iter().filter(|it| it.path.ends_with(INVARIANTS)) {
        faults.extend(untested(document, &tests(texts)));
    }
    faults
}

/// The names of all functions in Rust files, tests among them.
fn tests(texts: &[Text]) -> BTreeSet<&str> {
    let end = |c: char| !c.is_alphanumeric() && c != '_';
    let sources = texts.iter().filter(|it| it.has_extension("rs"));
    let functions = sources.flat_map(|it| it.text.split("fn ").skip(1));
    functions
        .filter_map(|rest| rest.split(end).next())
        .collect()
}

/// Rows of the table of invariants whose second column names no test, or one that does not exist.
fn untested(document: &Text, tests: &BTreeSet<&str>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in document.text.lines().enumerate() {
        let mut cells = line.trim_matches('|').split(" | ");
        let Some(named) = cells.nth(1).filter(|it| it.contains('`')) else {
            continue;
        };
        let mut fault = |message| faults.push(document.fault(number + 1, message));
        if names(named).next().is_none() && !named.contains("cargo xtask") {
            fault("the row names no test; add one, or remove the invariant".to_owned());
        }
        for name in names(named).filter(|name| !tests.contains(name)) {
            fault(format!("`{name}` is no test; correct the name"));
        }
    }
    faults
}

/// Code spans that are the path of a Rust file, or the end of one.
fn source_files(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    let is_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    spans.filter(move |span| span.ends_with(".rs") && span.chars().all(is_path))
}

/// Texts for which a command searches a log.
fn log_texts(line: &str) -> impl Iterator<Item = &str> {
    let commands = line.split("grep '").skip(1);
    commands.filter_map(|rest| Some(rest.split_once("' LOG")?.0))
}

/// Names in code spans that can hardly be anything else: at least three words with underscores.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    let names = spans.map(|span| span.split(['{', '(']).next().unwrap_or(span));
    names.filter(|name| {
        name.split('_').count() >= 3
            && name.split('_').all(|word| !word.is_empty())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    })
}

/// Histograms and summaries have series with suffixes.
fn is_known(name: &str, known: &BTreeSet<&str>) -> bool {
    let family = ["_count", "_sum", "_bucket"];
    let mut families = family.iter().filter_map(|suffix| name.strip_suffix(suffix));
    known.contains(name) || families.any(|name| known.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_without_a_source_is_a_fault() {
        let text = |path: &str, text: &str| Text {
            path: path.into(),
            text: text.to_owned(),
        };
        let source = text("a/src/lib.rs", "fn clicks_are_counted_once() {}");
        let names = "`clicks_are_counted_once`, `a_b`, `no_such_test_here`, `clicks_are_counted_once{a=\"b\"}`";
        let found = faults(&[source, text("docs/a.md", names)]);
        let expected =
            "docs/a.md:1: `no_such_test_here` is in no source; correct the name or the document";
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), expected);
        let source = text("a/src/lib.rs", "");
        let found = faults(&[source, text("docs/a.md", "`src/lib.rs`, `src/gone.rs`")]);
        assert_eq!(found.len(), 1);
        let expected = "docs/a.md:1: there is no file `src/gone.rs`; correct the path";
        assert_eq!(found[0].to_string(), expected);
        let source = text("a/src/lib.rs", "warn!(\"not shipping; events are kept\")");
        let commands =
            "`grep 'not shipping' LOG`, `grep 'shipping not' LOG`, `grep alert=true LOG`";
        let found = faults(&[source, text("docs/a.md", commands)]);
        assert_eq!(found.len(), 1);
        let expected = "docs/a.md:1: no source logs 'shipping not'; correct the command";
        assert_eq!(found[0].to_string(), expected);
    }

    #[test]
    fn invariant_without_a_test_is_a_fault() {
        let text = |path: &str, text: &str| Text {
            path: path.into(),
            text: text.to_owned(),
        };
        let source = text(
            "a/src/lib.rs",
            "fn clicks_are_counted_once() { let not_a_test = 1; }",
        );
        let rows = "| invariant | tests |\n|---|---|\n| A | `a` `clicks_are_counted_once` |\n| B | `a` |\n\
                    | C | `not_a_test` |\n| D | `cargo xtask chaos` |\n";
        let found = faults(&[source, text("docs/invariants.md", rows)]);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("docs/invariants.md:4: the row names no test"));
        assert!(found[1].starts_with("docs/invariants.md:5: `not_a_test` is no test"));
    }
}
