//! Compares the responses with the edge's counters and with the tables: every accepted report is stored once and
//! unaltered, and nothing else is stored.

use super::oracle::RunResults;
use super::senders;
use crate::clickhouse::Analyst;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A counter's values that are above zero, by labels.
#[derive(Debug, Default)]
struct CounterValues(BTreeMap<String, u64>);

impl CounterValues {
    /// Reads the counter of this name.
    fn read(admin: &str, name: &str) -> anyhow::Result<Self> {
        let mut response = ureq::get(format!("{admin}/metrics"))
            .call()
            .context("the edge's admin port does not respond")?;
        let text = response.body_mut().read_to_string()?;
        let read = |line: &str| {
            let rest = line.strip_prefix(name)?.strip_prefix('{')?;
            let (labels, value) = rest.split_once("} ")?;
            Some((labels.replace('"', ""), value.parse().ok()?))
        };
        let counted = text.lines().filter_map(read).filter(|it| it.1 > 0);
        Ok(Self(counted.collect()))
    }

    fn value(&self, labels: &str) -> u64 {
        self.0.get(labels).copied().unwrap_or(0)
    }
}

/// Compares the results with the edge's counters and returns the differences.
pub(super) fn compare_counters(admin: &str, results: &RunResults) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    let reports = CounterValues::read(admin, "edge_reports_total")?;
    let rejections = results.refused().range(100..300).map(|it| it.1).sum();
    for (kind, answered) in [
        ("conversion", results.conversions()),
        ("kyc_update", results.webhooks()),
        ("rejection", rejections),
    ] {
        let durable = reports.value(&format!("kind={kind},outcome=durable"));
        // A report that must be retried may already be durable.
        if !(answered..=answered + results.retries).contains(&durable) {
            faults.push(format!(
                "{answered} reports of kind {kind} were accepted, {durable} are counted as durable"
            ));
        }
    }
    for (labels, count) in &reports.0 {
        let fine = ["outcome=durable", "outcome=not_durable"];
        if !fine.iter().any(|it| labels.ends_with(it)) {
            faults.push(format!(
                "{count} reports of functions were not accepted: {labels}"
            ));
        }
    }
    let errors = CounterValues::read(admin, "function_errors_total")?;
    let mut failed = BTreeMap::<&str, u64>::new();
    for (labels, count) in &errors.0 {
        let reason = labels
            .rsplit_once("reason=")
            .map_or("", |(_, reason)| reason);
        *failed.entry(reason).or_default() += count;
    }
    let too_large = failed.remove("function_request_too_large").unwrap_or(0);
    let answered = results.refused().get(&306).copied().unwrap_or(0);
    if too_large != answered {
        faults.push(format!(
            "{answered} responses were 306, {too_large} are counted"
        ));
    }
    let busy = failed.remove("function_busy").unwrap_or(0);
    let late = failed.remove("function_timed_out").unwrap_or(0);
    // A client that sends bytes which are not HTTP may disconnect before the response.
    failed.remove("function_client_gone");
    if busy + late > results.retries || !failed.is_empty() {
        faults.push(format!(
            "functions failed: {failed:?}, busy {busy} times, timed out {late} times"
        ));
    }
    Ok(faults)
}

/// Waits until the tables hold as many events as the edge made durable, compares them with the results and returns
/// the differences. More events than accepted requests may be durable: a request that timed out may have been
/// logged.
pub(super) fn compare_tables(
    admin: &str,
    analyst: &Analyst,
    results: &RunResults,
    within: Duration,
) -> anyhow::Result<Vec<String>> {
    let reports = CounterValues::read(admin, "edge_reports_total")?.0;
    let durable = reports
        .iter()
        .filter(|it| it.0.ends_with("outcome=durable"));
    wait_for(analyst, durable.map(|it| it.1).sum(), within)?;
    let mut faults = compare_conversions(analyst, results)?;
    faults.extend(compare_deliveries(analyst, results)?);
    faults.extend(compare_rejections(analyst, results)?);
    Ok(faults)
}

fn wait_for(analyst: &Analyst, expected: u64, within: Duration) -> anyhow::Result<()> {
    const ALL: &str = "SELECT (SELECT count() FROM conversions) + (SELECT count() FROM conversion_repeats) \
         + (SELECT count() FROM kyc_events) + (SELECT count() FROM rejections)";
    let deadline = Instant::now() + within;
    while number(analyst, ALL)? < expected && Instant::now() < deadline {
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn number(analyst: &Analyst, sql: &str) -> anyhow::Result<u64> {
    let response = analyst.query(sql)?;
    let cell = response.rows.first().and_then(|row| row.first());
    Ok(cell.context("a number")?.parse()?)
}

fn compare_conversions(analyst: &Analyst, results: &RunResults) -> anyhow::Result<Vec<String>> {
    const COMPARED_COLUMNS: &str = "payout_minor, currency, status, kind";
    let sql = format!(
        "SELECT transaction, count(), uniqExact({COMPARED_COLUMNS}), any(payout_minor), any(currency), any(status), \
         any(kind) FROM (SELECT transaction, {COMPARED_COLUMNS} FROM conversions UNION ALL \
         SELECT transaction, {COMPARED_COLUMNS} FROM conversion_repeats) GROUP BY transaction"
    );
    let (mut faults, mut found, mut mutated) = (Vec::new(), 0, 0);
    for row in analyst.query(&sql)?.rows {
        let [transaction, count, different, minor, currency, status, kind] =
            <[String; 7]>::try_from(row).ok().context("seven columns")?;
        let count: u64 = count.parse()?;
        let Some((claim, accepted)) = results.transactions.get(&transaction) else {
            mutated += count;
            continue;
        };
        found += 1;
        let expected = [
            claim.minor.to_string(),
            claim.currency.into(),
            claim.status.into(),
            claim.kind.into(),
        ];
        let stored = [minor, currency, status, kind];
        let times = (*accepted..=accepted + results.retries).contains(&count);
        if stored != expected || different != "1" || !times {
            faults.push(format!(
                "transaction {transaction}: {expected:?} was accepted {accepted} times; {stored:?} is stored \
                 {count} times, in {different} forms"
            ));
        }
    }
    if found != results.transactions.len() {
        let missing = results.transactions.len() - found;
        faults.push(format!("{missing} accepted conversions are in no table"));
    }
    mutated += number(
        analyst,
        "SELECT count() FROM rejections WHERE source = 'store'",
    )?;
    if !(results.mutated..=results.mutated + results.retries).contains(&mutated) {
        faults.push(format!(
            "{mutated} conversions of randomly changed requests are stored; expected {}",
            results.mutated
        ));
    }
    Ok(faults)
}

fn compare_deliveries(analyst: &Analyst, results: &RunResults) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT delivery, count() FROM kyc_events GROUP BY delivery";
    let (mut faults, mut found) = (Vec::new(), 0);
    for row in analyst.query(sql)?.rows {
        let [delivery, count] = <[String; 2]>::try_from(row).ok().context("two columns")?;
        let accepted = results.deliveries.get(&delivery).copied().unwrap_or(0);
        found += u64::from(accepted > 0);
        if !(accepted.max(1)..=accepted + results.retries).contains(&count.parse()?) {
            faults.push(format!(
                "delivery {delivery}: accepted {accepted} times, stored {count} times"
            ));
        }
    }
    if found != results.deliveries.len() as u64 {
        faults.push(format!(
            "{found} of {} accepted deliveries are stored",
            results.deliveries.len()
        ));
    }
    Ok(faults)
}

fn compare_rejections(analyst: &Analyst, results: &RunResults) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT reason, count() FROM rejections WHERE source != 'store' GROUP BY reason";
    let mut faults = Vec::new();
    let mut answered = results.refused();
    answered.retain(|number, _| (100..300).contains(number));
    for row in analyst.query(sql)?.rows {
        let [reason, count] = <[String; 2]>::try_from(row).ok().context("two columns")?;
        let (reason, count): (u16, u64) = (reason.parse()?, count.parse()?);
        let expected = answered.remove(&reason).unwrap_or(0);
        if !(expected..=expected + results.retries).contains(&count) {
            faults.push(format!(
                "{expected} requests were rejected with {reason}, {count} are stored"
            ));
        }
    }
    for (reason, count) in answered {
        faults.push(format!(
            "{count} requests were rejected with {reason}, none is stored"
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
            "{} stored rejections contain a secret, such as {:?}",
            row[0], row[1]
        ));
    }
    Ok(faults)
}
