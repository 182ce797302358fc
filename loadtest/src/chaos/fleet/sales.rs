//! Sales that several simulated edges report, and how their conversions must stand: a model of its own, by the rules
//! of `docs/reliability.md`, that knows every report and sorts them by time.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tracking_events::{
    ClickId, ClickIdParts, Conversion, ConversionKind, ConversionStatus, Event, KeyId, KeyRing,
    LaneId, LinkId, MacKey, Micros, Money, NodeId, Seq, Stated,
};

use super::reporter::Reporter;
use super::{Fleet, SHOWN_WITHIN, shown_within};
use crate::chaos::toll::Toll;
use crate::clickhouse::Analyst;
use crate::traffic::Random;

const ADVERTISER: &str = "chaos";
/// Simulated edges; none of the stack's own.
const NODES: [u16; 3] = [11, 12, 13];
const SALES_AT_ONCE: u64 = 40;
/// Reports of one sale at once, at most.
const MAX_REPORTS: u64 = 6;
/// From one set of reports to the next; those of one set lie within it.
const SET_MICROS: u64 = 30_000_000;
/// So far back the first reports lie: far enough that none lies ahead of now.
const FIRST_BEFORE: Duration = Duration::from_secs(2 * 86_400);

/// A report, as far as the model needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Report {
    // Sorted by these, in this order: each node has one journal and one lane.
    time: u64,
    node: u16,
    number: u64,
    status: Status,
    /// What it states, if it states an amount.
    minor: Option<i64>,
}

/// The model's own statuses.
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

    /// The statuses that may follow.
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

/// How a conversion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    status: Status,
    minor: i64,
    /// What refunds have taken back of the amount that was reported.
    refunded: i64,
    /// The amount of the last refund.
    last_refund: Option<i64>,
}

impl Standing {
    const fn first(report: Report) -> Self {
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

    fn after(self, report: Report) -> Self {
        let changed = match (report.status, report.minor) {
            (Status::Chargeback, amount) => self.taken_back(amount.filter(|minor| *minor > 0)),
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

    /// A part leaves the rest as it stands; the same refund again is its repetition.
    const fn taken_back(self, amount: Option<i64>) -> Self {
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

/// How a conversion stands after `reports`, in whatever order they are.
fn fold(reports: &[Report]) -> Option<(Status, i64)> {
    let mut sorted = reports.to_vec();
    sorted.sort_unstable();
    let (first, later) = sorted.split_first()?;
    let standing = later
        .iter()
        .fold(Standing::first(*first), |standing, report| {
            standing.after(*report)
        });
    Some((standing.status, standing.minor))
}

/// Everything reported so far, and the edges that report.
pub(in crate::chaos) struct Sales {
    runtime: Runtime,
    reporters: Vec<Reporter>,
    keys: KeyRing,
    /// What was shipped, by transaction.
    shipped: BTreeMap<String, Vec<Report>>,
    /// What waits at each reporter.
    waiting: Vec<Vec<(String, Report)>>,
    /// Sales that further reports are about.
    open: Vec<(String, ClickId)>,
    /// Before the next set of reports.
    time: u64,
    /// Numbers sales and reports.
    number: u64,
}

impl Sales {
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
            waiting: vec![Vec::new(); NODES.len()],
            open: Vec::new(),
            time: Micros::now().0 - FIRST_BEFORE.as_micros() as u64,
            number: 0,
        })
    }

    /// From now on reports are about new sales.
    pub(super) fn begin(&mut self) {
        self.open = (0..SALES_AT_ONCE).map(|_| self.sale()).collect();
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

    /// Edges accept reports of the open sales, later than all before; none is shipped yet.
    pub(super) fn accept(&mut self, random: &mut Random) -> anyhow::Result<()> {
        self.time += SET_MICROS;
        let mut accepted = Vec::new();
        for (sale, _) in self.open.iter().enumerate() {
            for _ in 0..=random.below(MAX_REPORTS) {
                let minor = (random.below(2) == 0).then(|| random.below(100_000) as i64);
                let status = Status::ALL[random.below(Status::ALL.len() as u64) as usize];
                self.number += 1;
                accepted.push((
                    Report {
                        // Few moments, so that some are equal.
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
        // An edge accepts what comes later under a higher sequence.
        accepted.sort_unstable();
        for (report, sale) in accepted {
            let (transaction, click) = &self.open[sale];
            let event = event(&report, transaction, *click);
            for (reporter, waiting) in self.reporters.iter_mut().zip(&mut self.waiting) {
                if reporter.node == report.node {
                    reporter.append(&event)?;
                    waiting.push((transaction.clone(), report));
                }
            }
        }
        Ok(())
    }

    /// One edge ships what it has.
    pub(super) fn ship(&mut self, edge: usize) -> anyhow::Result<()> {
        self.runtime.block_on(self.reporters[edge].ship())?;
        for (transaction, report) in self.waiting[edge].drain(..) {
            self.shipped.entry(transaction).or_default().push(report);
        }
        Ok(())
    }

    /// Reports are accepted and shipped.
    pub(super) fn report(&mut self, random: &mut Random) -> anyhow::Result<()> {
        self.accept(random)?;
        (0..NODES.len()).try_for_each(|edge| self.ship(edge))
    }

    /// Waits until ClickHouse has what was shipped; how many conversions stand otherwise than they must, and reports
    /// without a row or revisions that are there twice.
    pub(in crate::chaos) fn compare(&self, analyst: &Analyst) -> anyhow::Result<u64> {
        let mut found = Ok((0, Vec::new()));
        shown_within(SHOWN_WITHIN, || {
            found = self.contradicted(analyst);
            Ok(matches!(found, Ok((0, _))))
        });
        let (wrong, contradictions) = found?;
        for contradiction in contradictions {
            eprintln!("{contradiction}");
        }
        Ok(wrong)
    }

    /// How many, and the conversions among them in words.
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
            let (status, minor) = fold(reports).context("a sale has reports")?;
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
            wrong + (reports as u64).abs_diff(rows_of_reports(analyst)?) + doubled(analyst)?,
            contradictions,
        ))
    }
}

/// Reports that have a row, each once.
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

/// Rows of one revision beyond the first, and of one repeated or refused report.
fn doubled(analyst: &Analyst) -> anyhow::Result<u64> {
    let of =
        |table: &str, place: &str| format!("(SELECT count() - uniqExact({place}) FROM {table})");
    let place = "node, journal, lane, seq";
    number(
        analyst,
        &format!(
            "SELECT {} + {} + {}",
            of("conversions", "transaction, kind, epoch, revision"),
            of("conversion_repeats", place),
            of("rejections", place)
        ),
    )
}

fn number(analyst: &Analyst, sql: &str) -> anyhow::Result<u64> {
    let answer = analyst.query(sql)?;
    let text = answer.rows.first().and_then(|row| row.first());
    Ok(text.context("a number")?.parse()?)
}

fn event<'a>(report: &Report, transaction: &'a str, click: ClickId) -> Event<'a> {
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
            currency: *b"EUR",
        },
        dialect: "generic",
        address: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        stated,
        signed: None,
        payout_as_sent: "",
    })
}

impl Fleet<'_> {
    /// Several edges report of the same sales, one is cut off and ships last. After each that ships, conversions must
    /// stand as all that has arrived says.
    pub(super) fn report_late(&mut self, random: &mut Random) -> anyhow::Result<Toll> {
        let analyst = self.analyst()?;
        let sales = self.sales.as_deref_mut().context("sales are simulated")?;
        sales.begin();
        sales.accept(random)?;
        let first = random.below(NODES.len() as u64) as usize;
        let mut toll = Toll::default();
        for turn in 0..NODES.len() {
            sales.ship((first + turn) % NODES.len())?;
            toll.contradicted += sales.compare(&analyst)?;
        }
        Ok(toll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_sorts_reports_and_carries_amounts_over() {
        let report = |time, status, minor| Report {
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
        assert_eq!(fold(&reports), Some((Status::Approved, 1_000)));
        assert_eq!(fold(&reports[..1]), Some((Status::Pending, 9)));
        assert_eq!(fold(&[]), None);
    }

    #[test]
    fn model_takes_back_what_refunds_say() {
        let after = |reports: &[(Status, Option<i64>)]| {
            let numbered = (1..).zip(reports);
            let each = numbered.map(|(time, (status, minor))| Report {
                time,
                node: NODES[0],
                number: time,
                status: *status,
                minor: *minor,
            });
            fold(&each.collect::<Vec<_>>())
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
