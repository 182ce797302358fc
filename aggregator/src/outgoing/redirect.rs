//! Decides which redirects are followed: for example from `example.com` to `www.example.com`, but never to a domain of
//! another owner, by the public suffix list.

use http::{Response, StatusCode, Uri, header};
use url::{Host, Url};

/// The target of a redirect of a `GET` of `from`, if it may be followed.
pub(super) fn target<B>(from: &Uri, response: &Response<B>) -> Option<Uri> {
    let same_method = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !same_method.contains(&response.status()) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let from = Url::parse(&from.to_string()).ok()?;
    let mut to = from.join(location).ok()?;
    to.set_fragment(None);
    let is_plain = to.username().is_empty() && to.password().is_none();
    (is_plain && is_as_safe(&from, &to) && is_same_owner(&from, &to))
        .then(|| to.as_str().parse().ok())?
}

fn is_as_safe(from: &Url, to: &Url) -> bool {
    to.scheme() == "https" || to.scheme() == "http" && from.scheme() == "http"
}

/// Whether both have the same host or registrable domain.
fn is_same_owner(from: &Url, to: &Url) -> bool {
    match (from.host(), to.host()) {
        (Some(Host::Domain(from)), Some(Host::Domain(to))) => {
            from == to || registrable(from).is_some_and(|domain| registrable(to) == Some(domain))
        }
        (from, to) => from == to,
    }
}

fn registrable(host: &str) -> Option<&str> {
    psl::domain_str(host.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_the_registrable_domain() {
        let from = "https://shop.example/pb?a=1";
        for (from, status, location, expected) in [
            (from, 307, "https://www.shop.example/pb?a=1", true),
            (from, 301, "https://www.shop.example/", true),
            (from, 302, "https://SHOP.example:8443/pb", true),
            (from, 308, "/other?a=1", true),
            ("http://shop.example/", 307, "https://shop.example/", true),
            ("https://a.shop.co.uk/", 307, "https://b.shop.co.uk/", true),
            ("https://192.0.2.1/", 307, "https://192.0.2.1/x", true),
            // Another owner.
            (from, 307, "https://shop.example.net/", false),
            (from, 307, "https://evilshop.example/", false),
            ("https://shop.co.uk/", 307, "https://other.co.uk/", false),
            ("https://a.github.io/", 307, "https://b.github.io/", false),
            ("https://192.0.2.1/", 307, "https://192.0.2.2/", false),
            (from, 307, "https://192.0.2.1/", false),
            ("https://co.uk/", 307, "https://www.co.uk/", false),
            // Without encryption, with a password, or with another method.
            (from, 307, "http://shop.example/", false),
            (from, 307, "https://a:b@shop.example/", false),
            (from, 307, "ftp://shop.example/", false),
            (from, 307, "https://", false),
            (from, 303, "https://shop.example/", false),
            (from, 200, "https://shop.example/", false),
        ] {
            let response = Response::builder()
                .status(status)
                .header("location", location);
            let response = response.body(()).expect("valid response");
            let target = target(&from.parse().expect("valid URL"), &response);
            assert_eq!(target.is_some(), expected, "{from} to {location}");
        }
    }

    #[test]
    fn redirect_targets_are_resolved() {
        let response = Response::builder()
            .status(307)
            .header("location", "//www.shop.example/pb?a=%20b#top");
        let response = response.body(()).expect("valid response");
        let from = "https://shop.example/".parse().expect("valid URL");
        let to = target(&from, &response).expect("followed");
        assert_eq!(to.to_string(), "https://www.shop.example/pb?a=%20b");
    }
}
