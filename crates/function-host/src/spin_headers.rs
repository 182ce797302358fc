//! The headers by which Spin describes a call to a component.

use crate::deployment::MatchedFunction;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

/// Sets the headers of a call of `matched` for `client`, in the place of any that the client sent.
pub(crate) fn set(headers: &mut HeaderMap, matched: &MatchedFunction, client: IpAddr) {
    let forged: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("spin-"))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    headers.insert("spin-matched-route", matched.route.clone());
    headers.insert("spin-component-route", matched.route.clone());
    headers.insert("spin-path-info", matched.path_rest.clone());
    headers.insert("spin-base-path", HeaderValue::from_static("/"));
    // Spin's format has a port; no function needs the client's.
    let client = SocketAddr::new(client, 0).to_string();
    if let Ok(client) = HeaderValue::from_str(&client) {
        headers.insert("spin-client-addr", client);
    }
}
