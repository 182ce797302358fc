//! The columns of evaluated reports: which table each report goes to, and its values.

use super::columns::Columns;
use super::native::NativeBlock;
use crate::report::{BAD_TRANSITION, LocatedEvent, Revision, TOO_MANY_REPORTS, Unchanged, Verdict};
use crate::unproven::Unproven;
use domain::{ConversionKind, ConversionStatus, Micros, Money};
use event_shipping::LaneKey;
use tracking_events::{Conversion, Event, KycUpdate, Rejection};

const TIME: &str = "DateTime64(6, 'UTC')";

/// Digits after the point of `payout`; no currency has more.
const DECIMALS: u32 = 4;

/// A row with the place of its event.
struct LocatedRow<T> {
    key: LaneKey,
    seq: u64,
    is: T,
}

/// A report of a conversion with the result of its evaluation: the conversion's new state, or the report's own.
struct EvaluatedConversion<'a, T> {
    report: &'a Conversion<'a>,
    kind: ConversionKind,
    kind_name: &'a str,
    transaction: &'a str,
    revision: u32,
    status: ConversionStatus,
    payout: Money,
    conclusion: &'a T,
}

struct Check<'a> {
    update: &'a KycUpdate<'a>,
    outcome: &'static str,
}

/// The rows of each table.
#[derive(Default)]
struct ReportRows<'a> {
    conversions: Vec<LocatedRow<EvaluatedConversion<'a, Revision>>>,
    repeats: Vec<LocatedRow<EvaluatedConversion<'a, Unchanged>>>,
    kyc: Vec<LocatedRow<Check<'a>>>,
    rejections: Vec<LocatedRow<Rejection<'a>>>,
}

/// The tables with rows of these reports, which the store of this epoch evaluated.
pub(crate) fn build(
    reports: &[LocatedEvent<'_>],
    verdicts: &[Verdict],
    epoch: u64,
) -> Vec<(&'static str, Columns)> {
    let mut rows = ReportRows::default();
    for (report, verdict) in reports.iter().zip(verdicts) {
        rows.add(report, verdict);
    }
    let tables = [
        ("conversions", written(revisions(epoch), &rows.conversions)),
        ("conversion_repeats", written(repeats(epoch), &rows.repeats)),
        ("kyc_events", written(checks(), &rows.kyc)),
        ("rejections", written(rejections(), &rows.rejections)),
    ];
    let filled = tables.into_iter();
    filled
        .filter_map(|(name, columns)| Some((name, columns?)))
        .collect()
}

/// The time of a report, in microseconds since 1970.
pub(crate) const fn time(report: &LocatedEvent<'_>) -> u64 {
    match &report.event {
        Event::Click(visit) | Event::Impression(visit) => visit.time.0,
        Event::Conversion(it) => it.time.0,
        Event::KycUpdate(it) => it.time.0,
        Event::Rejection(it) => it.time.0,
    }
}

impl<'a> ReportRows<'a> {
    fn add(&mut self, located: &'a LocatedEvent<'a>, verdict: &'a Verdict) {
        match &located.event {
            Event::Conversion(report) => self.sale(located, report, verdict),
            Event::KycUpdate(update) => {
                if let Verdict::Unproven(unproven) = verdict {
                    let party = (update.time, update.provider, [0; 16]);
                    self.rejections
                        .push(LocatedRow::new(located, set_aside(party, unproven)));
                    return;
                }
                let outcome = match verdict {
                    Verdict::Late => "late",
                    Verdict::Duplicate => "repeat",
                    _ => "applied",
                };
                self.kyc
                    .push(LocatedRow::new(located, Check { update, outcome }));
            }
            Event::Rejection(rejection) => {
                self.rejections
                    .push(LocatedRow::new(located, rejection.clone()));
            }
            Event::Click(_) | Event::Impression(_) => {}
        }
    }

    fn sale(
        &mut self,
        located: &'a LocatedEvent<'a>,
        report: &'a Conversion<'a>,
        verdict: &'a Verdict,
    ) {
        match verdict {
            Verdict::Revised(revisions) => {
                let rows = revisions
                    .iter()
                    .map(|it| EvaluatedConversion::revision(report, it));
                let rows = rows.map(|it| LocatedRow::new(located, it));
                self.conversions.extend(rows);
            }
            Verdict::Unchanged(unchanged) => {
                let row = EvaluatedConversion::unchanged(report, unchanged);
                self.repeats.push(LocatedRow::new(located, row));
            }
            Verdict::BadTransition(why) => {
                self.refuse(located, report, (BAD_TRANSITION, "bad_transition"), why)
            }
            Verdict::TooManyReports(why) => {
                self.refuse(located, report, (TOO_MANY_REPORTS, "too_many_reports"), why);
            }
            Verdict::Unproven(unproven) => {
                let party = (report.time, report.advertiser, report.address);
                self.rejections
                    .push(LocatedRow::new(located, set_aside(party, unproven)));
            }
            Verdict::Applied | Verdict::Late | Verdict::Duplicate | Verdict::Noted => {
                tracing::error!(
                    ?verdict,
                    "skipped a conversion whose verdict is for another kind of report"
                );
            }
        }
    }

    fn refuse(
        &mut self,
        located: &LocatedEvent<'_>,
        report: &'a Conversion<'a>,
        (reason, reason_name): (u16, &'a str),
        why: &'a str,
    ) {
        self.rejections.push(LocatedRow::new(
            located,
            Rejection {
                time: report.time,
                source: "store",
                party: report.advertiser,
                reason,
                reason_name,
                detail: why,
                // The edge accepted the report without knowledge of earlier ones.
                request: "",
                status: 0,
                address: report.address,
            },
        ));
    }
}

impl<'a> EvaluatedConversion<'a, Revision> {
    fn revision(report: &'a Conversion<'a>, revision: &'a Revision) -> Self {
        Self {
            report,
            kind: revision.kind,
            kind_name: &revision.kind_name,
            transaction: transaction(report, &revision.found_transaction),
            revision: revision.revision,
            status: revision.status,
            payout: revision.payout,
            conclusion: revision,
        }
    }
}

impl<'a> EvaluatedConversion<'a, Unchanged> {
    fn unchanged(report: &'a Conversion<'a>, unchanged: &'a Unchanged) -> Self {
        Self {
            report,
            kind: unchanged.kind,
            kind_name: &unchanged.kind_name,
            transaction: transaction(report, &unchanged.found_transaction),
            revision: unchanged.revision,
            status: unchanged.status,
            payout: unchanged.payout,
            conclusion: unchanged,
        }
    }
}

/// The transaction of the reported conversion.
fn transaction<'a>(report: &'a Conversion<'_>, found: &'a Option<String>) -> &'a str {
    found.as_deref().unwrap_or(report.transaction)
}

impl<T> LocatedRow<T> {
    const fn new(located: &LocatedEvent<'_>, is: T) -> Self {
        Self {
            key: located.key,
            seq: located.seq,
            is,
        }
    }
}

/// A report that an edge accepted, but that could not be verified again.
fn set_aside<'a>(
    (time, party, address): (Micros, &'a str, [u8; 16]),
    unproven: &'a Unproven,
) -> Rejection<'a> {
    Rejection {
        time,
        source: "verification",
        party,
        reason: unproven.reason.number(),
        reason_name: unproven.reason.name(),
        detail: &unproven.detail,
        request: "",
        status: 0,
        address,
    }
}

fn written<'r, T>(
    mut block: NativeBlock<'r, LocatedRow<T>>,
    rows: &'r [LocatedRow<T>],
) -> Option<Columns> {
    if rows.is_empty() {
        return None;
    }
    block.fixed("node", "UInt16", |row| row.key.node.to_le_bytes());
    block.fixed("lane", "UInt8", |row| row.key.lane.to_le_bytes());
    block.fixed("seq", "UInt64", |row| row.seq.to_le_bytes());
    block.fixed("journal", "UInt64", |row| row.key.journal.to_le_bytes());
    Some(Columns {
        rows: rows.len(),
        parts: block.write(rows),
    })
}

fn revisions<'r>(epoch: u64) -> NativeBlock<'r, LocatedRow<EvaluatedConversion<'r, Revision>>> {
    let mut block = sales(epoch);
    block.fixed(
        "state_time",
        TIME,
        |row: &LocatedRow<EvaluatedConversion<'_, Revision>>| {
            row.is.conclusion.state_time.0.to_le_bytes()
        },
    );
    block.fixed("refunded_minor", "Int64", |row| {
        row.is.conclusion.refunds.minor.to_le_bytes()
    });
    block.text("last_refund", |row| &row.is.conclusion.refunds.last);
    block.fixed("withdrawn", "Bool", |row| {
        [u8::from(row.is.conclusion.withdrawn)]
    });
    block
}

fn repeats<'r>(epoch: u64) -> NativeBlock<'r, LocatedRow<EvaluatedConversion<'r, Unchanged>>> {
    let mut block = sales(epoch);
    block.text(
        "outcome",
        |row: &LocatedRow<EvaluatedConversion<'_, Unchanged>>| {
            if row.is.conclusion.is_late {
                "late"
            } else {
                "repeat"
            }
        },
    );
    block
}

fn sales<'r, T>(epoch: u64) -> NativeBlock<'r, LocatedRow<EvaluatedConversion<'r, T>>> {
    let mut block = NativeBlock::new();
    block.fixed(
        "time",
        TIME,
        |row: &LocatedRow<EvaluatedConversion<'_, T>>| row.is.report.time.0.to_le_bytes(),
    );
    block.text("advertiser", |row| row.is.report.advertiser);
    block.made_text("click_id", |row| row.is.report.click.to_text());
    block.text("kind", |row| row.is.kind.as_str());
    block.text("kind_name", |row| row.is.kind_name);
    block.text("transaction", |row| row.is.transaction);
    block.fixed("epoch", "UInt64", move |_| epoch.to_le_bytes());
    block.fixed("revision", "UInt32", |row| row.is.revision.to_le_bytes());
    block.text("status", |row| row.is.status.as_str());
    block.fixed("payout_minor", "Int64", |row| {
        row.is.payout.minor.to_le_bytes()
    });
    block.text("currency", |row| row.is.payout.currency.code());
    block.fixed("payout", "Decimal(38, 4)", |row| {
        decimal(&row.is.payout).to_le_bytes()
    });
    block.text("payout_as_sent", |row| row.is.report.payout_as_sent);
    block.text("dialect", |row| row.is.report.dialect);
    block.fixed("ip", "IPv6", |row| row.is.report.address);
    block.fixed("link_id", "UInt32", |row| {
        row.is.report.click.parts().link.0.to_le_bytes()
    });
    block.fixed("click_time", "DateTime64(3, 'UTC')", |row| {
        row.is.report.click.parts().time.millis().to_le_bytes()
    });
    block.fixed("click_node", "UInt16", |row| {
        row.is.report.click.parts().node.0.to_le_bytes()
    });
    block
}

fn checks<'r>() -> NativeBlock<'r, LocatedRow<Check<'r>>> {
    let mut block = NativeBlock::new();
    block.fixed("time", TIME, |row: &LocatedRow<Check<'_>>| {
        row.is.update.time.0.to_le_bytes()
    });
    block.fixed("happened", TIME, |row| {
        row.is.update.happened.0.to_le_bytes()
    });
    block.text("provider", |row| row.is.update.provider);
    block.text("delivery", |row| row.is.update.delivery);
    block.text("affiliate", |row| row.is.update.affiliate);
    block.text("status", |row| row.is.update.status.as_str());
    block.fixed("tier", "UInt8", |row| row.is.update.tier.to_le_bytes());
    block.text("outcome", |row| row.is.outcome);
    block
}

fn rejections<'r>() -> NativeBlock<'r, LocatedRow<Rejection<'r>>> {
    let mut block = NativeBlock::new();
    block.fixed("time", TIME, |row: &LocatedRow<Rejection<'_>>| {
        row.is.time.0.to_le_bytes()
    });
    block.text("source", |row| row.is.source);
    block.text("party", |row| row.is.party);
    block.fixed("reason", "UInt16", |row| row.is.reason.to_le_bytes());
    block.text("reason_name", |row| row.is.reason_name);
    block.text("detail", |row| row.is.detail);
    block.text("request", |row| row.is.request);
    block.fixed("status", "UInt16", |row| row.is.status.to_le_bytes());
    block.fixed("ip", "IPv6", |row| row.is.address);
    block
}

/// A decimal amount, in ten-thousandths.
fn decimal(money: &Money) -> i128 {
    let digits = money.currency.digits();
    i128::from(money.minor) * 10_i128.pow(DECIMALS.saturating_sub(digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Currency;

    #[test]
    fn amounts_have_as_many_decimals_as_their_currency() {
        let of = |minor, currency: &[u8; 3]| {
            let currency = Currency(*currency);
            decimal(&Money { minor, currency })
        };
        assert_eq!(of(1999, b"USD"), 199_900);
        assert_eq!(of(-1999, b"JPY"), -19_990_000);
        assert_eq!(of(1999, b"KWD"), 19_990);
        assert_eq!(of(1999, b"CLF"), 1_999);
        assert_eq!(of(i64::MAX, b"EUR"), i128::from(i64::MAX) * 100);
    }
}
