//! What was answered, held against what the edge counted and what the tables hold: nothing that was taken
//! is missing, doubled or otherwise than it was said, and nothing else is there.

use super::judge::Account;
use super::senders;
use crate::clickhouse::Analyst;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What an edge counted, but for what it never did.
#[derive(Debug, Default)]
struct Counted(BTreeMap<String, u64>);

impl Counted {
    /// The counter of this name, by its labels.
    fn read(admin: &str, name: &str) -> anyhow::Result<Self> {
        let mut answer = ureq::get(format!("{admin}/metrics"))
            .call()
            .context("the edge's operators' port does not answer")?;
        let text = answer.body_mut().read_to_string()?;
        let read = |line: &str| {
            let rest = line.strip_prefix(name)?.strip_prefix('{')?;
            let (labels, value) = rest.split_once("} ")?;
            Some((labels.replace('"', ""), value.parse().ok()?))
        };
        let counted = text.lines().filter_map(read).filter(|it| it.1 > 0);
        Ok(Self(counted.collect()))
    }

    fn of(&self, labels: &str) -> u64 {
        self.0.get(labels).copied().unwrap_or(0)
    }
}

/// Holds the account against the edge's counters; what differs.
pub(super) fn against_counters(admin: &str, account: &Account) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let reports = Counted::read(admin, "edge_reports_total")?;
    let rejections = account.refused().range(100..300).map(|it| it.1).sum();
    for (kind, answered) in [
        ("conversion", account.conversions()),
        ("kyc_update", account.webhooks()),
        ("rejection", rejections),
    ] {
        let durable = reports.of(&format!("kind={kind},outcome=durable"));
        // Who was told to try again may have been written down all the same.
        if !(answered..=answered + account.again).contains(&durable) {
            faults.push(format!(
                "{answered} of kind {kind} were answered, {durable} counted"
            ));
        }
    }
    for (labels, count) in &reports.0 {
        let fine = ["outcome=durable", "outcome=not_durable"];
        if !fine.iter().any(|it| labels.ends_with(it)) {
            faults.push(format!(
                "{count} reports of functions were not taken: {labels}"
            ));
        }
    }
    let errors = Counted::read(admin, "function_errors_total")?;
    let mut failed = BTreeMap::<&str, u64>::new();
    for (labels, count) in &errors.0 {
        let reason = labels
            .rsplit_once("reason=")
            .map_or("", |(_, reason)| reason);
        *failed.entry(reason).or_default() += count;
    }
    let too_large = failed.remove("function_request_too_large").unwrap_or(0);
    let answered = account.refused().get(&306).copied().unwrap_or(0);
    if too_large != answered {
        faults.push(format!("{answered} were answered 306, {too_large} counted"));
    }
    let busy = failed.remove("function_busy").unwrap_or(0);
    let late = failed.remove("function_timed_out").unwrap_or(0);
    // Who sends what is no HTTP may be gone before there is an answer.
    failed.remove("function_client_gone");
    if busy + late > account.again || !failed.is_empty() {
        faults.push(format!(
            "functions failed: {failed:?}, busy {busy} times, late {late} times"
        ));
    }
    Ok(faults)
}

/// Waits until the tables hold as much as the edge has made durable, and holds them against what was answered;
/// what differs. More than was answered may be durable: a request that timed out may have been logged.
pub(super) fn against_tables(
    admin: &str,
    analyst: &Analyst,
    account: &Account,
    within: Duration,
) -> anyhow::Result<Vec<String>> {
    let reports = Counted::read(admin, "edge_reports_total")?.0;
    let durable = reports
        .iter()
        .filter(|it| it.0.ends_with("outcome=durable"));
    wait_for(analyst, durable.map(|it| it.1).sum(), within)?;
    let mut faults = conversions(analyst, account)?;
    faults.extend(deliveries(analyst, account)?);
    faults.extend(refusals(analyst, account)?);
    Ok(faults)
}

fn wait_for(analyst: &Analyst, expected: u64, within: Duration) -> anyhow::Result<()> {
    const ALL: &str = "SELECT (SELECT count() FROM conversions) + (SELECT count() FROM conversion_repeats) \
         + (SELECT count() FROM kyc_events) + (SELECT count() FROM rejections)";
    let deadline = Instant::now() + within;
    while number(analyst, ALL)? < expected && Instant::now() < deadline {
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn number(analyst: &Analyst, sql: &str) -> anyhow::Result<u64> {
    let answer = analyst.query(sql)?;
    let cell = answer.rows.first().and_then(|row| row.first());
    Ok(cell.context("a number")?.parse()?)
}

fn conversions(analyst: &Analyst, account: &Account) -> anyhow::Result<Vec<String>> {
    const SAME: &str = "payout_minor, currency, status, kind";
    let sql = format!(
        "SELECT transaction, count(), uniqExact({SAME}), any(payout_minor), any(currency), any(status), \
         any(kind) FROM (SELECT transaction, {SAME} FROM conversions UNION ALL \
         SELECT transaction, {SAME} FROM conversion_repeats) GROUP BY transaction"
    );
    let (mut faults, mut found, mut others) = (Vec::new(), 0, 0);
    for row in analyst.query(&sql)?.rows {
        let [transaction, count, different, minor, currency, status, kind] =
            <[String; 7]>::try_from(row).ok().context("seven columns")?;
        let count: u64 = count.parse()?;
        let Some((claim, taken)) = account.transactions.get(&transaction) else {
            others += count;
            continue;
        };
        found += 1;
        let said = [
            claim.minor.to_string(),
            claim.currency.into(),
            claim.status.into(),
            claim.kind.into(),
        ];
        let is = [minor, currency, status, kind];
        let times = (*taken..=taken + account.again).contains(&count);
        if is != said || different != "1" || !times {
            faults.push(format!(
                "transaction {transaction}: {said:?} was answered {taken} times; {is:?} is there \
                 {count} times, in {different} forms"
            ));
        }
    }
    if found != account.transactions.len() {
        let missing = account.transactions.len() - found;
        faults.push(format!(
            "{missing} conversions were answered and are in no table"
        ));
    }
    others += number(
        analyst,
        "SELECT count() FROM rejections WHERE source = 'store'",
    )?;
    if !(account.others..=account.others + account.again).contains(&others) {
        faults.push(format!(
            "{others} conversions are there that nobody made authentic, instead of {}",
            account.others
        ));
    }
    Ok(faults)
}

fn deliveries(analyst: &Analyst, account: &Account) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT delivery, count() FROM kyc_events GROUP BY delivery";
    let (mut faults, mut found) = (Vec::new(), 0);
    for row in analyst.query(sql)?.rows {
        let [delivery, count] = <[String; 2]>::try_from(row).ok().context("two columns")?;
        let taken = account.deliveries.get(&delivery).copied().unwrap_or(0);
        found += u64::from(taken > 0);
        if !(taken.max(1)..=taken + account.again).contains(&count.parse()?) {
            faults.push(format!(
                "delivery {delivery}: answered {taken} times, there {count} times"
            ));
        }
    }
    if found != account.deliveries.len() as u64 {
        faults.push(format!(
            "{found} of {} deliveries that were answered are there",
            account.deliveries.len()
        ));
    }
    Ok(faults)
}

fn refusals(analyst: &Analyst, account: &Account) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT reason, count() FROM rejections WHERE source != 'store' GROUP BY reason";
    let mut faults = Vec::new();
    let mut answered = account.refused();
    answered.retain(|number, _| (100..300).contains(number));
    for row in analyst.query(sql)?.rows {
        let [reason, count] = <[String; 2]>::try_from(row).ok().context("two columns")?;
        let (reason, count): (u16, u64) = (reason.parse()?, count.parse()?);
        let expected = answered.remove(&reason).unwrap_or(0);
        if !(expected..=expected + account.again).contains(&count) {
            faults.push(format!(
                "{expected} were refused by {reason}, {count} are in the table"
            ));
        }
    }
    for (reason, count) in answered {
        faults.push(format!(
            "{count} were refused by {reason}, none is in the table"
        ));
    }
    let secrets: Vec<String> = senders::secrets().map(|it| format!("'{it}'")).collect();
    let sql = format!(
        "SELECT count(), any(request) FROM rejections \
         WHERE multiSearchAny(concat(party, ' ', detail, ' ', request), [{}])",
        secrets.join(", ")
    );
    let row = analyst
        .query(&sql)?
        .rows
        .into_iter()
        .next()
        .context("a row")?;
    if row[0] != "0" {
        faults.push(format!(
            "{} refusals show a secret, such as {:?}",
            row[0], row[1]
        ));
    }
    Ok(faults)
}
