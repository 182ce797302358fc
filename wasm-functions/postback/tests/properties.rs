//! Properties for any input: nothing panics, and nothing altered is accepted.
#![allow(missing_docs)]

mod common;

use common::{click, decide, get, hmac};
use postback::{Decision, Request};
use proptest::prelude::*;

/// `text` with one of its characters replaced.
fn altered(text: &str, at: usize, by: char) -> String {
    let at = at % text.len();
    let each = text.chars().enumerate();
    each.map(|(number, c)| if number == at { by } else { c })
        .collect()
}

fn is_refused(request: &Request) -> bool {
    matches!(decide(request), Decision::Refuse(_))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn altered_click_ids_are_rejected(at in 0_usize..36, by in "[A-Za-z0-9_-]") {
        let id = altered(&click(), at, by.chars().next().expect("one"));
        prop_assume!(id != click());
        let target = format!("/postback/voluum/v-secret-01234567?cid={id}");
        prop_assert!(is_refused(&get(&target)));
    }

    #[test]
    fn other_secrets_are_rejected(secret in "[!-~]{0,24}") {
        prop_assume!(secret != "v-secret-01234567");
        let escaped: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let in_path = format!("/postback/voluum/{escaped}?cid={}", click());
        let in_parameter = format!("/postback/generic?token={escaped}&click_id={}", click());
        prop_assert!(is_refused(&get(&in_path)));
        prop_assert!(is_refused(&get(&in_parameter)));
    }

    #[test]
    fn altered_signatures_are_rejected(at in 0_usize..64, by in "[0-9a-f]") {
        let query = format!("click_id={}&payout=5", click());
        let signature = hmac(query.as_bytes());
        let other = altered(&signature, at, by.chars().next().expect("one"));
        prop_assume!(other != signature);
        let target = format!("/postback/query?{query}&sig={other}");
        prop_assert!(is_refused(&get(&target)));
    }

    #[test]
    fn altered_queries_are_rejected(at in 0_usize..64, by in "[0-9a-z=.]") {
        let query = format!("click_id={}&payout=5&transaction_id=abc", click());
        let other = altered(&query, at, by.chars().next().expect("one"));
        prop_assume!(other != query);
        let target = format!("/postback/query?{other}&sig={}", hmac(query.as_bytes()));
        prop_assert!(is_refused(&get(&target)));
    }

    #[test]
    fn arbitrary_requests_get_short_responses(
        path in "(/postback/(generic|body)(/.{0,9})?|/.{0,20})",
        query in ".{0,200}",
        header in ".{0,40}",
        json in any::<bool>(),
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let kind = if json { "application/json" } else { "application/x-www-form-urlencoded" };
        let mut request = get(&format!("{path}?{query}"));
        request.method = "POST".into();
        request.headers = vec![("content-type".into(), kind.into()), ("x-signature".into(), header)];
        request.body = body;
        let Decision::Refuse(refused) = decide(&request) else {
            return Err(TestCaseError::fail("accepted without proof"));
        };
        prop_assert!(refused.body.len() <= 256);
        prop_assert!(refused.rejection.request.chars().count() <= 1_024);
        prop_assert!(!refused.rejection.request.contains(char::is_control));
    }

    #[test]
    fn accepted_values_are_within_limits(
        names in proptest::collection::vec(
            "(payout|txid|et|currency|cid|sub[0-9]|.{0,6})", 0..12,
        ),
        values in proptest::collection::vec("([0-9.]{0,20}|[A-Z]{3}|[{]?[a-z]{0,80}[}]?|.{0,90})", 12),
    ) {
        let pairs = names.iter().zip(&values).map(|(name, value)| format!("&{name}={value}"));
        let target = format!("/postback/voluum/v-secret-01234567?cid={}{}", click(), pairs.collect::<String>());
        if let Decision::Accept(conversion, _) = decide(&get(&target)) {
            prop_assert_eq!(&*conversion.click_id, click());
            prop_assert!((0..=1_000_000_000_000).contains(&conversion.payout_minor));
            prop_assert!(conversion.kind_name.len() <= 64 && conversion.transaction.len() <= 128);
            prop_assert_eq!(conversion.currency.len(), 3);
        }
    }

    #[test]
    fn amounts_are_exact(minor in 0_i64..=1_000_000_000_000) {
        let target = format!("/postback/voluum/v-secret-01234567?cid={}&payout={}.{:02}", click(), minor / 100, minor % 100);
        let Decision::Accept(conversion, _) = decide(&get(&target)) else {
            return Err(TestCaseError::fail("refused"));
        };
        prop_assert_eq!(conversion.payout_minor, minor);
    }
}
