//! URLs with macros: those of destinations, which the edge expands, and those of postbacks, which the aggregator does.

use macro_url::{MacroUrl, MacroUrlError};

/// What a URL is for; it decides which macros there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlUse {
    /// The redirect target of a link.
    Destination,
    /// The address that is notified of conversions.
    Postback,
    /// A page or an image.
    Plain,
}

impl UrlUse {
    /// Checks a URL.
    pub(crate) fn check(self, url: &str) -> Result<(), MacroUrlError> {
        match self {
            Self::Destination => MacroUrl::<DestinationMacro>::parse(url).map(drop),
            // A fragment is never sent to a server.
            Self::Postback => {
                let sent = url.split('#').next().unwrap_or_default();
                MacroUrl::<PostbackMacro>::parse(sent).map(drop)
            }
            Self::Plain => MacroUrl::<NoMacro>::parse(url).map(drop),
        }
    }
}

const SUB_COUNT: usize = 10;

/// A set of macros of which only the names matter here. A test compares them with those of the edge and the aggregator.
macro_rules! macro_names {
    ($type:ident, $const:ident: $($name:literal)*, $subs:literal) => {
        const $const: &[&str] = &[$($name),*];

        #[derive(Clone, Copy, PartialEq)]
        struct $type;

        impl macro_url::Macro for $type {
            const NAMES: &'static str = concat!($("{", $name, "} ",)* $subs);

            fn from_name(name: &str) -> Option<Self> {
                let has_subs = !$subs.is_empty();
                let is_sub = || has_subs && macro_url::sub_index(name, SUB_COUNT).is_some();
                ($const.contains(&name) || is_sub()).then_some(Self)
            }
        }
    };
}

macro_names! {
    DestinationMacro, DESTINATION_MACROS:
    "click_id" "link" "campaign" "offer" "affiliate" "country" "region" "asn" "device" "os" "browser" "language" "ip"
    "timestamp" "source" "external_id", "{sub1} to {sub10}"
}

macro_names! {
    PostbackMacro, POSTBACK_MACROS:
    "click_id" "campaign" "offer" "affiliate" "link" "country" "device" "source" "external_id" "payout" "currency"
    "status" "event" "transaction_id" "conversion_id" "revision" "timestamp", "{sub1} to {sub10}"
}

macro_names! { NoMacro, NO_MACROS: , "" }

#[cfg(test)]
mod tests {
    use super::*;

    /// The quoted names of the lines between two marks.
    fn names<'t>(source: &'t str, from: &str, to: &str) -> Vec<&'t str> {
        let (_, rest) = source.split_once(from).expect("the list's beginning");
        let (list, _) = rest.split_once(to).expect("the list's end");
        list.lines()
            .filter_map(|line| line.split('"').nth(1))
            .collect()
    }

    #[test]
    fn macros_are_those_of_edge_and_aggregator() {
        let edge = include_str!("../../../edge-tracker/src/links/destination.rs");
        assert_eq!(names(edge, "\nmacros! {", "\n}"), DESTINATION_MACROS);
        let aggregator = include_str!("../../../aggregator/src/outgoing/address.rs");
        assert_eq!(names(aggregator, "const MACROS", "];"), POSTBACK_MACROS);
    }

    #[test]
    fn urls_have_the_macros_of_their_use() {
        for (url, uses) in [
            (
                "https://shop.example/?c={click_id}&s={sub10}",
                &[UrlUse::Destination, UrlUse::Postback][..],
            ),
            ("https://shop.example/{asn}", &[UrlUse::Destination]),
            ("https://shop.example/{payout}", &[UrlUse::Postback]),
            (
                "https://shop.example/a?b",
                &[UrlUse::Destination, UrlUse::Postback, UrlUse::Plain],
            ),
            ("https://{link}.example/", &[]),
            ("javascript:alert(1)", &[]),
        ] {
            for of in [UrlUse::Destination, UrlUse::Postback, UrlUse::Plain] {
                assert_eq!(of.check(url).is_ok(), uses.contains(&of), "{url} {of:?}");
            }
        }
    }
}
