//! JSON pages of the admin port: postbacks, newest first, and states of affiliates. One request changes something: it
//! sends a postback again.

use crate::store::{ConversionStore, POSTBACK_STATES, within};
use daemon::admin::{Page, PageError, PageRequest};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Rows on one page.
const MAX_ROWS: usize = 200;
/// Every path of this port.
const PATHS: &str =
    "try /healthz, /readyz, /metrics, /affiliates, /postbacks, or a POST to /postbacks/resend";

/// The requested page, if it exists.
pub(crate) fn page(
    conversion_store: &Arc<ConversionStore>,
    request: &PageRequest<'_>,
) -> Option<Page> {
    let store = conversion_store.clone();
    let query = request.query.to_owned();
    match (request.is_post, request.path) {
        (false, "/postbacks") => Some(Box::pin(async move { postbacks(&store, &query).await })),
        (false, "/affiliates") => Some(Box::pin(async move { affiliates(&store, &query).await })),
        (true, "/postbacks/resend") => Some(Box::pin(async move { resend(&store, &query).await })),
        (false, _) => Some(Box::pin(async { Err(PageError::NotFound(PATHS.into())) })),
        (true, _) => None,
    }
}

async fn postbacks(store: &ConversionStore, query: &str) -> Result<String, PageError> {
    let [receiver, state] = values(query, ["receiver", "state"])?;
    if !state.is_empty() && !POSTBACK_STATES.contains(&state.as_str()) {
        return Err(PageError::Invalid(format!(
            "unknown state {state:?}; expected one of {}",
            POSTBACK_STATES.join(", ")
        )));
    }
    let shown = within(store.list_postbacks(&receiver, &state, MAX_ROWS)).await;
    json(&shown.map_err(unavailable)?)
}

async fn affiliates(store: &ConversionStore, query: &str) -> Result<String, PageError> {
    let [name] = values(query, ["name"])?;
    let shown = within(store.affiliates(&name, MAX_ROWS)).await;
    json(&shown.map_err(unavailable)?)
}

async fn resend(store: &ConversionStore, query: &str) -> Result<String, PageError> {
    let [postback] = values(query, ["postback"])?;
    match within(store.resend(&postback)).await.map_err(unavailable)? {
        true => json(&serde_json::json!({ "postback": postback, "state": "due" })),
        false => Err(PageError::NotFound(format!(
            "no postback {postback:?}; /postbacks lists them"
        ))),
    }
}

/// The values of the `known` parameters in a query, of each the first; empty where a parameter is absent. A misspelt
/// parameter is an error: without it the page would show everything.
fn values<const N: usize>(query: &str, known: [&str; N]) -> Result<[String; N], PageError> {
    let mut values = [const { String::new() }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some(at) = known.iter().position(|it| *it == name) else {
            return Err(PageError::Invalid(format!(
                "unknown parameter {name:?}; expected {}",
                known.join(", ")
            )));
        };
        if values[at].is_empty() {
            values[at] = percent_decode_str(value).decode_utf8_lossy().into_owned();
        }
    }
    Ok(values)
}

fn unavailable(error: impl std::fmt::Display) -> PageError {
    PageError::Unavailable(format!("store: {error}"))
}

fn json(value: &impl serde::Serialize) -> Result<String, PageError> {
    let text = serde_json::to_string_pretty(value);
    text.map_err(|error| PageError::Unavailable(error.to_string()))
}
