//! Requests as shown to operators: parameter names, and only values that identify neither persons nor secrets. If
//! the secrets are unknown, no values are shown.

use functions_shared::Secret;
use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// Maximum length of a shown request in characters.
const MAX_CHARS: usize = 1_024;
/// Maximum length of a shown name or value in bytes.
const MAX_SHOWN_BYTES: usize = 64;
/// Parameters whose values are shown: the reported fields and the click.
const SHOWN_PARAMETERS: &[&str] = &[
    "click_id",
    "clickid",
    "cid",
    "subid",
    "cnv_id",
    "r",
    "transaction_id",
    "txid",
    "tid",
    "order_id",
    "action_id",
    "adv_sub",
    "t",
    "payout",
    "revenue",
    "amount",
    "sum",
    "p",
    "currency",
    "cnv_currency",
    "eccu",
    "status",
    "cnv_status",
    "event",
    "et",
    "type",
    "goal",
    "goal_id",
    "event_id",
    "adv_event_id",
    "e",
    "offer_id",
];

/// Paths without an advertiser's name.
const PATHS: &[&str] = &[
    "postback", "aff_lsr", "aff_l", "aff_goal", "p.ashx", "reversal",
];

/// The secrets of an advertiser.
#[derive(Debug, Default)]
pub(crate) struct HiddenParts<'a> {
    /// Parameters that contain secrets or signatures.
    pub(crate) names: Vec<&'a str>,
    /// Secrets, wherever they appear.
    pub(crate) values: Vec<&'a Secret>,
}

impl HiddenParts<'_> {
    /// Whether it contains a secret.
    fn is_in(&self, text: &str) -> bool {
        self.values.iter().any(|secret| secret.occurs_in(text))
    }
}

/// Method and target with masked values: all that are not known to be harmless, the `hidden` ones, and possible
/// secrets in the path. `known` is the advertiser's name, which may be shown, or empty: the text in its place may
/// be a secret whose `/` was lost.
pub(crate) fn masked(
    method: &str,
    path: &str,
    query: &str,
    known: &str,
    hidden: Option<&HiddenParts<'_>>,
) -> String {
    let mut text = format!("{method} {}", masked_path(path, known));
    for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        text.push(if number == 0 { '?' } else { '&' });
        let is_secret = |name: &str| hidden.is_some_and(|it| it.is_in(name));
        let parts = pair.split_once('=');
        let Some((name, value)) = parts.filter(|(name, _)| is_name(name) && !is_secret(name))
        else {
            text.push_str("***");
            continue;
        };
        let among = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(name));
        let shown = hidden.is_some_and(|hidden| {
            among(SHOWN_PARAMETERS) && !among(&hidden.names) && is_harmless(value, hidden)
        });
        text.push_str(name);
        text.push('=');
        text.push_str(if shown || value.is_empty() {
            value
        } else {
            "***"
        });
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_CHARS)
        .collect()
}

/// Whether it looks like a parameter name; anything else may be a value.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    name.len() <= MAX_SHOWN_BYTES && name.bytes().all(plain)
}

/// An email address may appear anywhere, and after a lost `&` the text belongs to another parameter.
fn is_harmless(value: &str, hidden: &HiddenParts<'_>) -> bool {
    let decoded = percent_decode_str(value).decode_utf8_lossy();
    value.len() <= MAX_SHOWN_BYTES
        && !decoded.contains(['@', '=', '&'])
        && !hidden.is_in(&decoded)
        && decoded.parse::<IpAddr>().is_err()
}

fn masked_path(path: &str, known: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match segments[..] {
        [] => "/".into(),
        ["postback", name] if name == known => format!("/postback/{name}"),
        ["postback", name, ..] if name == known => format!("/postback/{name}/***"),
        ["postback", _] => "/postback/***".into(),
        [_, "postback"] => "/***/postback".into(),
        [only] if PATHS.contains(&only) => format!("/{only}"),
        _ => "/***".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_personal_data_are_masked() {
        let secret = Secret::from("s3cret".to_owned());
        let hidden = HiddenParts {
            names: vec!["goal"],
            values: vec![&secret],
        };
        let of = |path, query| masked("GET", path, query, "acme", Some(&hidden));
        assert_eq!(
            of(
                "/postback/acme/s3cret",
                "cid=abc&token=s3cret&payout=1.50&email=a%40b.example"
            ),
            "GET /postback/acme/***?cid=abc&token=***&payout=1.50&email=***"
        );
        assert_eq!(
            of("/4f9a1c2/postback", "sig=00ff"),
            "GET /***/postback?sig=***"
        );
        assert_eq!(
            of(
                "/aff_lsr",
                "adv_sub=a@b.example&amount=203.0.113.7&goal=s3cret&s3cret"
            ),
            "GET /aff_lsr?adv_sub=***&amount=***&goal=***&***"
        );
        // Everflow's path key.
        assert_eq!(of("/", "nid=4f9a1c2&amount=1"), "GET /?nid=***&amount=1");
        assert_eq!(of("/x/y", "to%6ben=s3cret"), "GET /***?***");
        assert_eq!(of("/postback/acmes3cret", ""), "GET /postback/***");
        assert_eq!(of("/acmes3cret", ""), "GET /***");
        // A lost `&`, and a value in an unexpected place.
        assert_eq!(
            of(
                "/aff_lsr",
                "sum=1token=other&sum=1%3Dtoken&tid=%73%33cret&t=a-s3cret"
            ),
            "GET /aff_lsr?sum=***&sum=***&tid=***&t=***"
        );
        // The `=` is after the value.
        assert_eq!(of("/aff_lsr", "as3cret=&sum=1"), "GET /aff_lsr?***&sum=1");
    }

    #[test]
    fn unknown_secrets_hide_all_values() {
        // The secret's name is truncated, or is another network's name for a transaction.
        let of = |known| masked("GET", "/postback/acme", "t=s3cret&payout=1.50", known, None);
        assert_eq!(of(""), "GET /postback/***?t=***&payout=***");
        assert_eq!(of("acme"), "GET /postback/acme?t=***&payout=***");
    }
}
