//! Words that this project avoids, with their replacements.

use super::{Fault, Text};

/// Each word is in two parts, so that a search of the repository for the words does not find this list.
const WORDS: [(&str, &str); 6] = [
    (concat!("ali", "ke"), "identically"),
    (concat!("am", "id"), "during"),
    (concat!("an", "ew"), "again"),
    (concat!("fol", "der"), "directory"),
    (
        concat!("no", "body"),
        "a concrete noun: no client, no operator, …",
    ),
    (
        concat!("who", "ever"),
        "a concrete noun: the client, the sender, …",
    ),
];

/// The words in a text, with their replacements.
pub(super) fn faults(text: &Text) -> Vec<Fault> {
    // Migrations never change once they are released.
    if text.path.iter().any(|it| it == "migrations") {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (number, line) in text.text.lines().enumerate() {
        let lower = line.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if let Some((word, instead)) = WORDS.iter().find(|(listed, _)| *listed == word) {
                faults.push(text.fault(number + 1, format!("{word}; write {instead}")));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_word_is_a_fault_with_its_line() {
        let word = WORDS[3].0;
        let text = |text: String| Text {
            path: "docs/a.md".into(),
            text,
        };
        let found = faults(&text(format!("one\nA {word}'s name\n")));
        assert_eq!(found.len(), 1);
        let expected = format!("docs/a.md:2: {word}; write directory");
        assert_eq!(found[0].to_string(), expected);
        assert!(faults(&text(format!("{word}_name"))).is_empty());
    }
}
