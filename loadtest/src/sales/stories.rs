//! What advertisers and the identity service of the demo send, in order, and what each request must come
//! to. When and how often it is sent never belongs here.

use crate::clickhouse::Analyst;
use anyhow::Context as _;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::time::{SystemTime, UNIX_EPOCH};

/// Clicks that convert at most.
const CLICKS: usize = 400;
const KYC_KEY: &str = "demo key of the identity service";

/// How the demo's advertisers are known to edges.
pub(super) const ADVERTISERS: &str = r#"# Advertisers of the demo.
[plain-shop]
offers = ["boyfanz", "girlfanz", "elitetube", "fanzmeet"]
dialect = "generic"
currency = "USD"
auth = [{ secret_parameter = { name = "token", value = "demo-secret-of-plain" } }]

[voluum-shop]
links = "any"
dialect = "voluum"
currency = "EUR"
auth = [{ secret_path = "demo-secret-of-voluum" }]

[keitaro-shop]
links = "any"
dialect = "keitaro"
currency = "USD"
auth = [{ secret_path = "demo-secret-of-keitaro" }]
path_keys = ["demo-secret-of-keitaro"]

[tune-shop]
links = "any"
dialect = "tune"
currency = "USD"
auth = [{ addresses = ["127.0.0.0/8"] }]
"#;

/// Variables of the demo's functions.
pub(super) fn variables() -> String {
    format!("kyc_keys = \"{KYC_KEY}\"\n")
}

/// What a request must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A conversion.
    New,
    /// One that changed.
    Revision,
    /// Nothing new.
    Repeat,
    /// A refusal by this number.
    Refused(u16),
    /// An identity check.
    Kyc,
}

/// A request with its answer.
#[derive(Debug, Clone)]
pub(super) struct Send {
    /// The whole address.
    pub(super) target: String,
    /// The body, of a webhook.
    body: Option<String>,
    /// The key that signs it.
    key: &'static str,
    pub(super) status: u16,
    /// What the answer begins with.
    pub(super) begins: String,
    pub(super) meaning: Meaning,
}

/// What is sent to one edge one after another.
pub(super) type Story = Vec<Send>;

/// One story for each click that converts, and one for each affiliate.
pub(super) fn all(
    analyst: &Analyst,
    run: &str,
    edges: &[String],
    affiliates: &[String],
) -> anyhow::Result<Vec<Story>> {
    let sql = format!(
        "SELECT id FROM clicks WHERE source = '{run}' AND counted ORDER BY cityHash64(id) LIMIT {CLICKS}"
    );
    let clicks = analyst.query(&sql)?;
    let mut stories = Vec::new();
    for (number, affiliate) in affiliates.iter().enumerate() {
        stories.push(identity(&edges[number % edges.len()], number, affiliate));
    }
    for (number, row) in clicks.rows.iter().enumerate() {
        let id = row.first().context("an id")?;
        stories.push(one_click(&edges[number % edges.len()], number, id));
    }
    Ok(stories)
}

fn one_click(edge: &str, number: usize, id: &str) -> Story {
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
    let answer = if number % 4 == 3 {
        "success=true;"
    } else {
        "OK"
    };
    let taken = |target: &str, meaning| Send::get(target.into(), 200, answer.into(), meaning);
    let refused = |target: String, status, number: u16| {
        Send::get(
            target,
            status,
            format!("refused: {number} "),
            Meaning::Refused(number),
        )
    };
    let mut story = vec![taken(&target, Meaning::New)];
    if number.is_multiple_of(5) {
        story.push(taken(&target, Meaning::Repeat));
    }
    if number.is_multiple_of(8) {
        let revised = target.replace("status=pending", "status=approved");
        story.push(taken(&revised, Meaning::Revision));
    }
    if number.is_multiple_of(9) {
        let last = if id.ends_with('A') { 'B' } else { 'A' };
        let forged = format!("{}{last}", &id[..id.len() - 1]);
        story.push(refused(plain.replace(id, &forged), 403, 106));
    }
    if number.is_multiple_of(11) {
        story.push(refused(
            plain.replace("demo-secret-of-plain", "demo-plaim"),
            403,
            103,
        ));
    }
    if number.is_multiple_of(13) {
        story.push(refused(format!("{plain}&payout=%7Bpayout%7D"), 400, 112));
    }
    if number.is_multiple_of(17) {
        story.push(refused(format!("{plain}&currency=XXQ"), 400, 108));
    }
    story
}

fn identity(edge: &str, number: usize, affiliate: &str) -> Story {
    let tier = number % 4;
    let body = format!(
        "{{\"id\":\"check-{number}\",\"affiliate_id\":\"{affiliate}\",\"status\":\"approved\",\
         \"tier\":{tier},\"occurred_at\":\"2026-01-01T00:00:{:02}Z\"}}",
        number % 60
    );
    let checked = Send {
        target: format!("{edge}/api/webhooks/kyc/verifymy"),
        body: Some(body),
        key: KYC_KEY,
        status: 200,
        begins: "OK".into(),
        meaning: Meaning::Kyc,
    };
    let mut story = vec![checked.clone()];
    if number == 0 {
        story.push(Send {
            key: "another key, of somebody else",
            status: 403,
            begins: "refused: 202 ".into(),
            meaning: Meaning::Refused(202),
            ..checked
        });
    }
    story
}

impl Send {
    const fn get(target: String, status: u16, begins: String, meaning: Meaning) -> Self {
        Self {
            target,
            body: None,
            key: "",
            status,
            begins,
            meaning,
        }
    }

    /// Sends it, signed as of now; status and text of the answer.
    pub(super) fn once(&self, agent: &ureq::Agent) -> anyhow::Result<(u16, String)> {
        let mut answer = match &self.body {
            None => agent.get(&self.target).call()?,
            Some(body) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                let mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes())?;
                let mac = mac.chain_update(format!("{now}.{body}")).finalize();
                agent
                    .post(&self.target)
                    .header("x-verifymy-signature", HEXLOWER.encode(&mac.into_bytes()))
                    .header("x-verifymy-timestamp", now.to_string())
                    .send(body.as_bytes())?
            }
        };
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }
}
