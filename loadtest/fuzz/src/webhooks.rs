//! Webhooks of the KYC provider. Invariants: only signed messages are accepted, and rejections record nothing of
//! the message.

use crate::reports::{FUTURE, NOW, SIGN, check_rejection, hmac};
use domain::{KycStatus, TIERS};
use kyc_webhook::{Decision, Request, Scheme, Variables};

const SECONDS: u64 = NOW.0 / 1_000_000;

/// Time, signature and delivery in one line each, then the body.
pub(crate) fn webhook(bytes: &[u8]) {
    let keys = ["an older key of the service", "a newer key of the service"];
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || String::from_utf8_lossy(lines.next().unwrap_or(b"")).into_owned();
    let (time, mut signature, delivery) = (line(), line(), line());
    let body = lines.next().unwrap_or(b"");
    let sign = |key: &str| hmac(key, &[time.as_bytes(), b".", body]);
    let ours = signature == SIGN;
    if ours {
        signature = sign(keys[body.len() % 2]);
    }
    let header = |name: &str, value: &str| (format!("x-verifymy-{name}"), value.to_owned());
    let mut request = Request {
        method: "POST".into(),
        path: kyc_webhook::PATH.into(),
        headers: vec![header("signature", &signature), header("timestamp", &time)],
        body: body.into(),
        ..Request::default()
    };
    if !delivery.is_empty() {
        request.headers.push(header("delivery", &delivery));
    }
    let scheme = Scheme::read(Variables {
        keys: keys.join(","),
        signed: "{timestamp}.{body}".into(),
        window: "300".into(),
        signature_header: "x-verifymy-signature".into(),
        timestamp_header: "x-verifymy-timestamp".into(),
        delivery_header: "x-verifymy-delivery".into(),
    });
    let scheme = scheme.expect("it names keys and headers");
    let decision = kyc_webhook::decide(&request, Ok(&scheme), NOW);
    assert_eq!(decision, kyc_webhook::decide(&request, Ok(&scheme), NOW));
    match decision {
        Decision::Refuse(refused) => {
            check_rejection(&refused);
            let shown = format!("POST {}", kyc_webhook::PATH);
            assert_eq!(
                refused.rejection.request, shown,
                "nothing of the message is recorded"
            );
            assert!(!ours || refused.rejection.reason != 202, "it is signed");
        }
        Decision::Acknowledge(response) => {
            panic!("webhooks are never just acknowledged: {response}")
        }
        Decision::Accept(update, _) => {
            let signed = |key: &&str| signature.to_lowercase().contains(&sign(key));
            assert!(keys.iter().any(signed), "signed with neither key");
            let at: u64 = time.parse().expect("seconds");
            assert!(at.abs_diff(SECONDS) <= 300);
            let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
            let error: serde_json::Value = serde_json::from_slice(text).expect("JSON");
            assert_eq!(error["affiliate_id"], *update.affiliate);
            assert_eq!(error["status"], *update.status);
            assert_eq!(error["tier"], update.tier);
            assert!(error["id"].is_null() || error["id"] == *update.delivery);
            assert!(error["id"].is_string() || delivery == *update.delivery);
            assert!(KycStatus::from_name(&update.status).is_some());
            assert!(usize::from(update.tier) < TIERS.len());
            assert!(update.happened_micros <= NOW.0 + FUTURE);
            for text in [&update.affiliate, &update.delivery] {
                assert!((1..=128).contains(&text.len()) && !text.contains(char::is_control));
            }
            let at = body.len() / 2;
            request.body[at] ^= 1;
            let altered = kyc_webhook::decide(&request, Ok(&scheme), NOW);
            assert!(matches!(altered, Decision::Refuse(it) if it.rejection.reason == 202));
        }
    }
}

pub(crate) mod seeds {
    //! Webhooks with and without valid signatures.

    use super::SECONDS;

    pub(crate) fn webhook() -> Vec<Vec<u8>> {
        let body = |id: &str, more: &str| {
            format!(
                "{{{id}\"affiliate_id\":\"ann\",\"status\":\"approved\",\"tier\":2,\"occurred_at\":\"2026-11-18T03:00:00+02:00\"{more}}}"
            )
        };
        let seeds = [
            format!("{SECONDS}\nSIGN\n\n{}", body("\"id\":\"d-1\",", "")),
            format!(
                "{}\nSIGN\nd-2\n{}",
                SECONDS - 299,
                body("", ",\"extra\":{\"a\":[1]}")
            ),
            format!(
                "{}\nSIGN\nd-2\n{}",
                SECONDS + 301,
                body("\"id\":\"d-2\",", "")
            ),
            format!("{SECONDS}\nSIGN\nd-4\n{}", body("\"id\":\"d-5\",", "")),
            format!(
                "{SECONDS}\n{}\n\n{}",
                "00".repeat(32),
                body("\"id\":\"d-1\",", "")
            ),
            format!("{SECONDS}\nSIGN\n\n{{\"id\":\"x\",\"tier\":256}}"),
        ];
        seeds.map(String::into_bytes).into()
    }
}
