//! Whether an answer is what the maker of its request knows that it must be, and the account of all
//! answers. How requests are made or sent never belongs here.

use super::case::{Case, Expect, Key};
use super::client::Answer;
use super::postbacks::Claim;
use super::senders;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Faults that are shown; all are counted.
const SHOWN: usize = 20;
/// An advertiser that converts nothing: its sender tries again for as long as it does not.
const NOTHING_TO_CONVERT: u16 = 122;
/// A click id key that is perhaps on its way to the edge: the sender tries again.
const UNKNOWN_CLICK_KEY: u16 = 126;
const BUSY: u16 = 301;
/// Functions give way to everybody else: on a busy machine one may not be done in time.
const TIMED_OUT: u16 = 303;

/// What operators can look up: numbers, with names and status codes.
#[derive(Debug)]
pub(super) struct Reasons(BTreeMap<u16, (String, u16)>);

/// What came of the requests of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) sent: u64,
    pub(super) taken: u64,
    pub(super) refused: BTreeMap<u16, u64>,
    /// What is not HTTP, and was not answered.
    pub(super) closed: u64,
    /// Answers above 499, those included that were asked to come again.
    pub(super) above_499: u64,
}

/// What came of all requests.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) rows: BTreeMap<&'static str, Row>,
    /// Of each transaction how often it was taken.
    pub(super) transactions: HashMap<String, (Claim, u64)>,
    /// Of each delivery.
    pub(super) deliveries: HashMap<String, u64>,
    /// Requests changed at random that were still authentic, and taken.
    pub(super) others: u64,
    /// How often somebody was told to try again: what was reported may be there all the same.
    pub(super) again: u64,
    pub(super) forgeries: u64,
    pub(super) faults: u64,
    pub(super) shown: Vec<String>,
}

/// What is to be done about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Done,
    /// The sender is to try again.
    Again,
}

impl Reasons {
    /// Reads the tables of the documentation.
    pub(super) fn documented() -> Self {
        let texts = [
            include_str!("../../../README.md"),
            include_str!("../../../wasm-functions/README.md"),
        ];
        let rows = texts.iter().flat_map(|text| text.lines());
        let read = |line: &str| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let number: u16 = cells.next()?.parse().ok()?;
            let name = cells.next()?.trim_matches('`').to_owned();
            let status: u16 = cells.next()?.parse().ok()?;
            Some((number, (name, status)))
        };
        Self(rows.filter_map(read).collect())
    }

    pub(super) fn name(&self, number: u16) -> &str {
        self.0.get(&number).map_or("", |(name, _)| name)
    }

    /// Whether the answer is how this number is answered.
    fn fits(&self, number: u16, answer: &Answer) -> bool {
        let known = self.0.get(&number);
        known.is_some_and(|(name, status)| {
            *status == answer.status && (number < 100 || answer.text.contains(name.as_str()))
        })
    }
}

/// The number that an answer gives.
fn number(answer: &Answer) -> Option<u16> {
    let text = answer.text.trim_end();
    let edge = text
        .rsplit_once("(reason ")
        .map(|(_, rest)| rest.trim_end_matches(')'));
    let told = text.strip_prefix("refused: ").or(edge).unwrap_or(text);
    told.split(' ').next()?.parse().ok()
}

impl Account {
    /// Takes an answer down, and says what is to be done.
    pub(super) fn take(
        &mut self,
        reasons: &Reasons,
        number_of_case: u64,
        case: &Case,
        answer: &io::Result<Answer>,
    ) -> Then {
        let fault = match answer {
            Ok(answer) if is_temporary(answer, case) => {
                self.row(case).above_499 += 1;
                self.again += 1;
                return Then::Again;
            }
            Ok(answer) => self.judge(reasons, case, answer),
            Err(error) => Some(format!("was not answered: {error}")),
        };
        if let Some(fault) = fault {
            self.fault(number_of_case, case, &fault);
        }
        Then::Done
    }

    pub(super) fn row(&mut self, case: &Case) -> &mut Row {
        self.rows.entry(case.kind).or_default()
    }

    pub(super) fn fault(&mut self, number_of_case: u64, case: &Case, fault: &str) {
        self.faults += 1;
        if self.shown.len() < SHOWN {
            let most = case.bytes.len().min(2_000);
            let bytes = case.bytes[..most].escape_ascii();
            let kind = case.kind;
            self.shown.push(format!(
                "request {number_of_case} ({kind}) {fault}\n    {bytes}"
            ));
        }
    }

    /// What is wrong with the answer.
    fn judge(&mut self, reasons: &Reasons, case: &Case, answer: &Answer) -> Option<String> {
        let row = self.row(case);
        let said = || format!("was answered {} {:?}", answer.status, answer.text);
        if answer.status >= 500 {
            row.above_499 += 1;
        }
        if senders::secrets().any(|secret| answer.text.contains(secret)) {
            return Some(format!("{}: that holds a secret", said()));
        }
        if (200..300).contains(&answer.status) {
            row.taken += 1;
            return self
                .taken(case, answer)
                .map(|fault| format!("{}: {fault}", said()));
        }
        let refused = match number(answer) {
            // An answer to HEAD has no text.
            None if case.head => match case.expect {
                Expect::Refused([only]) => *only,
                _ => return Some(said()),
            },
            // hyper's own word for what is no HTTP.
            None if case.expect == Expect::Broken && (400..500).contains(&answer.status) => {
                row.closed += 1;
                return None;
            }
            Some(number) if reasons.fits(number, answer) => number,
            _ => return Some(format!("{}, which is in no table", said())),
        };
        *row.refused.entry(refused).or_default() += 1;
        if answer.status >= 500 && ![NOTHING_TO_CONVERT, UNKNOWN_CLICK_KEY].contains(&refused) {
            return Some(said());
        }
        match case.expect {
            Expect::Refused(by) if by.contains(&refused) => None,
            Expect::Either { .. } | Expect::Broken if refused != NOTHING_TO_CONVERT => None,
            expected => Some(format!("{} instead of {expected:?}", said())),
        }
    }

    fn taken(&mut self, case: &Case, answer: &Answer) -> Option<String> {
        match case.expect {
            Expect::Taken(text) if answer.text == text => {}
            Expect::Taken(text) => return Some(format!("{text:?} was expected")),
            Expect::Either { authentic: true } => self.others += 1,
            Expect::Either { authentic: false } | Expect::Refused(_) | Expect::Broken => {
                self.forgeries += 1;
                return Some("AN ACCEPTED FORGERY".into());
            }
        }
        match &case.key {
            Key::None => {}
            Key::Transaction(transaction, claim) => {
                let known = self.transactions.entry(transaction.clone());
                known.or_insert((*claim, 0)).1 += 1;
            }
            Key::Delivery(delivery) => {
                *self.deliveries.entry(delivery.clone()).or_default() += 1;
            }
        }
        None
    }

    /// What was sent to be refused by functions, by number.
    pub(super) fn refused(&self) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for (number, count) in self.rows.values().flat_map(|row| &row.refused) {
            *all.entry(*number).or_default() += count;
        }
        all
    }

    pub(super) fn conversions(&self) -> u64 {
        self.transactions.values().map(|it| it.1).sum::<u64>() + self.others
    }

    pub(super) fn webhooks(&self) -> u64 {
        self.deliveries.values().sum()
    }
}

/// Not durable, no room or no time: whoever sends it is to send it again. What is no HTTP can't become durable.
fn is_temporary(answer: &Answer, case: &Case) -> bool {
    match (answer.status, number(answer)) {
        (503, Some(BUSY)) | (504, Some(TIMED_OUT)) => true,
        // An answer to HEAD has no text.
        (503 | 504, None) if case.head => true,
        (503, None) => answer.text == "try again later\n" && case.expect != Expect::Broken,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(expect: Expect, status: u16, text: &str) -> (u64, u64, u64) {
        let case = Case {
            kind: "tried",
            bytes: Vec::new(),
            expect,
            key: Key::None,
            head: false,
            alone: false,
            times: 1,
        };
        let (mut account, reasons) = (Account::default(), Reasons::documented());
        let answer = Ok(Answer::new(status, text));
        account.take(&reasons, 0, &case, &answer);
        (account.forgeries, account.faults, account.again)
    }

    #[test]
    fn what_is_otherwise_than_it_must_be_is_a_fault() {
        let forged = Expect::Refused(&[103]);
        assert_eq!(
            judged(forged, 403, "refused: 103 not_authentic: x\n"),
            (0, 0, 0)
        );
        assert_eq!(judged(forged, 200, "OK"), (1, 1, 0));
        let changed = |authentic| judged(Expect::Either { authentic }, 200, "OK");
        assert_eq!((changed(true), changed(false)), ((0, 0, 0), (1, 1, 0)));
        assert_eq!(judged(Expect::Broken, 200, "OK"), (1, 1, 0));
        // By another number, one that no table has, another status, no number at all.
        for (status, text) in [
            (403, "refused: 106 forged_click_id: x\n"),
            (403, "refused: 99 nothing: x\n"),
            (400, "refused: 103 not_authentic: x\n"),
            (403, "no"),
            (500, "302 function_trapped\n"),
            (403, "refused: 103 not_authentic: plain-hostile-secret-1\n"),
        ] {
            assert_eq!(judged(forged, status, text), (0, 1, 0), "{text}");
        }
        let authentic = Expect::Taken("OK");
        assert_eq!(judged(authentic, 200, "OK"), (0, 0, 0));
        assert_eq!(
            judged(authentic, 403, "refused: 103 not_authentic: x\n"),
            (0, 1, 0)
        );
        for (status, text) in [(503, "try again later\n"), (503, "301 function_busy\n")] {
            assert_eq!(judged(authentic, status, text), (0, 0, 1), "{text}");
        }
        assert_eq!(judged(Expect::Broken, 503, "try again later\n"), (0, 1, 0));
        assert_eq!(
            judged(Expect::Broken, 504, "303 function_timed_out\n"),
            (0, 0, 1)
        );
        assert_eq!(
            judged(
                Expect::Refused(&[122]),
                500,
                "refused: 122 nothing_to_convert: x\n"
            ),
            (0, 0, 0)
        );
    }

    #[test]
    fn the_tables_are_read() {
        let reasons = Reasons::documented();
        assert_eq!(reasons.name(103), "not_authentic");
        assert_eq!(reasons.name(211), "kyc_bad_time");
        assert_eq!(reasons.name(306), "function_request_too_large");
        assert_eq!(reasons.name(1), "unknown_path");
    }
}
