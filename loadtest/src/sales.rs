//! Sales of the demo: advertisers' postbacks in several dialects for a share of the clicks, with repeats,
//! revisions and forgeries among them, identity webhooks, and whether the tables hold just that.

use crate::clickhouse::{Analyst, Answer};
use anyhow::{Context as _, bail, ensure};
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clicks that convert at most.
const CLICKS: usize = 400;
const KYC_KEY: &str = "demo key of the identity service";

/// How the demo's advertisers are known to edges.
pub(crate) const ADVERTISERS: &str = r#"# Advertisers of the demo.
[plain-shop]
dialect = "generic"
currency = "USD"
auth = [{ secret_parameter = { name = "token", value = "demo-plain" } }]

[voluum-shop]
dialect = "voluum"
currency = "EUR"
auth = [{ secret_in_path = "demo-voluum" }]

[keitaro-shop]
dialect = "keitaro"
currency = "USD"
auth = [{ secret_in_path = "demo-keitaro" }]
path_keys = ["demo-keitaro"]

[tune-shop]
dialect = "tune"
currency = "USD"
auth = [{ addresses = ["127.0.0.0/8"] }]
"#;

/// What was sent, or what is in the tables: both must be the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sales {
    /// Conversions, each once however often it was reported.
    pub conversions: u64,
    /// Reports that changed a conversion.
    pub revisions: u64,
    /// Reports that said nothing new.
    pub duplicates: u64,
    /// Reports that were refused.
    pub refused: u64,
    /// Identity checks taken.
    pub kyc_updates: u64,
}

/// Variables of the demo's functions.
pub(crate) fn variables() -> String {
    format!("kyc_keys = \"{KYC_KEY}\"\n")
}

/// Writes a file that nobody else can read.
///
/// # Errors
/// When it can't be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Reports sales for clicks of `run` and checks of `affiliates` at `edges`, and says what must come of it.
///
/// # Errors
/// When an answer is another than it should be.
pub fn report(
    analyst: &Analyst,
    run: &str,
    edges: &[String],
    affiliates: &[String],
) -> anyhow::Result<Sales> {
    let sql = format!(
        "SELECT id FROM clicks WHERE source = '{run}' AND counted ORDER BY cityHash64(id) LIMIT {CLICKS}"
    );
    let clicks = analyst.query(&sql)?;
    let mut sales = Sales::default();
    for (number, row) in clicks.rows.iter().enumerate() {
        let id = row.first().context("an id")?;
        let edge = &edges[number % edges.len()];
        one_click(edge, number, id, &mut sales)?;
    }
    for (number, affiliate) in affiliates.iter().enumerate() {
        let edge = &edges[number % edges.len()];
        identity(edge, number, affiliate, &mut sales)?;
    }
    Ok(sales)
}

fn one_click(edge: &str, number: usize, id: &str, sales: &mut Sales) -> anyhow::Result<()> {
    let price = format!("{}.{:02}", 5 + number % 40, number % 100);
    let plain = format!("{edge}/postback/plain-shop?token=demo-plain&click_id={id}");
    let target = match number % 4 {
        0 => format!("{plain}&transaction_id=p{number}&payout={price}&status=pending&event=lead"),
        1 => format!(
            "{edge}/postback/voluum-shop/demo-voluum?cid={id}&payout={price}&txid=v{number}"
        ),
        2 => format!(
            "{edge}/demo-keitaro/postback?subid={id}&status=sale&payout={price}&tid=k{number}"
        ),
        _ => format!("{edge}/aff_lsr?adv=tune-shop&transaction_id={id}&amount={price}"),
    };
    expect(
        &target,
        200,
        if number % 4 == 3 {
            "success=true;"
        } else {
            "OK"
        },
    )?;
    sales.conversions += 1;
    if number.is_multiple_of(5) {
        expect(&target, 200, "")?;
        sales.duplicates += 1;
    }
    if number.is_multiple_of(8) {
        expect(
            &target.replace("status=pending", "status=approved"),
            200,
            "OK",
        )?;
        sales.revisions += 1;
    }
    if number.is_multiple_of(9) {
        let last = if id.ends_with('A') { 'B' } else { 'A' };
        let forged = format!("{}{last}", &id[..id.len() - 1]);
        expect(&plain.replace(id, &forged), 403, "refused: 106 ")?;
        sales.refused += 1;
    }
    if number.is_multiple_of(11) {
        expect(
            &plain.replace("demo-plain", "demo-plaim"),
            403,
            "refused: 103 ",
        )?;
        sales.refused += 1;
    }
    if number.is_multiple_of(13) {
        expect(
            &format!("{plain}&payout=%7Bpayout%7D"),
            400,
            "refused: 112 ",
        )?;
        sales.refused += 1;
    }
    if number.is_multiple_of(17) {
        expect(&format!("{plain}&currency=XXQ"), 400, "refused: 108 ")?;
        sales.refused += 1;
    }
    Ok(())
}

fn identity(edge: &str, number: usize, affiliate: &str, sales: &mut Sales) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let tier = number % 4;
    let body = format!(
        "{{\"id\":\"check-{number}\",\"affiliate_id\":\"{affiliate}\",\"status\":\"approved\",\
         \"tier\":{tier},\"occurred_at\":\"2026-01-01T00:00:{:02}Z\"}}",
        number % 60
    );
    let sign = |key: &str| {
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
        let mac = mac.chain_update(format!("{now}.{body}"));
        anyhow::Ok(HEXLOWER.encode(&mac.finalize().into_bytes()))
    };
    let url = format!("{edge}/api/webhooks/kyc/verifymy");
    let post = |signature: String| {
        ureq::post(&url)
            .config()
            .http_status_as_error(false)
            .build()
            .header("x-verifymy-signature", signature)
            .header("x-verifymy-timestamp", now.to_string())
            .send(body.as_bytes())
    };
    let answer = post(sign(KYC_KEY)?)?;
    ensure!(
        answer.status() == 200,
        "a webhook was answered {}",
        answer.status()
    );
    sales.kyc_updates += 1;
    if number == 0 {
        let answer = post(sign("another key, of somebody else")?)?;
        ensure!(
            answer.status() == 403,
            "a forged webhook was answered {}",
            answer.status()
        );
        sales.refused += 1;
    }
    Ok(())
}

fn expect(target: &str, status: u16, begins: &str) -> anyhow::Result<()> {
    let request = ureq::get(target)
        .config()
        .http_status_as_error(false)
        .build();
    let mut answer = request.call().with_context(|| target.to_owned())?;
    let text = answer.body_mut().read_to_string()?;
    ensure!(
        answer.status() == status && text.starts_with(begins),
        "{target} was answered {} {text:?} instead of {status} {begins:?}",
        answer.status()
    );
    Ok(())
}

/// Waits until the tables hold what was `sent`, and says what they hold.
///
/// # Errors
/// When they hold something else after `within`.
pub fn arrived(analyst: &Analyst, sent: Sales, within: Duration) -> anyhow::Result<Sales> {
    let deadline = Instant::now() + within;
    loop {
        let found = found(analyst)?;
        if found == sent {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("sales were lost or doubled: sent {sent:?}, found {found:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn found(analyst: &Analyst) -> anyhow::Result<Sales> {
    let answer = analyst.query(
        "SELECT (SELECT count() FROM current_conversions), (SELECT countIf(revision > 1) FROM conversions), \
         (SELECT count() FROM conversion_repeats), (SELECT count() FROM rejections), \
         (SELECT countIf(outcome = 'applied') FROM kyc_events)",
    )?;
    let [conversions, revisions, duplicates, refused, kyc_updates] = numbers(&answer)?;
    Ok(Sales {
        conversions,
        revisions,
        duplicates,
        refused,
        kyc_updates,
    })
}

fn numbers<const N: usize>(answer: &Answer) -> anyhow::Result<[u64; N]> {
    let row = answer.rows.first().context("one row")?;
    let numbers: Result<Vec<u64>, _> = row.iter().map(|text| text.parse()).collect();
    numbers?
        .try_into()
        .ok()
        .context("as many columns as asked for")
}
