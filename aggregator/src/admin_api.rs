//! JSON pages of the admin port: postbacks, newest first, and states of affiliates. One request changes something: it
//! sends a postback again.

use crate::store::{ConversionStore, within};
use daemon::admin::{Page, PageError, PageRequest};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Rows on one page.
const MAX_ROWS: usize = 200;

/// The requested page, if it exists.
pub(crate) fn page(
    conversion_store: &Arc<ConversionStore>,
    request: &PageRequest<'_>,
) -> Option<Page> {
    let value = |name: &str| {
        let pairs = request.query.split('&');
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(key, _)| *key == name);
        let value = value.map_or("", |(_, value)| value);
        percent_decode_str(value).decode_utf8_lossy().into_owned()
    };
    let conversion_store = conversion_store.clone();
    match (request.is_post, request.path) {
        (false, "/postbacks") => {
            let (receiver, state) = (value("receiver"), value("state"));
            Some(Box::pin(async move {
                let postbacks =
                    within(conversion_store.list_postbacks(&receiver, &state, MAX_ROWS)).await;
                json(&postbacks.map_err(unavailable)?)
            }))
        }
        (false, "/affiliates") => {
            let name = value("name");
            Some(Box::pin(async move {
                let affiliates = within(conversion_store.affiliates(&name, MAX_ROWS)).await;
                json(&affiliates.map_err(unavailable)?)
            }))
        }
        (true, "/postbacks/resend") => {
            let postback = value("postback");
            Some(Box::pin(async move {
                match within(conversion_store.resend(&postback))
                    .await
                    .map_err(unavailable)?
                {
                    true => json(&serde_json::json!({ "postback": postback, "state": "due" })),
                    false => Err(PageError::NotFound(format!(
                        "no postback {postback:?}; /postbacks lists them"
                    ))),
                }
            }))
        }
        _ => None,
    }
}

fn unavailable(error: impl std::fmt::Display) -> PageError {
    PageError::Unavailable(format!("store: {error}"))
}

fn json(value: &impl serde::Serialize) -> Result<String, PageError> {
    let text = serde_json::to_string_pretty(value);
    text.map_err(|error| PageError::Unavailable(error.to_string()))
}
