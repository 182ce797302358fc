//! Routes of HTTP triggers: `:name` matches any one segment, a final `/...` every path below.

/// A route that leads to a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutePattern {
    text: String,
    segments: Vec<Segment>,
    /// Whether the route ends with `/...`.
    is_wildcard: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Exact(String),
    Any,
}

impl RoutePattern {
    pub(crate) fn parse(route: &str) -> Result<Self, String> {
        let path = route
            .strip_prefix('/')
            .ok_or_else(|| format!("route {route:?} does not begin with /"))?;
        let (path, is_wildcard) = match path.strip_suffix("...") {
            Some(before) if before.is_empty() || before.ends_with('/') => {
                (before.trim_end_matches('/'), true)
            }
            Some(_) => {
                return Err(format!(
                    "route {route:?} ends with ... but lacks a / before it"
                ));
            }
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
            is_wildcard,
        })
    }

    /// The precedence: of several matching routes, the highest rank wins. The number of exact segments counts first.
    pub(crate) fn rank(&self) -> (usize, usize, bool) {
        let exact = |segment: &&Segment| matches!(segment, Segment::Exact(_));
        let exact = self.segments.iter().filter(exact).count();
        (exact, self.segments.len(), !self.is_wildcard)
    }

    /// The route as written in the manifest.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// If `path` matches, the part of it that `/...` matched (empty without one). Leading and trailing slashes are
    /// ignored, as in Spin.
    pub(crate) fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        // One slash is kept, so that a slash precedes each segment.
        let leading_slashes = path.len() - path.trim_start_matches('/').len();
        let mut rest = path
            .get(leading_slashes.checked_sub(1)?..)?
            .trim_end_matches('/');
        for segment in &self.segments {
            let inner = rest.strip_prefix('/')?;
            let end = inner.find('/').unwrap_or(inner.len());
            let (text, after) = inner.split_at(end);
            let matches = match segment {
                Segment::Exact(exact) => exact == text,
                Segment::Any => !text.is_empty(),
            };
            if !matches {
                return None;
            }
            rest = after;
        }
        (self.is_wildcard || rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest<'p>(route: &str, path: &'p str) -> Option<&'p str> {
        RoutePattern::parse(route).expect("valid route").rest(path)
    }

    #[test]
    fn paths_match_as_in_spin() {
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
        assert!(RoutePattern::parse("a").is_err());
        assert!(RoutePattern::parse("/a...").is_err());
    }

    #[test]
    fn most_specific_route_ranks_first() {
        let rank = |route| RoutePattern::parse(route).expect("valid route").rank();
        assert!(rank("/a/b") > rank("/a/..."));
        assert!(rank("/a/:b") > rank("/a/..."));
        assert!(rank("/a/b") > rank("/a/:b"));
        assert!(rank("/a/...") > rank("/..."));
    }
}
