//! Parses the subset of YAML that uap-core's `regexes.yaml` uses: lists of entries with keys and texts in single
//! quotes, and comments.

use std::collections::BTreeMap;

/// An entry: its keys with their texts.
pub(super) type YamlEntry<'a> = BTreeMap<&'a str, String>;

/// The lists of `text` by their names.
///
/// # Errors
/// When a line is something else: its number and the expected syntax.
pub(super) fn lists(text: &str) -> Result<BTreeMap<&str, Vec<YamlEntry<'_>>>, String> {
    let mut lists = BTreeMap::new();
    let mut list: Option<&mut Vec<YamlEntry<'_>>> = None;
    for (line, number) in text.lines().zip(1..) {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_suffix(':').filter(|name| is_key(name)) {
            list = Some(lists.entry(name).or_insert_with(Vec::new));
            continue;
        }
        let entries = list.as_deref_mut();
        entries.and_then(|entries| add(entries, content)).ok_or_else(|| {
            format!("line {number}: expected is \"name:\", or \"- key: 'text'\" or \"key: 'text'\" below it")
        })?;
    }
    Ok(lists)
}

/// Adds a line to the last entry, or as the first one of another.
fn add<'a>(entries: &mut Vec<YamlEntry<'a>>, content: &'a str) -> Option<()> {
    let content = match content.strip_prefix("- ") {
        Some(first) => {
            entries.push(YamlEntry::new());
            first.trim_start()
        }
        None => content,
    };
    let (key, value) = content.split_once(": ").filter(|(key, _)| is_key(key))?;
    let entry = entries.last_mut()?;
    if let Some(text) = quoted(value.trim())? {
        entry.insert(key, text);
    }
    Some(())
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A text in single quotes, in which a doubled quote stands for one, or `null`.
fn quoted(value: &str) -> Option<Option<String>> {
    if value == "null" {
        return Some(None);
    }
    let mut parts = value.strip_prefix('\'')?.split('\'');
    let mut text = parts.next()?.to_owned();
    loop {
        // After a quote: another one, or the end of the text.
        match (parts.next()?, parts.next()) {
            ("", Some(more)) => {
                text.push('\'');
                text.push_str(more);
            }
            (rest, None) => {
                let rest = rest.trim_start();
                return (rest.is_empty() || rest.starts_with('#')).then_some(Some(text));
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_other_yaml_rejected_by_line() {
        let text = "# a\n\none:\n  # b\n  - regex: 'it''s \\d: ''x'''\n    flag: 'i' # c\n    none: null\n  - regex: ''\ntwo:\n";
        let read = lists(text).expect("lists");
        let regexes: Vec<&str> = read["one"].iter().map(|entry| &*entry["regex"]).collect();
        assert_eq!(regexes, ["it's \\d: 'x'", ""]);
        assert_eq!(read["one"][0]["flag"], "i");
        assert_eq!(read["one"][0].len(), 2);
        assert!(read["two"].is_empty());
        for bad in [
            "  - regex: 'x'",
            "one:\n  regex: 'x'",
            "one:\n  - regex: x",
            "one:\n  - regex: 'x",
            "one:\n  - regex: 'x' y",
            "one:\n  - regex: 'x'y'",
            "one:\n  - regex: \"x\"",
            "one:\n  - &a regex: 'x'",
            "one: [",
        ] {
            let error = lists(bad).expect_err(bad);
            assert!(error.starts_with("line "), "{bad}: {error}");
        }
    }
}
