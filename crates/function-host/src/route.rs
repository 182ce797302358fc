//! Paths of HTTP triggers: exact, with `:name` for any one segment, with `/...` for all below.

/// A path that leads to a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    segments: Vec<Segment>,
    /// Whether all that is below matches, too.
    below: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Any,
}

impl Pattern {
    pub(crate) fn parse(route: &str) -> Result<Self, String> {
        let path = route
            .strip_prefix('/')
            .ok_or_else(|| format!("route {route:?} does not begin with /"))?;
        let (path, below) = match path.strip_suffix("...") {
            Some(before) if before.is_empty() || before.ends_with('/') => {
                (before.trim_end_matches('/'), true)
            }
            Some(_) => return Err(format!("in route {route:?} only /... may be at the end")),
            None => (path, false),
        };
        let segment = |text: &str| match text.strip_prefix(':') {
            Some(_) => Segment::Any,
            None => Segment::Exact(text.to_owned()),
        };
        let segments = path.split('/').filter(|text| !text.is_empty()).map(segment);
        Ok(Self {
            text: route.to_owned(),
            segments: segments.collect(),
            below,
        })
    }

    /// Which goes before another that matches as well: exact segments count for most.
    pub(crate) fn rank(&self) -> (usize, usize, bool) {
        let exact = |segment: &&Segment| matches!(segment, Segment::Exact(_));
        let exact = self.segments.iter().filter(exact).count();
        (exact, self.segments.len(), !self.below)
    }

    /// As it is written in the manifest.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// What of `path` is left to `/...` (empty without), if it matches. Slashes around the path say nothing, as in
    /// Spin.
    pub(crate) fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        // All but one of those before it, so that each segment has one before it.
        let doubled = path.len() - path.trim_start_matches('/').len();
        let mut rest = path.get(doubled.checked_sub(1)?..)?.trim_end_matches('/');
        for segment in &self.segments {
            let inner = rest.strip_prefix('/')?;
            let end = inner.find('/').unwrap_or(inner.len());
            let (text, after) = inner.split_at(end);
            let fits = match segment {
                Segment::Exact(exact) => exact == text,
                Segment::Any => !text.is_empty(),
            };
            if !fits {
                return None;
            }
            rest = after;
        }
        (self.below || rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest<'p>(route: &str, path: &'p str) -> Option<&'p str> {
        Pattern::parse(route).expect("a route").rest(path)
    }

    #[test]
    fn paths_match_as_spin_says() {
        assert_eq!(rest("/a/b", "/a/b"), Some(""));
        assert_eq!(rest("/a/b", "/a/b/"), Some(""));
        assert_eq!(rest("/a/b", "/a/b/c"), None);
        assert_eq!(rest("/a/b", "/a"), None);
        assert_eq!(rest("/a/b", "/ab"), None);
        assert_eq!(rest("/a/...", "/a"), Some(""));
        assert_eq!(rest("/a/...", "/a/b/c"), Some("/b/c"));
        assert_eq!(rest("/a/...", "/ab"), None);
        assert_eq!(rest("/...", "/what/ever"), Some("/what/ever"));
        assert_eq!(rest("/:key/postback", "/k/postback"), Some(""));
        assert_eq!(rest("/:key/postback", "//postback"), None);
        assert_eq!(rest("/:key/postback", "//k/postback//"), Some(""));
        assert_eq!(rest("/a/...", "//a/b/"), Some("/b"));
        assert_eq!(rest("/a/...", "/a//b"), Some("//b"));
        assert_eq!(rest("/a/b", "/a//b"), None);
        assert_eq!(rest("/", "/"), Some(""));
        assert_eq!(rest("/", "//"), Some(""));
        assert_eq!(rest("/", "/a"), None);
        assert_eq!(rest("/a", "a"), None);
        assert!(Pattern::parse("a").is_err());
        assert!(Pattern::parse("/a...").is_err());
    }

    #[test]
    fn the_most_particular_goes_first() {
        let rank = |route| Pattern::parse(route).expect("a route").rank();
        assert!(rank("/a/b") > rank("/a/..."));
        assert!(rank("/a/:b") > rank("/a/..."));
        assert!(rank("/a/b") > rank("/a/:b"));
        assert!(rank("/a/...") > rank("/..."));
    }
}
