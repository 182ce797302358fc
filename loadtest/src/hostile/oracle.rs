//! Compares each response with the expected result and counts all responses. Requests are neither built nor sent
//! here.

use super::case::{Case, Expect, StoredKey};
use super::client::HttpResponse;
use super::postbacks::Claim;
use super::senders;
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Maximum number of faults that are printed; all are counted.
const MAX_SHOWN_FAULTS: usize = 20;
/// An advertiser without links or offers: its sender retries until it has some.
const NOTHING_TO_CONVERT: u16 = 122;
/// The click id key may not have reached the edge yet: the sender retries.
const UNKNOWN_CLICK_KEY: u16 = 126;
const BUSY: u16 = 301;
/// Functions have lower priority than clicks: on a busy machine one may time out.
const TIMED_OUT: u16 = 303;

/// The documented numbers with their names and status codes.
#[derive(Debug)]
pub(super) struct Reasons(BTreeMap<u16, (String, u16)>);

/// Results of the requests of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct KindResults {
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) refused: BTreeMap<u16, u64>,
    /// Requests that are not HTTP and got no response.
    pub(super) closed: u64,
    /// Responses above 499, including those that ask for a retry.
    pub(super) above_499: u64,
}

/// Results of all requests.
#[derive(Debug, Default)]
pub(super) struct RunResults {
    pub(super) rows: BTreeMap<&'static str, KindResults>,
    /// How often each transaction was accepted, and what it reported.
    pub(super) transactions: HashMap<String, (Claim, u64)>,
    /// How often each delivery was accepted.
    pub(super) deliveries: HashMap<String, u64>,
    /// Accepted requests that were changed at random and are still authentic.
    pub(super) mutated: u64,
    /// Number of requested retries; the retried report may have been stored already.
    pub(super) retries: u64,
    pub(super) forgeries: u64,
    pub(super) faults: u64,
    pub(super) shown: Vec<String>,
}

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextStep {
    Done,
    /// The sender retries.
    Retry,
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

    /// Whether the response has the documented form for this number.
    fn documents(&self, number: u16, response: &HttpResponse) -> bool {
        let stored_key = self.0.get(&number);
        stored_key.is_some_and(|(name, status)| {
            *status == response.status && (number < 100 || response.text.contains(name.as_str()))
        })
    }
}

/// The number in a response.
fn number(response: &HttpResponse) -> Option<u16> {
    let text = response.text.trim_end();
    let edge = text
        .rsplit_once("(reason ")
        .map(|(_, rest)| rest.trim_end_matches(')'));
    let reason_text = text.strip_prefix("refused: ").or(edge).unwrap_or(text);
    reason_text.split(' ').next()?.parse().ok()
}

impl RunResults {
    /// Records a response and returns what follows.
    pub(super) fn take(
        &mut self,
        reasons: &Reasons,
        request_number: u64,
        case: &Case,
        response: &io::Result<HttpResponse>,
    ) -> NextStep {
        let fault = match response {
            Ok(response) if asks_for_retry(response, case) => {
                self.row(case).above_499 += 1;
                self.retries += 1;
                return NextStep::Retry;
            }
            Ok(response) => self.check(reasons, case, response),
            Err(error) => Some(format!("got no response: {error}")),
        };
        if let Some(fault) = fault {
            self.fault(request_number, case, &fault);
        }
        NextStep::Done
    }

    pub(super) fn row(&mut self, case: &Case) -> &mut KindResults {
        self.rows.entry(case.kind).or_default()
    }

    pub(super) fn fault(&mut self, request_number: u64, case: &Case, fault: &str) {
        self.faults += 1;
        if self.shown.len() < MAX_SHOWN_FAULTS {
            let most = case.bytes.len().min(2_000);
            let bytes = case.bytes[..most].escape_ascii();
            let kind = case.kind;
            self.shown.push(format!(
                "request {request_number} ({kind}) {fault}\n    {bytes}"
            ));
        }
    }

    /// The fault of a response, if any.
    fn check(&mut self, reasons: &Reasons, case: &Case, response: &HttpResponse) -> Option<String> {
        let row = self.row(case);
        let parameters = || format!("returned {} {:?}", response.status, response.text);
        if response.status >= 500 {
            row.above_499 += 1;
        }
        if senders::secrets().any(|secret| response.text.contains(secret)) {
            return Some(format!("{}: the response contains a secret", parameters()));
        }
        if (200..300).contains(&response.status) {
            row.accepted += 1;
            return self
                .accepted(case, response)
                .map(|fault| format!("{}: {fault}", parameters()));
        }
        let refused = match number(response) {
            // Responses to HEAD have no text.
            None if case.head => match case.expect {
                Expect::Refused([only]) => *only,
                _ => return Some(parameters()),
            },
            // hyper's own response to bytes that are not HTTP.
            None if case.expect == Expect::NotHttp && (400..500).contains(&response.status) => {
                row.closed += 1;
                return None;
            }
            Some(number) if reasons.documents(number, response) => number,
            _ => return Some(format!("{}, which is not documented", parameters())),
        };
        *row.refused.entry(refused).or_default() += 1;
        if response.status >= 500 && ![NOTHING_TO_CONVERT, UNKNOWN_CLICK_KEY].contains(&refused) {
            return Some(parameters());
        }
        match case.expect {
            Expect::Refused(by) if by.contains(&refused) => None,
            Expect::Mutated { .. } | Expect::NotHttp if refused != NOTHING_TO_CONVERT => None,
            expected => Some(format!("{}; expected {expected:?}", parameters())),
        }
    }

    fn accepted(&mut self, case: &Case, response: &HttpResponse) -> Option<String> {
        match case.expect {
            Expect::Accepted(text) if response.text == text => {}
            Expect::Accepted(text) => return Some(format!("expected {text:?}")),
            Expect::Mutated { authentic: true } => self.mutated += 1,
            Expect::Mutated { authentic: false } | Expect::Refused(_) | Expect::NotHttp => {
                self.forgeries += 1;
                return Some("AN ACCEPTED FORGERY".into());
            }
        }
        match &case.key {
            StoredKey::None => {}
            StoredKey::Transaction(transaction, claim) => {
                let stored_key = self.transactions.entry(transaction.clone());
                stored_key.or_insert((*claim, 0)).1 += 1;
            }
            StoredKey::Delivery(delivery) => {
                *self.deliveries.entry(delivery.clone()).or_default() += 1;
            }
        }
        None
    }

    /// Rejections by functions and edge, by number.
    pub(super) fn refused(&self) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for (number, count) in self.rows.values().flat_map(|row| &row.refused) {
            *all.entry(*number).or_default() += count;
        }
        all
    }

    pub(super) fn conversions(&self) -> u64 {
        self.transactions.values().map(|it| it.1).sum::<u64>() + self.mutated
    }

    pub(super) fn webhooks(&self) -> u64 {
        self.deliveries.values().sum()
    }
}

/// The edge was not ready, full or too slow, so that the sender must retry. Bytes that are not HTTP can't become
/// durable.
fn asks_for_retry(response: &HttpResponse, case: &Case) -> bool {
    match (response.status, number(response)) {
        (503, Some(BUSY)) | (504, Some(TIMED_OUT)) => true,
        // Responses to HEAD have no text.
        (503 | 504, None) if case.head => true,
        (503, None) => response.text == "try again later\n" && case.expect != Expect::NotHttp,
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
            key: StoredKey::None,
            head: false,
            send_alone: false,
            times: 1,
        };
        let (mut results, reasons) = (RunResults::default(), Reasons::documented());
        let response = Ok(HttpResponse::new(status, text));
        results.take(&reasons, 0, &case, &response);
        (results.forgeries, results.faults, results.retries)
    }

    #[test]
    fn unexpected_responses_are_faults() {
        let forged = Expect::Refused(&[103]);
        assert_eq!(
            judged(forged, 403, "refused: 103 not_authentic: x\n"),
            (0, 0, 0)
        );
        assert_eq!(judged(forged, 200, "OK"), (1, 1, 0));
        let changed = |authentic| judged(Expect::Mutated { authentic }, 200, "OK");
        assert_eq!((changed(true), changed(false)), ((0, 0, 0), (1, 1, 0)));
        assert_eq!(judged(Expect::NotHttp, 200, "OK"), (1, 1, 0));
        // Another number, an undocumented one, another status, no number at all.
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
        let authentic = Expect::Accepted("OK");
        assert_eq!(judged(authentic, 200, "OK"), (0, 0, 0));
        assert_eq!(
            judged(authentic, 403, "refused: 103 not_authentic: x\n"),
            (0, 1, 0)
        );
        for (status, text) in [(503, "try again later\n"), (503, "301 function_busy\n")] {
            assert_eq!(judged(authentic, status, text), (0, 0, 1), "{text}");
        }
        assert_eq!(judged(Expect::NotHttp, 503, "try again later\n"), (0, 1, 0));
        assert_eq!(
            judged(Expect::NotHttp, 504, "303 function_timed_out\n"),
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
    fn documented_reasons_are_parsed() {
        let reasons = Reasons::documented();
        assert_eq!(reasons.name(103), "not_authentic");
        assert_eq!(reasons.name(211), "kyc_bad_time");
        assert_eq!(reasons.name(306), "function_request_too_large");
        assert_eq!(reasons.name(1), "unknown_path");
    }
}
