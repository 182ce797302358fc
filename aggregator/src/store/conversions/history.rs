//! The fold of a sale's reports, sorted by report time, into the states of its conversions.
//!
//! Invariants: the result depends on the set of reports only, never on their order of arrival; no SQL here.

use crate::report::{LocatedEvent, Refunds};
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use sql_store::typed_row;
use tracking_events::{Conversion, Stated};

/// A report dated further ahead of the aggregator's clock than this is sorted as if it were dated this far ahead.
/// Otherwise the reports of an edge with a wrong clock would override all others for years.
const MAX_CLOCK_LEAD_MICROS: u64 = 5 * 60 * 1_000_000;

/// Marks a report that the store derives from a conversion's known state because the original reports are missing.
const ADOPTED: Stated = Stated(1 << 7 | Stated::ALL.0);

/// A report of a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SaleReport {
    pub(super) order: ReportOrder,
    pub(super) statement: ReportStatement,
    /// Identifies the signed request, if only its first report counts.
    pub(super) signature: Option<String>,
    /// The refunds of an adopted conversion; empty in reports from edges.
    pub(super) refunds: Refunds,
}

typed_row! {
    /// The sort key of the reports of a sale.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) struct ReportOrder {
        pub(super) time: Micros,
        pub(super) node: u16,
        pub(super) journal: u64,
        pub(super) lane: u8,
        pub(super) seq: u64,
        /// Distinguishes events that were logged at the same place.
        pub(super) event: String,
    }
}

/// The content of a report, without its place and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReportStatement {
    pub(super) kind: ConversionKind,
    pub(super) kind_name: String,
    pub(super) status: ConversionStatus,
    pub(super) payout: Money,
    pub(super) stated: Stated,
}

typed_row! {
    /// The state of a conversion.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct State {
        pub(super) status: ConversionStatus,
        pub(super) payout: Money,
    }
}

/// A conversion after all reports.
#[derive(Debug, Clone)]
pub(super) struct FoldedConversion {
    pub(super) kind: ConversionKind,
    /// The advertiser's name of the kind, as last stated.
    pub(super) kind_name: String,
    pub(super) state: State,
    /// The time of the report that led to this state.
    pub(super) state_time: Micros,
    /// The refunds so far. A report with the content of the last one is its repetition.
    pub(super) refunds: Refunds,
}

/// A conversion after a report, if the report is applied.
struct Change {
    state: State,
    refunds: Refunds,
    /// The state in the report itself.
    reported: State,
}

/// The effect of a report at its position in the sorted sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    /// The index of the report's conversion.
    pub(super) conversion: usize,
    pub(super) kind: EffectKind,
    /// The state in the report; fields that it leaves out come from the state before.
    pub(super) reported: State,
}

/// Whether a report was applied at its position in the sorted sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EffectKind {
    Applied,
    Repeated,
    Refused { before: ConversionStatus },
}

/// The outcome of all reports of a sale.
#[derive(Debug, Default)]
pub(super) struct FoldedSale {
    pub(super) conversions: Vec<FoldedConversion>,
    /// One for each report.
    pub(super) effects: Vec<Effect>,
}

impl SaleReport {
    pub(super) fn of(
        located: &LocatedEvent<'_>,
        report: &Conversion<'_>,
        signature: Option<String>,
        now: Micros,
    ) -> Self {
        let key = located.key;
        let latest = now.0.saturating_add(MAX_CLOCK_LEAD_MICROS);
        Self {
            order: ReportOrder {
                time: Micros(report.time.0.min(latest)),
                node: key.node,
                journal: key.journal,
                lane: key.lane,
                seq: located.seq,
                event: format!(
                    "{}-{:x}-{}-{}-{}",
                    key.node, key.journal, key.lane, located.seq, located.hash
                ),
            },
            statement: ReportStatement {
                kind: report.kind,
                // PostgreSQL can't store NUL. Replaced here, the name is equal to the one that is read back.
                kind_name: report.kind_name.replace('\0', "\u{fffd}"),
                status: report.status,
                payout: Money {
                    minor: report.payout.minor,
                    // The same conversion as at reading: an invalid code becomes the empty one.
                    currency: Currency::from_stored(report.payout.currency.code()),
                },
                // No edge may mark its reports as adopted.
                stated: Stated(report.stated.0 & Stated::ALL.0),
            },
            signature,
            refunds: Refunds::default(),
        }
    }

    /// A report that brings the conversion `identity` into its known state.
    pub(super) fn adopted(
        identity: &str,
        time: Micros,
        (kind, kind_name): (ConversionKind, &str),
        state: State,
        refunds: Refunds,
    ) -> Self {
        Self {
            order: ReportOrder {
                time,
                // Sorted after all other reports of the same time.
                node: u16::MAX,
                journal: u64::MAX,
                lane: u8::MAX,
                seq: u64::MAX,
                event: format!("{identity}-{}", time.0),
            },
            statement: ReportStatement {
                kind,
                kind_name: kind_name.to_owned(),
                status: state.status,
                payout: state.payout,
                stated: ADOPTED,
            },
            signature: None,
            refunds,
        }
    }

    /// Whether both reports came with the same signed request.
    pub(super) fn has_signature_of(&self, other: &Self) -> bool {
        self.signature.is_some() && self.signature == other.signature
    }
}

/// Folds reports, which must be sorted.
pub(super) fn fold<'a>(reports: impl IntoIterator<Item = &'a SaleReport>) -> FoldedSale {
    let mut sale = FoldedSale::default();
    for report in reports {
        sale.apply(report);
    }
    sale
}

/// The index of a report near `index` that may be deleted when there are too many. In a run of identical reports the
/// first and the last are needed. One in between matters only if later arrivals are sorted both before and after it.
/// Reports of signed requests are kept, so that copies of the requests are recognised.
pub(super) fn redundant_near(reports: &[SaleReport], index: usize) -> Option<usize> {
    let is_surrounded = |at: &usize| {
        let (Some(before), Some(it), Some(after)) = (
            at.checked_sub(1).and_then(|before| reports.get(before)),
            reports.get(*at),
            reports.get(at + 1),
        ) else {
            return false;
        };
        it.signature.is_none()
            && before.statement == it.statement
            && it.statement == after.statement
    };
    (index.saturating_sub(1)..=index + 1).find(is_surrounded)
}

impl FoldedSale {
    fn apply(&mut self, report: &SaleReport) {
        let statement = &report.statement;
        let Some(index) = self.target(statement) else {
            let state = statement.state_after(None);
            self.effects.push(Effect {
                conversion: self.conversions.len(),
                kind: EffectKind::Applied,
                reported: state,
            });
            self.conversions.push(FoldedConversion {
                kind: statement.kind,
                kind_name: statement.kind_name.clone(),
                state,
                state_time: report.order.time,
                refunds: report.refunds.clone(),
            });
            return;
        };
        let conversion = &mut self.conversions[index];
        let before = conversion.state;
        let change = conversion.change(report);
        let kind = if change.state == before && change.refunds == conversion.refunds {
            EffectKind::Repeated
        } else if statement.is_adopted() || before.status.may_become(statement.status) {
            EffectKind::Applied
        } else {
            EffectKind::Refused {
                before: before.status,
            }
        };
        if kind == EffectKind::Applied {
            conversion.state = change.state;
            conversion.refunds = change.refunds;
            conversion.state_time = report.order.time;
            if statement.stated.contains(Stated::KIND) && conversion.is_named_by(statement) {
                conversion.kind_name.clone_from(&statement.kind_name);
            }
        }
        self.effects.push(Effect {
            conversion: index,
            kind,
            reported: change.reported,
        });
    }

    /// The index of the report's conversion: the one of its kind, or, if the report need not state a kind, the sale's
    /// only conversion. A reversal names its transaction and seldom the kind of the conversion. If the sale has several
    /// conversions, none of them matches.
    fn target(&self, statement: &ReportStatement) -> Option<usize> {
        let mut conversions = self.conversions.iter();
        let same_kind = conversions.position(|it| it.is_named_by(statement));
        let requires_kind = statement.is_adopted()
            || statement.stated.contains(Stated::KIND) && !statement.status.takes_back();
        if same_kind.is_some() || requires_kind {
            return same_kind;
        }
        (self.conversions.len() == 1).then_some(0)
    }

    /// Whether the report at `index` is the newest of its conversion.
    pub(super) fn is_newest(&self, index: usize) -> bool {
        let conversion = self.effects[index].conversion;
        let mut newer = self.effects[index + 1..].iter();
        newer.all(|effect| effect.conversion != conversion)
    }
}

impl FoldedConversion {
    /// The name that distinguishes it from others of its kind; empty unless the kind is custom.
    pub(super) fn custom_name(&self) -> &str {
        custom_name(self.kind, &self.kind_name)
    }

    /// The conversion after the report.
    fn change(&self, report: &SaleReport) -> Change {
        let statement = &report.statement;
        let reported = statement.state_after(Some(self.state));
        let (state, refunds) = match statement.status {
            _ if statement.is_adopted() => (reported, report.refunds.clone()),
            ConversionStatus::Chargeback => self.reversed(statement, reported.payout),
            _ if statement.stated.contains(Stated::PAYOUT) => self.corrected(reported),
            _ => (reported, self.refunds.clone()),
        };
        Change {
            state,
            refunds,
            reported,
        }
    }

    /// After a chargeback. A partial refund reduces the payout and keeps the status; any other reverses the conversion.
    fn reversed(&self, statement: &ReportStatement, refunded: Money) -> (State, Refunds) {
        let State { status, payout } = self.state;
        let mut refunds = self.refunds.clone();
        if status == statement.status || refunds.last == statement.refund_text() {
            return (self.state, refunds);
        }
        if statement.is_refund() {
            refunds.last = statement.refund_text();
        }
        let is_comparable = statement.is_refund() && refunded.currency == payout.currency;
        if !is_comparable || refunded.minor >= payout.minor {
            let status = statement.status;
            return (State { status, payout }, refunds);
        }
        refunds.minor = refunds.minor.saturating_add(refunded.minor);
        let remaining = Money {
            minor: payout.minor - refunded.minor,
            ..payout
        };
        let state = State {
            payout: remaining,
            ..self.state
        };
        (state, refunds)
    }

    /// After a report with a new amount: earlier refunds are subtracted from it.
    fn corrected(&self, reported: State) -> (State, Refunds) {
        let mut refunds = self.refunds.clone();
        if reported.payout.currency != self.state.payout.currency {
            refunds.minor = 0;
        }
        let remaining = reported.payout.minor.saturating_sub(refunds.minor);
        let payout = Money {
            // Negative only if the report's amount is.
            minor: remaining.max(reported.payout.minor.min(0)),
            ..reported.payout
        };
        (State { payout, ..reported }, refunds)
    }

    fn is_named_by(&self, statement: &ReportStatement) -> bool {
        let name = custom_name(statement.kind, &statement.kind_name);
        self.kind == statement.kind && self.custom_name() == name
    }
}

/// The advertiser's name of a custom kind; empty for other kinds, whose names distinguish nothing.
pub(super) fn custom_name(kind: ConversionKind, kind_name: &str) -> &str {
    match kind {
        ConversionKind::Custom => kind_name,
        _ => "",
    }
}

impl ReportStatement {
    const fn is_adopted(&self) -> bool {
        self.stated.contains(ADOPTED)
    }

    /// Whether it states the amount that is refunded.
    const fn is_refund(&self) -> bool {
        matches!(self.status, ConversionStatus::Chargeback)
            && self.stated.contains(Stated::PAYOUT)
            && self.payout.minor > 0
    }

    /// The whole content of a refund, by which its repetition is recognised. Two different refunds have different texts.
    fn refund_text(&self) -> String {
        let Money { minor, .. } = self.payout;
        let (currency, kind) = (self.payout.currency.code(), self.kind.as_str());
        let Stated(stated) = self.stated;
        format!("{minor} {currency} {kind} {stated} {}", self.kind_name)
    }

    /// The state in the report; fields that it does not state come from the state `before`.
    fn state_after(&self, before: Option<State>) -> State {
        let states_amount = self.stated.contains(Stated::PAYOUT);
        let payout = match before {
            None if states_amount => self.payout,
            None => Money {
                minor: 0,
                ..self.payout
            },
            Some(before) if !states_amount => before.payout,
            Some(_) if self.stated.contains(Stated::CURRENCY) => self.payout,
            // An amount with too many digits for that currency is in the advertiser's own currency.
            Some(before) => self
                .payout
                .relabelled(before.payout.currency)
                .unwrap_or(self.payout),
        };
        State {
            status: self.status,
            payout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(minor: i64, currency: &[u8; 3]) -> Money {
        Money {
            minor,
            currency: Currency(*currency),
        }
    }

    fn statement() -> impl Strategy<Value = ReportStatement> {
        let kind = prop_oneof![Just(ConversionKind::Sale), Just(ConversionKind::Rebill)];
        let status = proptest::sample::select(ConversionStatus::ALL);
        (kind, status, 0..2_i64, 0..16_u8).prop_map(|(kind, status, minor, stated)| {
            ReportStatement {
                kind,
                kind_name: String::new(),
                status,
                payout: money(minor, b"EUR"),
                stated: Stated(stated),
            }
        })
    }

    fn at(seq: u64, statement: ReportStatement) -> SaleReport {
        SaleReport {
            order: ReportOrder {
                time: Micros(seq),
                node: 1,
                journal: 1,
                lane: 0,
                seq,
                event: String::new(),
            },
            statement,
            signature: None,
            refunds: Refunds::default(),
        }
    }

    fn states(reports: &[SaleReport]) -> Vec<(ConversionKind, State, Refunds, usize)> {
        let folded = fold(reports);
        let of = |index| {
            let effects = folded.effects.iter();
            effects.filter(|effect| effect.conversion == index).count()
        };
        let conversions = folded.conversions.iter().enumerate();
        conversions
            .map(|(index, it)| (it.kind, it.state, it.refunds.clone(), of(index).min(1)))
            .collect()
    }

    proptest! {
        #[test]
        fn deleted_reports_never_change_the_result(
            // Each several times in a row, so that reports are deleted.
            runs in prop::collection::vec((statement(), 1..5_usize), 1..6),
            later in statement(),
            place in any::<prop::sample::Index>(),
        ) {
            let all = runs.into_iter().flat_map(|(it, times)| std::iter::repeat_n(it, times));
            let all: Vec<_> = (1..).map(|it| 2 * it).zip(all).map(|(seq, it)| at(seq, it)).collect();
            let mut kept = Vec::new();
            for report in &all {
                kept.push(report.clone());
                if let Some(redundant) = redundant_near(&kept, kept.len() - 1) {
                    kept.remove(redundant);
                }
            }
            prop_assert_eq!(states(&kept), states(&all));
            let later = at(2 * place.index(all.len() + 1) as u64 + 1, later);
            let with = |reports: &[SaleReport]| {
                let mut reports = [reports, std::slice::from_ref(&later)].concat();
                reports.sort_by(|one, other| one.order.cmp(&other.order));
                states(&reports)
            };
            prop_assert_eq!(with(&kept), with(&all));
        }
    }
}
