//! The operators' page of postbacks: `/postbacks?receiver=CAMPAIGN/AFFILIATE&state=STATE`, newest first, as JSON.

use crate::store::Ledger;
use daemon::admin::Page;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// Postbacks shown at most.
const MOST: usize = 200;

/// The page at `path`, if it is this one.
pub(crate) fn page(ledger: &Arc<Ledger>, path: &str, query: &str) -> Option<Page> {
    if path != "/postbacks" {
        return None;
    }
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| *key == name);
        let value = values.next().map_or("", |(_, value)| value);
        percent_decode_str(value).decode_utf8_lossy().into_owned()
    };
    let (receiver, state) = (value("receiver"), value("state"));
    let ledger = ledger.clone();
    Some(Box::pin(async move {
        let shown = ledger.shown(&receiver, &state, MOST).await;
        let shown = shown.map_err(|error| format!("store: {error}"))?;
        serde_json::to_string_pretty(&shown).map_err(|error| error.to_string())
    }))
}
