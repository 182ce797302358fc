//! How the conversions of one sale follow from all of its reports, sorted by when they were reported.
//!
//! Invariant: the result depends on the set of reports only, never on the order in which they arrive. No statements here.

use crate::report::{LocatedEvent, Refunds};
use domain::{ConversionKind, ConversionStatus, Currency, Micros, Money};
use sql_store::typed_row;
use tracking_events::{Conversion, Stated};

/// A report dated further ahead of our clock than this, in microseconds, is sorted as if it were dated this far
/// ahead: an edge with a wrong clock would have the last word for years.
const MAX_CLOCK_LEAD: u64 = 5 * 60 * 1_000_000;

/// Marks what a conversion is known to have become as a report of its own, where its reports are not known.
const ADOPTED: Stated = Stated(1 << 7 | Stated::ALL.0);

/// A report of a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SaleReport {
    pub(super) order: ReportOrder,
    pub(super) statement: ReportStatement,
    /// Names its signed request, if only the first report of that counts.
    pub(super) signature: Option<String>,
    /// What refunds had taken back of an adopted conversion.
    pub(super) refunds: Refunds,
}

typed_row! {
    /// What sorts the reports of a sale.
    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    pub(super) struct ReportOrder {
        pub(super) time: Micros,
        pub(super) node: u16,
        pub(super) journal: u64,
        pub(super) lane: u8,
        pub(super) seq: u64,
        /// Tells apart what the place alone does not.
        pub(super) event: String,
    }
}

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReportStatement {
    pub(super) kind: ConversionKind,
    pub(super) kind_name: String,
    pub(super) status: ConversionStatus,
    pub(super) payout: Money,
    pub(super) stated: Stated,
}

typed_row! {
    /// How a conversion stands.
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
    /// The advertiser's word for the kind, as last stated.
    pub(super) kind_name: String,
    pub(super) state: State,
    /// When the report was made that brought it into this state.
    pub(super) state_time: Micros,
    /// What refunds have taken back of the amount that was reported. The last one again is its repetition.
    pub(super) refunds: Refunds,
}

/// What a report makes of a conversion.
struct Change {
    state: State,
    refunds: Refunds,
    /// What the report itself says.
    said: State,
}

/// What a report did in its place among the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effect {
    /// The conversion that the report is about.
    pub(super) conversion: usize,
    pub(super) fate: Fate,
    /// The report's state, with what it left out carried over.
    pub(super) said: State,
}

/// Whether a report was accepted in its place among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
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
        placed: &LocatedEvent<'_>,
        report: &Conversion<'_>,
        signature: Option<String>,
        now: Micros,
    ) -> Self {
        let key = placed.key;
        let latest = now.0.saturating_add(MAX_CLOCK_LEAD);
        Self {
            order: ReportOrder {
                time: Micros(report.time.0.min(latest)),
                node: key.node,
                journal: key.journal,
                lane: key.lane,
                seq: placed.seq,
                event: format!(
                    "{}-{:x}-{}-{}-{}",
                    key.node, key.journal, key.lane, placed.seq, placed.hash
                ),
            },
            statement: ReportStatement {
                kind: report.kind,
                // As PostgreSQL can store it, so that it is the same when it is read back.
                kind_name: report.kind_name.replace('\0', "\u{fffd}"),
                status: report.status,
                payout: Money {
                    minor: report.payout.minor,
                    // As it is read back: without letters if it is no code.
                    currency: Currency::from_stored(report.payout.currency.code()),
                },
                // No edge has a say in what was adopted.
                stated: Stated(report.stated.0 & Stated::ALL.0),
            },
            signature,
            refunds: Refunds::default(),
        }
    }

    /// The report that makes the conversion `identity` stand as it is known to.
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
                // After all others of its time.
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

    /// Whether both came with the same signed request.
    pub(super) fn has_signature_of(&self, other: &Self) -> bool {
        self.signature.is_some() && self.signature == other.signature
    }
}

/// Evaluates reports, which must be sorted.
pub(super) fn fold<'a>(reports: impl IntoIterator<Item = &'a SaleReport>) -> FoldedSale {
    let mut sale = FoldedSale::default();
    for report in reports {
        sale.apply(report);
    }
    sale
}

/// The report near `index` that may be forgotten when there are too many: of identical reports with no other in
/// between, the first and the last matter, and one of the others only if reports arrive later that belong both before
/// and after it. Signed requests are remembered, so that copies of them are known.
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
        let said = &report.statement;
        let Some(index) = self.target(said) else {
            let state = said.state_after(None);
            self.effects.push(Effect {
                conversion: self.conversions.len(),
                fate: Fate::Applied,
                said: state,
            });
            self.conversions.push(FoldedConversion {
                kind: said.kind,
                kind_name: said.kind_name.clone(),
                state,
                state_time: report.order.time,
                refunds: report.refunds.clone(),
            });
            return;
        };
        let conversion = &mut self.conversions[index];
        let before = conversion.state;
        let change = conversion.change(report);
        let fate = if change.state == before && change.refunds == conversion.refunds {
            Fate::Repeated
        } else if said.is_adopted() || before.status.may_become(said.status) {
            Fate::Applied
        } else {
            Fate::Refused {
                before: before.status,
            }
        };
        if fate == Fate::Applied {
            conversion.state = change.state;
            conversion.refunds = change.refunds;
            conversion.state_time = report.order.time;
            if said.stated.contains(Stated::KIND) && conversion.is_named_by(said) {
                conversion.kind_name.clone_from(&said.kind_name);
            }
        }
        self.effects.push(Effect {
            conversion: index,
            fate,
            said: change.said,
        });
    }

    /// The conversion that a report is about: the one it names, or else, where it need not name its kind, the only
    /// one there is. Advertisers who take a sale back name the transaction, and seldom what kind of conversion it was. Of
    /// several it can't be known which is meant.
    fn target(&self, said: &ReportStatement) -> Option<usize> {
        let own = self.conversions.iter().position(|it| it.is_named_by(said));
        let names_its_kind = said.stated.contains(Stated::KIND) && !said.status.takes_back();
        let names_its_kind = names_its_kind || said.is_adopted();
        if own.is_some() || names_its_kind {
            return own;
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
    /// What tells it apart from others of its kind: only custom kinds have names that matter.
    pub(super) fn custom_name(&self) -> &str {
        custom_name(self.kind, &self.kind_name)
    }

    /// What a report makes of it.
    fn change(&self, report: &SaleReport) -> Change {
        let said = &report.statement;
        let stated = said.state_after(Some(self.state));
        let (state, refunds) = match said.status {
            _ if said.is_adopted() => (stated, report.refunds.clone()),
            ConversionStatus::Chargeback => self.taken_back(said, stated.payout),
            _ if said.stated.contains(Stated::PAYOUT) => self.corrected(stated),
            _ => (stated, self.refunds.clone()),
        };
        Change {
            state,
            refunds,
            said: stated,
        }
    }

    /// A refund of a part leaves the rest as it stands; any other takes back all that is left.
    fn taken_back(&self, said: &ReportStatement, taken: Money) -> (State, Refunds) {
        let State { status, payout } = self.state;
        let mut refunds = self.refunds.clone();
        if status == said.status || refunds.last == said.refund_text() {
            return (self.state, refunds);
        }
        if said.is_refund() {
            refunds.last = said.refund_text();
        }
        let is_comparable = said.is_refund() && taken.currency == payout.currency;
        if !is_comparable || taken.minor >= payout.minor {
            let status = said.status;
            return (State { status, payout }, refunds);
        }
        refunds.minor = refunds.minor.saturating_add(taken.minor);
        let rest = Money {
            minor: payout.minor - taken.minor,
            ..payout
        };
        let state = State {
            payout: rest,
            ..self.state
        };
        (state, refunds)
    }

    /// Of an amount that is reported again, what was refunded stays taken back.
    fn corrected(&self, stated: State) -> (State, Refunds) {
        let mut refunds = self.refunds.clone();
        if stated.payout.currency != self.state.payout.currency {
            refunds.minor = 0;
        }
        let rest = stated.payout.minor.saturating_sub(refunds.minor);
        let payout = Money {
            // Less than nothing only where it was reported so.
            minor: rest.max(stated.payout.minor.min(0)),
            ..stated.payout
        };
        (State { payout, ..stated }, refunds)
    }

    fn is_named_by(&self, said: &ReportStatement) -> bool {
        self.kind == said.kind && self.custom_name() == custom_name(said.kind, &said.kind_name)
    }
}

/// The advertiser's word where it tells conversions of one kind apart, else nothing.
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

    /// Whether it says how much of a sale is taken back.
    const fn is_refund(&self) -> bool {
        matches!(self.status, ConversionStatus::Chargeback)
            && self.stated.contains(Stated::PAYOUT)
            && self.payout.minor > 0
    }

    /// What tells a refund from others: all that it says. No other report has the text of a refund.
    fn refund_text(&self) -> String {
        let Money { minor, .. } = self.payout;
        let (currency, kind) = (self.payout.currency.code(), self.kind.as_str());
        let Stated(stated) = self.stated;
        format!("{minor} {currency} {kind} {stated} {}", self.kind_name)
    }

    /// What the report says of a conversion that stood as `before`: what it did not state stays.
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
            // An amount that the currency has not enough digits for must be in the advertiser's own.
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
        fn forgotten_reports_never_matter(
            // Each several times in a row, so that something is forgotten.
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
