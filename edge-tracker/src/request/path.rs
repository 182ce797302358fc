//! Paths that people, mails and QR codes changed on the way: what they may have been before.

use super::Target;
use crate::query;

/// The longest path that is looked at, in bytes: a slug with all of it escaped and something around it.
const MAX_PATH_BYTES: usize = 256;

/// What ends a sentence, a bracket or a quotation that a link stands in.
const ENDS: [char; 9] = ['/', '.', ',', ';', ':', ')', ']', '"', '\''];

/// A path without escapes that say nothing and without doubled slashes.
#[derive(Debug)]
pub struct MendedPath(String);

impl MendedPath {
    /// `path` mended, unless it is too long for a link's.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        if path.len() > MAX_PATH_BYTES {
            return None;
        }
        let mut mended = String::with_capacity(path.len());
        let mut rest = path;
        while let Some(first) = rest.chars().next() {
            let escaped = if first == '%' {
                unreserved(&rest[1..])
            } else {
                None
            };
            let (character, length) = escaped.map_or((first, first.len_utf8()), |it| (it, 3));
            if character != '/' || !mended.ends_with('/') {
                mended.push(character);
            }
            rest = &rest[length..];
        }
        Some(Self(mended))
    }

    /// What it may be for: as it is, and without what ends a sentence.
    pub fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let paths = [Some(&*self.0), without_end(&self.0)];
        paths.into_iter().flatten().filter_map(Target::of)
    }
}

/// The unreserved character (RFC 3986, section 2.3) that two digits after a `%` stand for.
fn unreserved(digits: &str) -> Option<char> {
    let character = char::from(query::escaped(digits.as_bytes())?);
    let is_unreserved = character.is_ascii_alphanumeric() || "-._~".contains(character);
    is_unreserved.then_some(character)
}

fn without_end(path: &str) -> Option<&str> {
    if let Some(shorter) = path.strip_suffix(ENDS) {
        return Some(shorter);
    }
    let (shorter, digits) = path.rsplit_once('%')?;
    let end = char::from(query::escaped(digits.as_bytes())?);
    (digits.len() == 2 && ENDS.contains(&end)).then_some(shorter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(path: &str) -> Vec<String> {
        let mended = MendedPath::of(path).expect("short");
        mended.targets().map(|it| format!("{it:?}")).collect()
    }

    #[test]
    fn mended_paths_lose_one_end_and_nothing_else() {
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
        assert!(MendedPath::of(&"x".repeat(257)).is_none());
    }
}
