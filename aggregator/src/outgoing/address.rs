//! The URL of a postback, with its macros. Their values belong elsewhere.

use macro_url::{MacroUrl, MacroUrlError};
use serde::Deserialize;

/// The URL with macros at which an affiliate receives postbacks.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub(super) MacroUrl<Macro>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    ClickId,
    Campaign,
    Offer,
    Affiliate,
    Link,
    Country,
    Device,
    Source,
    ExternalId,
    Payout,
    Currency,
    Status,
    Event,
    TransactionId,
    ConversionId,
    Revision,
    Timestamp,
    Sub(usize),
}

const MACROS: [(&str, Macro); 17] = [
    ("click_id", Macro::ClickId),
    ("campaign", Macro::Campaign),
    ("offer", Macro::Offer),
    ("affiliate", Macro::Affiliate),
    ("link", Macro::Link),
    ("country", Macro::Country),
    ("device", Macro::Device),
    ("source", Macro::Source),
    ("external_id", Macro::ExternalId),
    ("payout", Macro::Payout),
    ("currency", Macro::Currency),
    ("status", Macro::Status),
    ("event", Macro::Event),
    ("transaction_id", Macro::TransactionId),
    ("conversion_id", Macro::ConversionId),
    ("revision", Macro::Revision),
    ("timestamp", Macro::Timestamp),
];

impl macro_url::Macro for Macro {
    const NAMES: &'static str = "{click_id} {campaign} {offer} {affiliate} {link} {country} {device} \
        {source} {external_id} {payout} {currency} {status} {event} {transaction_id} {conversion_id} \
        {revision} {timestamp} {sub1} to {sub10}";

    fn from_name(name: &str) -> Option<Self> {
        let known = MACROS.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, which)| *which)
            .or_else(|| macro_url::sub_index(name, 10).map(Self::Sub))
    }
}

impl TryFrom<String> for Address {
    type Error = MacroUrlError;

    fn try_from(text: String) -> Result<Self, MacroUrlError> {
        // A fragment is never sent to a server.
        MacroUrl::parse(text.split('#').next().unwrap_or_default()).map(Self)
    }
}
