//! Requests of the demo's advertisers and KYC provider, in order, each with its expected outcome. Timing and
//! retries don't belong here.

use crate::clickhouse::Analyst;
use crate::function_files::{DEMO_KYC_KEY, signature};
use anyhow::Context as _;
use data_encoding::HEXLOWER;
use std::time::{SystemTime, UNIX_EPOCH};

/// Maximum number of clicks that convert.
const MAX_CONVERSIONS: usize = 400;

/// The expected outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedOutcome {
    /// A new conversion.
    New,
    /// A changed conversion.
    Revision,
    /// No change.
    Repeat,
    /// A rejection with this number.
    Rejected(u16),
    /// An accepted KYC check.
    Kyc,
}

/// A request with its expected response.
#[derive(Debug, Clone)]
pub(super) struct ScenarioRequest {
    /// The full URL.
    pub(super) target: String,
    /// The body of a webhook; postbacks have none.
    body: Option<String>,
    /// The key that signs the webhook.
    key: &'static str,
    pub(super) status: u16,
    /// The expected start of the response body.
    pub(super) body_prefix: String,
    pub(super) expected: ExpectedOutcome,
}

/// Requests that are sent to one edge in order.
pub(super) type RequestSequence = Vec<ScenarioRequest>;

/// One scenario per converting click and one per affiliate.
pub(super) fn all(
    analyst: &Analyst,
    run: &str,
    edges: &[String],
    affiliates: &[String],
) -> anyhow::Result<Vec<RequestSequence>> {
    let sql = format!(
        "SELECT id FROM clicks WHERE source = '{run}' AND counted ORDER BY cityHash64(id) LIMIT {MAX_CONVERSIONS}"
    );
    let clicks = analyst.query(&sql)?;
    let mut sequences = Vec::new();
    for (number, affiliate) in affiliates.iter().enumerate() {
        sequences.push(kyc_check_of(
            &edges[number % edges.len()],
            number,
            affiliate,
        ));
    }
    for (number, row) in clicks.rows.iter().enumerate() {
        let id = row.first().context("an id")?;
        sequences.push(sales_of(&edges[number % edges.len()], number, id));
    }
    Ok(sequences)
}

fn sales_of(edge: &str, number: usize, id: &str) -> RequestSequence {
    let price = format!("{}.{:02}", 5 + number % 40, number % 100);
    let plain = format!("{edge}/postback/plain-shop?token=demo-secret-of-plain&click_id={id}");
    let target = match number % 4 {
        0 => format!("{plain}&transaction_id=p{number}&payout={price}&status=pending&event=lead"),
        1 => format!(
            "{edge}/postback/voluum-shop/demo-secret-of-voluum?cid={id}&payout={price}&txid=v{number}"
        ),
        2 => format!(
            "{edge}/demo-secret-of-keitaro/postback?subid={id}&status=sale&payout={price}&tid=k{number}"
        ),
        _ => format!("{edge}/aff_lsr?adv=tune-shop&transaction_id={id}&amount={price}"),
    };
    let response = if number % 4 == 3 {
        "success=true;"
    } else {
        "OK"
    };
    let accepted = |target: &str, expected| {
        ScenarioRequest::get(target.into(), 200, response.into(), expected)
    };
    let rejected = |target: String, status, number: u16| {
        ScenarioRequest::get(
            target,
            status,
            format!("refused: {number} "),
            ExpectedOutcome::Rejected(number),
        )
    };
    let mut sequence = vec![accepted(&target, ExpectedOutcome::New)];
    if number.is_multiple_of(5) {
        sequence.push(accepted(&target, ExpectedOutcome::Repeat));
    }
    if number.is_multiple_of(8) {
        let revised = target.replace("status=pending", "status=approved");
        sequence.push(accepted(&revised, ExpectedOutcome::Revision));
    }
    if number.is_multiple_of(9) {
        let last = if id.ends_with('A') { 'B' } else { 'A' };
        let forged = format!("{}{last}", &id[..id.len() - 1]);
        sequence.push(rejected(plain.replace(id, &forged), 403, 106));
    }
    if number.is_multiple_of(11) {
        sequence.push(rejected(
            plain.replace("demo-secret-of-plain", "demo-plaim"),
            403,
            103,
        ));
    }
    if number.is_multiple_of(13) {
        sequence.push(rejected(format!("{plain}&payout=%7Bpayout%7D"), 400, 112));
    }
    if number.is_multiple_of(17) {
        sequence.push(rejected(format!("{plain}&currency=XXQ"), 400, 108));
    }
    sequence
}

fn kyc_check_of(edge: &str, number: usize, affiliate: &str) -> RequestSequence {
    let tier = number % 4;
    let body = format!(
        "{{\"id\":\"check-{number}\",\"affiliate_id\":\"{affiliate}\",\"status\":\"approved\",\
         \"tier\":{tier},\"occurred_at\":\"2026-01-01T00:00:{:02}Z\"}}",
        number % 60
    );
    let kyc_check = ScenarioRequest {
        target: format!("{edge}/api/webhooks/kyc/verifymy"),
        body: Some(body),
        key: DEMO_KYC_KEY,
        status: 200,
        body_prefix: "OK".into(),
        expected: ExpectedOutcome::Kyc,
    };
    let mut sequence = vec![kyc_check.clone()];
    if number == 0 {
        sequence.push(ScenarioRequest {
            key: "a key of another provider",
            status: 403,
            body_prefix: "refused: 202 ".into(),
            expected: ExpectedOutcome::Rejected(202),
            ..kyc_check
        });
    }
    sequence
}

impl ScenarioRequest {
    const fn get(
        target: String,
        status: u16,
        body_prefix: String,
        expected: ExpectedOutcome,
    ) -> Self {
        Self {
            target,
            body: None,
            key: "",
            status,
            body_prefix,
            expected,
        }
    }

    /// Signs the request with the current time and sends it; returns status and body of the response.
    pub(super) fn send(&self, agent: &ureq::Agent) -> anyhow::Result<(u16, String)> {
        let mut response = match &self.body {
            None => agent.get(&self.target).call()?,
            Some(body) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                let digest = signature(self.key, &format!("{now}.{body}"));
                agent
                    .post(&self.target)
                    .header("x-verifymy-signature", HEXLOWER.encode(&digest))
                    .header("x-verifymy-timestamp", now.to_string())
                    .send(body.as_bytes())?
            }
        };
        let text = response.body_mut().read_to_string()?;
        Ok((response.status().as_u16(), text))
    }
}
