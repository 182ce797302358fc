//! Sales reported by several simulated edges, and a model of the resulting conversions. The model follows the rules
//! of `docs/reliability.md`; it knows every report and sorts them by time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use domain::{
    ConversionKind, ConversionStatus, Currency, LaneId, LinkId, Micros, Money, NodeId, Seq,
};
use tokio::runtime::Runtime;
use tracking_events::{ClickId, ClickIdParts, Conversion, Event, KeyId, KeyRing, MacKey, Stated};

use super::reporter::Reporter;
use super::{EFFECT_TIMEOUT, Fleet, holds_within};
use crate::chaos::counts::FaultCounts;
use crate::clickhouse::Analyst;
use crate::traffic::Random;

const ADVERTISER: &str = "chaos";
/// Node numbers of the simulated edges; none belongs to the stack.
const NODES: [u16; 3] = [11, 12, 13];
const OPEN_SALES: u64 = 40;
/// Maximum number of reports per sale in one set.
const MAX_REPORTS: u64 = 6;
/// Time between two sets of reports; the reports of one set lie within it.
const SET_INTERVAL_MICROS: u64 = 30_000_000;
/// Age of the first reports, large enough that no report lies in the future.
const FIRST_REPORT_AGE: Duration = Duration::from_secs(2 * 86_400);

/// The part of a report that the model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SimulatedReport {
    // The order of reports: by these fields, in this order. Each node has one journal and one lane.
    time: u64,
    node: u16,
    number: u64,
    status: Status,
    /// The stated amount, if any.
    minor: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Pending,
    Hold,
    Approved,
    Rejected,
    Chargeback,
}

impl Status {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::Hold,
        Self::Approved,
        Self::Rejected,
        Self::Chargeback,
    ];

    /// The allowed following statuses.
    const fn next(self) -> &'static [Self] {
        match self {
            Self::Pending | Self::Hold => &Self::ALL,
            Self::Approved => &[Self::Hold, Self::Approved, Self::Rejected, Self::Chargeback],
            Self::Rejected => &[Self::Hold, Self::Approved, Self::Rejected],
            Self::Chargeback => &[Self::Chargeback],
        }
    }

    const fn reported(self) -> ConversionStatus {
        match self {
            Self::Pending => ConversionStatus::Pending,
            Self::Hold => ConversionStatus::Hold,
            Self::Approved => ConversionStatus::Approved,
            Self::Rejected => ConversionStatus::Rejected,
            Self::Chargeback => ConversionStatus::Chargeback,
        }
    }
}

/// The state of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ConversionState {
    status: Status,
    minor: i64,
    /// The part of the reported amount that refunds have taken back.
    refunded: i64,
    /// The amount of the last refund.
    last_refund: Option<i64>,
}

impl ConversionState {
    const fn first(report: SimulatedReport) -> Self {
        Self {
            status: report.status,
            minor: match report.minor {
                Some(minor) => minor,
                None => 0,
            },
            refunded: 0,
            last_refund: None,
        }
    }

    fn after(self, report: SimulatedReport) -> Self {
        let changed = match (report.status, report.minor) {
            (Status::Chargeback, amount) => self.refund(amount.filter(|minor| *minor > 0)),
            (status, Some(minor)) => Self {
                status,
                minor: (minor - self.refunded).max(0),
                ..self
            },
            (status, None) => Self { status, ..self },
        };
        if self.status.next().contains(&report.status) {
            changed
        } else {
            self
        }
    }

    /// A partial refund keeps the status; the same amount again is a repeat of the same refund.
    const fn refund(self, amount: Option<i64>) -> Self {
        match (amount, self.last_refund) {
            (Some(amount), Some(last)) if amount == last => self,
            _ if matches!(self.status, Status::Chargeback) => self,
            (Some(amount), _) if amount < self.minor => Self {
                minor: self.minor - amount,
                refunded: self.refunded + amount,
                last_refund: Some(amount),
                ..self
            },
            (amount, last) => Self {
                status: Status::Chargeback,
                last_refund: if amount.is_some() { amount } else { last },
                ..self
            },
        }
    }
}

/// The state of a conversion after `reports`, in any order.
fn expected_state(reports: &[SimulatedReport]) -> Option<(Status, i64)> {
    let mut sorted = reports.to_vec();
    sorted.sort_unstable();
    let (first, later) = sorted.split_first()?;
    let state = later
        .iter()
        .fold(ConversionState::first(*first), |state, report| {
            state.after(*report)
        });
    Some((state.status, state.minor))
}

/// All reports so far, and the edges that send them.
pub(in crate::chaos) struct SimulatedSales {
    runtime: Runtime,
    reporters: Vec<Reporter>,
    keys: KeyRing,
    /// Shipped reports by transaction.
    shipped: BTreeMap<String, Vec<SimulatedReport>>,
    /// Reports in each edge's journal that are not shipped yet.
    pending: Vec<Vec<(String, SimulatedReport)>>,
    /// Sales that further reports refer to.
    open: Vec<(String, ClickId)>,
    /// Time of the current set of reports.
    time: u64,
    /// Counter of sales and reports.
    number: u64,
}

impl SimulatedSales {
    pub(in crate::chaos) fn new(dir: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let reporters = NODES
            .into_iter()
            .map(|node| Reporter::open(dir, node, address));
        let id = KeyId::new(0)?;
        Ok(Self {
            runtime: Runtime::new()?,
            reporters: reporters.collect::<anyhow::Result<_>>()?,
            keys: KeyRing::new(id, [(id, MacKey::new([5; 32]))])?,
            shipped: BTreeMap::new(),
            pending: vec![Vec::new(); NODES.len()],
            open: Vec::new(),
            time: Micros::now().0 - FIRST_REPORT_AGE.as_micros() as u64,
            number: 0,
        })
    }

    /// Starts new sales; further reports refer to them.
    pub(super) fn start_sales(&mut self) {
        self.open = (0..OPEN_SALES).map(|_| self.sale()).collect();
    }

    fn sale(&mut self) -> (String, ClickId) {
        self.number += 1;
        let click = self.keys.sign(ClickIdParts {
            time: Micros(self.time),
            node: NodeId(NODES[0]),
            lane: LaneId(0),
            seq: Seq(self.number),
            link: LinkId(7),
        });
        (format!("sale-{}", self.number), click)
    }

    /// Edges accept reports of the open sales, later than all before. None is shipped yet.
    pub(super) fn accept(&mut self, random: &mut Random) -> anyhow::Result<()> {
        self.time += SET_INTERVAL_MICROS;
        let mut accepted = Vec::new();
        for (sale, _) in self.open.iter().enumerate() {
            for _ in 0..=random.below(MAX_REPORTS) {
                let minor = (random.below(2) == 0).then(|| random.below(100_000) as i64);
                let status = Status::ALL[random.below(Status::ALL.len() as u64) as usize];
                self.number += 1;
                accepted.push((
                    SimulatedReport {
                        // Few distinct times, so that some are equal.
                        time: self.time + random.below(20) * 1_000_000,
                        node: NODES[random.below(NODES.len() as u64) as usize],
                        number: self.number,
                        status,
                        minor,
                    },
                    sale,
                ));
            }
        }
        // An edge gives later reports higher sequences.
        accepted.sort_unstable();
        for (report, sale) in accepted {
            let (transaction, click) = &self.open[sale];
            let event = event(&report, transaction, *click);
            for (reporter, pending) in self.reporters.iter_mut().zip(&mut self.pending) {
                if reporter.node == report.node {
                    reporter.append(&event)?;
                    pending.push((transaction.clone(), report));
                }
            }
        }
        Ok(())
    }

    /// One edge ships its pending reports.
    pub(super) fn ship(&mut self, edge: usize) -> anyhow::Result<()> {
        self.runtime.block_on(self.reporters[edge].ship())?;
        for (transaction, report) in self.pending[edge].drain(..) {
            self.shipped.entry(transaction).or_default().push(report);
        }
        Ok(())
    }

    /// Accepts reports and ships them.
    pub(super) fn report(&mut self, random: &mut Random) -> anyhow::Result<()> {
        self.accept(random)?;
        (0..NODES.len()).try_for_each(|edge| self.ship(edge))
    }

    /// Waits until ClickHouse has everything shipped. Returns the number of conversions in a wrong state, of
    /// reports without a row and of duplicate revisions.
    pub(in crate::chaos) fn compare(&self, analyst: &Analyst) -> anyhow::Result<u64> {
        let mut found = Ok((0, Vec::new()));
        holds_within(EFFECT_TIMEOUT, || {
            found = self.contradicted(analyst);
            Ok(matches!(found, Ok((0, _))))
        });
        let (wrong, contradictions) = found?;
        for contradiction in contradictions {
            eprintln!("{contradiction}");
        }
        Ok(wrong)
    }

    /// Their number, and descriptions of the wrong conversions.
    fn contradicted(&self, analyst: &Analyst) -> anyhow::Result<(u64, Vec<String>)> {
        let sql = format!(
            "SELECT transaction, concat(status, ' ', toString(payout_minor)) FROM current_conversions \
             WHERE advertiser = '{ADVERTISER}'"
        );
        let rows = analyst.query(&sql)?.rows;
        let found: BTreeMap<&str, &str> = rows
            .iter()
            .filter_map(|row| Some((row.first()?.as_str(), row.get(1)?.as_str())))
            .collect();
        let mut contradictions = Vec::new();
        let mut wrong = rows.len().abs_diff(found.len()) as u64;
        for (transaction, reports) in &self.shipped {
            let (status, minor) = expected_state(reports).context("a sale has reports")?;
            let expected = format!("{} {minor}", status.reported().as_str());
            let found = found.get(transaction.as_str());
            if found != Some(&expected.as_str()) {
                contradictions.push(format!(
                    "{transaction} is {found:?} instead of {expected:?} after {reports:?}"
                ));
            }
        }
        wrong += (found.len() as u64).saturating_sub(self.shipped.len() as u64);
        let reports: usize = self.shipped.values().map(Vec::len).sum();
        wrong += contradictions.len() as u64;
        Ok((
            wrong + (reports as u64).abs_diff(rows_of_reports(analyst)?) + duplicate_rows(analyst)?,
            contradictions,
        ))
    }
}

/// Distinct reports that have a row.
fn rows_of_reports(analyst: &Analyst) -> anyhow::Result<u64> {
    let nodes = NODES.map(|node| node.to_string()).join(", ");
    let of = |table: &str| {
        format!("SELECT DISTINCT node, journal, seq FROM {table} WHERE node IN ({nodes})")
    };
    number(
        analyst,
        &format!(
            "SELECT count() FROM ({} UNION DISTINCT {} UNION DISTINCT {})",
            of("conversions"),
            of("conversion_repeats"),
            of("rejections")
        ),
    )
}

/// Rows beyond the first of a revision, and of a repeated or rejected report.
fn duplicate_rows(analyst: &Analyst) -> anyhow::Result<u64> {
    let of = |table: &str, columns: &str| {
        format!("(SELECT count() - uniqExact({columns}) FROM {table})")
    };
    let position = "node, journal, lane, seq";
    number(
        analyst,
        &format!(
            "SELECT {} + {} + {}",
            of("conversions", "transaction, kind, epoch, revision"),
            of("conversion_repeats", position),
            of("rejections", position)
        ),
    )
}

fn number(analyst: &Analyst, sql: &str) -> anyhow::Result<u64> {
    let response = analyst.query(sql)?;
    let text = response.rows.first().and_then(|row| row.first());
    Ok(text.context("a number")?.parse()?)
}

fn event<'a>(report: &SimulatedReport, transaction: &'a str, click: ClickId) -> Event<'a> {
    let mut stated = Stated(Stated::KIND.0 | Stated::STATUS.0);
    if report.minor.is_some() {
        stated.insert(Stated::PAYOUT);
        stated.insert(Stated::CURRENCY);
    }
    Event::Conversion(Conversion {
        time: Micros(report.time),
        advertiser: ADVERTISER,
        click,
        kind: ConversionKind::Sale,
        kind_name: "order",
        transaction,
        status: report.status.reported(),
        payout: Money {
            minor: report.minor.unwrap_or(0),
            currency: Currency(*b"EUR"),
        },
        dialect: "generic",
        address: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        stated,
        signed: None,
        payout_as_sent: "",
    })
}

impl Fleet<'_> {
    /// Several edges report the same sales; one is cut off and ships last. After each shipment the conversions must
    /// match all reports that have arrived.
    pub(super) fn report_late(&mut self, random: &mut Random) -> anyhow::Result<FaultCounts> {
        let analyst = self.analyst()?;
        let sales = self.sales.as_deref_mut().context("sales are simulated")?;
        sales.start_sales();
        sales.accept(random)?;
        let first = random.below(NODES.len() as u64) as usize;
        let mut counts = FaultCounts::default();
        for turn in 0..NODES.len() {
            sales.ship((first + turn) % NODES.len())?;
            counts.contradicted += sales.compare(&analyst)?;
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_sorts_reports_and_keeps_amounts() {
        let report = |time, status, minor| SimulatedReport {
            time,
            node: NODES[0],
            number: time,
            status,
            minor,
        };
        let reports = [
            report(4, Status::Pending, Some(9)),
            report(3, Status::Approved, None),
            report(1, Status::Pending, Some(1_000)),
            report(2, Status::Rejected, None),
        ];
        assert_eq!(expected_state(&reports), Some((Status::Approved, 1_000)));
        assert_eq!(expected_state(&reports[..1]), Some((Status::Pending, 9)));
        assert_eq!(expected_state(&[]), None);
    }

    #[test]
    fn model_subtracts_refunds() {
        let after = |reports: &[(Status, Option<i64>)]| {
            let numbered = (1..).zip(reports);
            let each = numbered.map(|(time, (status, minor))| SimulatedReport {
                time,
                node: NODES[0],
                number: time,
                status: *status,
                minor: *minor,
            });
            expected_state(&each.collect::<Vec<_>>())
        };
        let (sale, back) = ((Status::Approved, Some(1_000)), Status::Chargeback);
        for (reports, expected) in [
            (&[sale, (back, Some(300))][..], (Status::Approved, 700)),
            (
                &[sale, (back, Some(300)), (back, Some(300))],
                (Status::Approved, 700),
            ),
            (&[sale, (back, Some(300)), sale], (Status::Approved, 700)),
            (&[sale, (back, Some(300)), (back, Some(700))], (back, 700)),
            (&[sale, (back, None)], (back, 1_000)),
            (
                &[(Status::Rejected, Some(1_000)), (back, Some(300))],
                (Status::Rejected, 1_000),
            ),
        ] {
            assert_eq!(after(reports), Some(expected), "{reports:?}");
        }
    }
}
