//! Repairs paths that people, mail programs or QR codes changed.

use super::Target;
use crate::query;

/// The longest path that is repaired: a slug with all of it escaped, and some bytes around it.
const MAX_PATH_BYTES: usize = 256;

/// Characters that end a sentence, a bracket or a quotation around a link.
const TRAILING_PUNCTUATION: [char; 9] = ['/', '.', ',', ';', ':', ')', ']', '"', '\''];

/// A path without unnecessary escapes and without doubled slashes.
#[derive(Debug)]
pub struct RepairedPath(String);

impl RepairedPath {
    /// Repairs `path`, unless it is too long for a link.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        if path.len() > MAX_PATH_BYTES {
            return None;
        }
        let mut repaired = String::with_capacity(path.len());
        let mut rest = path;
        while let Some(first) = rest.chars().next() {
            let escaped = if first == '%' {
                unreserved(&rest[1..])
            } else {
                None
            };
            let (character, length) = escaped.map_or((first, first.len_utf8()), |it| (it, 3));
            if character != '/' || !repaired.ends_with('/') {
                repaired.push(character);
            }
            rest = &rest[length..];
        }
        Some(Self(repaired))
    }

    /// The possible targets: the path itself, and the path without a trailing punctuation mark.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let paths = [Some(&*self.0), without_punctuation(&self.0)];
        paths.into_iter().flatten().filter_map(Target::of)
    }
}

/// The unreserved character (RFC 3986, section 2.3) that two digits after a `%` stand for.
fn unreserved(digits: &str) -> Option<char> {
    let character = char::from(query::escaped(digits.as_bytes())?);
    let is_unreserved = character.is_ascii_alphanumeric() || "-._~".contains(character);
    is_unreserved.then_some(character)
}

fn without_punctuation(path: &str) -> Option<&str> {
    if let Some(shorter) = path.strip_suffix(TRAILING_PUNCTUATION) {
        return Some(shorter);
    }
    let (shorter, digits) = path.rsplit_once('%')?;
    let end = char::from(query::escaped(digits.as_bytes())?);
    (digits.len() == 2 && TRAILING_PUNCTUATION.contains(&end)).then_some(shorter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(path: &str) -> Vec<String> {
        let repaired = RepairedPath::of(path).expect("short");
        repaired.targets().map(|it| format!("{it:?}")).collect()
    }

    #[test]
    fn repaired_paths_lose_one_punctuation_mark() {
        for (path, expected) in [
            ("/c/spring", &["Click(\"spring\")"][..]),
            ("/c/spring.", &["Click(\"spring.\")", "Click(\"spring\")"]),
            ("/c/spring)", &["Click(\"spring)\")", "Click(\"spring\")"]),
            ("/c/a%29", &["Click(\"a%29\")", "Click(\"a\")"]),
            ("/c/a%22", &["Click(\"a%22\")", "Click(\"a\")"]),
            (
                "/c/spring).",
                &["Click(\"spring).\")", "Click(\"spring)\")"],
            ),
            ("//c///spr%69ng", &["Click(\"spring\")"]),
            ("/c/a%2Fb%20%zz%4", &["Click(\"a%2Fb%20%zz%4\")"]),
            ("/%43/a%2Db%7E", &["Click(\"a-b~\")"]),
            ("/I/SPRING.GIF", &["Pixel(\"SPRING\")"]),
            ("/i/spring.gif/", &["Pixel(\"spring\")"]),
            ("/i/spring.png", &[]),
            ("/", &[]),
            ("/ü%", &[]),
        ] {
            assert_eq!(targets(path), expected, "{path}");
        }
        assert!(RepairedPath::of(&"x".repeat(257)).is_none());
    }
}
