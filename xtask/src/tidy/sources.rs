//! Rules for each source file: header, length, unsafe code, test names.

use super::{Fault, Text};

const MAX_LINES: usize = 600;
const MAX_TEST_NAME: usize = 60;
/// The only crates with unsafe code: mapped files, and the library loaded at run time.
const UNSAFE_CRATES: [&str; 2] = ["crates/storage", "crates/clickhouse-embedded"];

/// Faults of a Rust file.
pub(super) fn faults(file: &Text) -> Vec<Fault> {
    let text = file.text.as_str();
    let lines = text.lines().count();
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    let mut exempt = UNSAFE_CRATES.iter();
    let may_be_unsafe = exempt.any(|it| file.path.starts_with(it));
    let rules = [
        (
            !text.starts_with("//!"),
            "starts without `//!`; say what belongs here and what never does".to_owned(),
        ),
        (
            lines > MAX_LINES,
            format!("{lines} lines, above {MAX_LINES}; it has more than one concern"),
        ),
        (
            is_root && !may_be_unsafe && !text.contains("#![forbid(unsafe_code)]"),
            "lacks `#![forbid(unsafe_code)]`; unsafe code lives in two crates".to_owned(),
        ),
    ];
    let broken = rules.into_iter().filter(|(is_broken, _)| *is_broken);
    broken
        .map(|(_, message)| file.fault(None, message))
        .collect()
}

/// Tests with names that are too long for a list.
pub(super) fn long_test_names(file: &Text) -> Vec<Fault> {
    let tests = tests(&file.text).into_iter();
    let long = tests.filter(|(_, name)| name.len() > MAX_TEST_NAME);
    let fault = |(line, name): (usize, &str)| {
        let length = name.len();
        let message = format!(
            "{name} has {length} characters, above {MAX_TEST_NAME}; write subject_condition_result"
        );
        file.fault(line, message)
    };
    long.map(fault).collect()
}

/// The tests of a file with their line numbers.
fn tests(text: &str) -> Vec<(usize, &str)> {
    let mut is_test = false;
    let mut tests = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let name = line
            .split("fn ")
            .nth(1)
            .filter(|_| is_test && !line.starts_with("//"));
        let end = |c: char| !c.is_alphanumeric() && c != '_';
        if let Some(name) = name.and_then(|rest| rest.split(end).next()) {
            tests.push((number + 1, name));
            is_test = false;
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, text: &str) -> usize {
        let (path, text) = (path.into(), text.to_owned());
        let file = Text { path, text };
        faults(&file).len() + long_test_names(&file).len()
    }

    #[test]
    fn each_rule_finds_its_fault() {
        let good = "//! x\n#![forbid(unsafe_code)]\n";
        assert_eq!(faults_of("a/src/lib.rs", good), 0);
        assert_eq!(faults_of("a/src/lib.rs", "//! x\n"), 1);
        assert_eq!(faults_of("crates/storage/src/lib.rs", "//! x\n"), 0);
        assert_eq!(faults_of("a/src/b.rs", "fn x() {}\n"), 1);
        assert_eq!(faults_of("a/src/b.rs", &"//! x\n".repeat(601)), 1);
        for (length, found) in [(60, 0), (61, 1)] {
            let name = "x".repeat(length);
            let test = format!("//! x\n#[test]\nfn {name}() {{}}\n");
            assert_eq!(faults_of("a/src/b.rs", &test), found);
            assert_eq!(faults_of("a/src/b.rs", &test.replace("#[test]\n", "")), 0);
        }
    }
}
