//! Requests as operators may see them: names of parameters, and of values only what identifies neither
//! persons nor secrets.

use percent_encoding::percent_decode_str;
use std::net::IpAddr;

/// The longest request shown, in characters.
const MAX_CHARS: usize = 1_024;
/// The longest name or value shown, in bytes.
const MAX_SHOWN_BYTES: usize = 64;
/// Parameters whose values are shown: they say what was reported and of which click.
const SHOWN: &[&str] = &[
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

/// Paths that name nobody.
const PATHS: &[&str] = &["postback", "aff_lsr", "aff_l", "aff_goal", "p.ashx"];

/// What an advertiser keeps to itself.
#[derive(Debug, Default)]
pub(crate) struct Hidden<'a> {
    /// Its name, which may be shown; empty when nobody is known. What stands in its place may be a secret
    /// whose `/` was lost.
    pub(crate) name: &'a str,
    /// Parameters that hold secrets or signatures.
    pub(crate) names: Vec<&'a str>,
    /// Secrets, wherever they were put.
    pub(crate) values: Vec<&'a str>,
}

/// Method and target, with all values masked that are not known to be harmless, those `hidden`, and what
/// may be a secret in the path.
pub(crate) fn masked(method: &str, path: &str, query: &str, hidden: &Hidden<'_>) -> String {
    let mut text = format!("{method} {}", masked_path(path, hidden.name));
    for (number, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        text.push(if number == 0 { '?' } else { '&' });
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| is_name(name)) else {
            text.push_str("***");
            continue;
        };
        let among = |names: &[&str]| names.iter().any(|it| it.eq_ignore_ascii_case(name));
        let shown = among(SHOWN) && !among(&hidden.names) && is_harmless(value, hidden);
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

/// Whether it looks like the name of a parameter; anything else may be a value.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    name.len() <= MAX_SHOWN_BYTES && name.bytes().all(plain)
}

/// Somebody's address may have been put anywhere; and where a `&` was lost, what follows belongs to another
/// parameter.
fn is_harmless(value: &str, hidden: &Hidden<'_>) -> bool {
    let decoded = percent_decode_str(value).decode_utf8_lossy();
    value.len() <= MAX_SHOWN_BYTES
        && !decoded.contains(['@', '=', '&'])
        && !hidden.values.iter().any(|secret| decoded.contains(secret))
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
    fn secrets_and_persons_are_masked() {
        let hidden = Hidden {
            name: "acme",
            names: vec!["goal"],
            values: vec!["s3cret"],
        };
        let of = |path, query| masked("GET", path, query, &hidden);
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
        // A `&` was lost; and what nobody would put there.
        assert_eq!(
            of(
                "/aff_lsr",
                "sum=1token=other&sum=1%3Dtoken&tid=%73%33cret&t=a-s3cret"
            ),
            "GET /aff_lsr?sum=***&sum=***&tid=***&t=***"
        );
    }
}
