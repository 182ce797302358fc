//! Evaluates the reports of one transaction: each is recognised as a repetition, set aside as unproven, or evaluated.

use super::{
    ConversionStoreError, Evaluation, affiliates, conversions, idempotency, limits, outbox,
};
use crate::report::{LocatedEvent, Verdict};
use crate::unproven::{Unproven, UnprovenReason};
use crate::verification::{Evidence, Proof, UnprovenCounts, Verification};
use domain::Micros;
use idempotency::EarlierVerdict;
use sql_store::Transaction;
use tracking_events::{Conversion, Event};

/// Evaluates the reports of one transaction.
pub(super) struct Evaluator<'a> {
    now: Micros,
    /// The time of the postback queue, if affiliates are notified.
    queue_time: Option<Micros>,
    verification: Option<(&'a Verification, &'a Evidence)>,
    /// Reports that could not be verified.
    pub(super) set_aside: UnprovenCounts,
    /// Reports from a place that another report came from before.
    pub(super) place_conflicts: u64,
}

/// Whether a report may be evaluated.
enum ScreeningResult {
    /// It may be. The signature identifies a request of which only the first report counts.
    Proven {
        signature: Option<String>,
    },
    Unproven(Unproven),
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(
        queue_time: Option<Micros>,
        verification: Option<(&'a Verification, &'a Evidence)>,
    ) -> Self {
        Self {
            now: Micros::now(),
            queue_time,
            verification,
            set_aside: UnprovenCounts::default(),
            place_conflicts: 0,
        }
    }

    pub(super) async fn evaluate_all(
        &mut self,
        tx: &mut Transaction,
        reports: &[LocatedEvent<'_>],
    ) -> Result<Vec<Evaluation>, ConversionStoreError> {
        let mut evaluated = Vec::with_capacity(reports.len());
        for report in reports {
            evaluated.push(self.evaluate(tx, report).await?);
        }
        Ok(evaluated)
    }

    pub(super) async fn evaluate(
        &mut self,
        tx: &mut Transaction,
        report: &LocatedEvent<'_>,
    ) -> Result<Evaluation, ConversionStoreError> {
        let new = |verdict| Evaluation {
            verdict,
            is_repeated: false,
        };
        if !report.needs_evaluation() {
            return Ok(new(Verdict::Noted));
        }
        match idempotency::recall(tx, report).await? {
            EarlierVerdict::OfSameEvent(verdict) => {
                return Ok(Evaluation {
                    verdict,
                    is_repeated: true,
                });
            }
            EarlierVerdict::OfOtherEvent => self.alert(report),
            EarlierVerdict::None => {}
        }
        let verdict = match (self.screen(tx, report).await?, &report.event) {
            (ScreeningResult::Unproven(unproven), _) => {
                self.set_aside.add(report.key.node, unproven.reason);
                Verdict::Unproven(unproven)
            }
            (ScreeningResult::Proven { signature }, Event::Conversion(conversion)) => {
                self.conversion(tx, report, conversion, signature).await?
            }
            (ScreeningResult::Proven { .. }, Event::KycUpdate(update)) => {
                affiliates::evaluate(tx, update).await?
            }
            _ => Verdict::Noted,
        };
        idempotency::remember(tx, report, &verdict).await?;
        Ok(new(verdict))
    }

    /// Verifies a report again, if the aggregator has the secrets for it.
    async fn screen(
        &self,
        tx: &mut Transaction,
        report: &LocatedEvent<'_>,
    ) -> Result<ScreeningResult, ConversionStoreError> {
        let Some((verification, evidence)) = self.verification else {
            return Ok(ScreeningResult::Proven { signature: None });
        };
        let unproven = match (evidence.verify(report), &report.event) {
            (Proof::ValidOnce(signature), _) => {
                let signature = Some(signature);
                return Ok(ScreeningResult::Proven { signature });
            }
            (Proof::SharedSecret, Event::Conversion(conversion)) => {
                let (node, limits) = (report.key.node, evidence.limits());
                let beyond = limits::charge(tx, node, conversion, limits, self.now).await?;
                let limit = UnprovenReason::UnsignedLimit;
                beyond.map(|beyond| Unproven::conversion(limit, beyond, conversion))
            }
            (Proof::Complete | Proof::SharedSecret, _) => None,
            (Proof::UnknownClickKey(_), _) if verification.may_wait() => {
                return Err(ConversionStoreError::UnknownClickKey);
            }
            (Proof::UnknownClickKey(unproven) | Proof::None(unproven), _) => Some(unproven),
        };
        Ok(unproven.map_or(
            ScreeningResult::Proven { signature: None },
            ScreeningResult::Unproven,
        ))
    }

    async fn conversion(
        &self,
        tx: &mut Transaction,
        located: &LocatedEvent<'_>,
        report: &Conversion<'_>,
        signature: Option<String>,
    ) -> Result<Verdict, ConversionStoreError> {
        let evaluated = conversions::evaluate(tx, located, report, signature, self.now).await?;
        if let Some(time) = self.queue_time {
            for (identity, revision) in &evaluated.revisions {
                outbox::enqueue(tx, identity, *revision, time).await?;
            }
        }
        Ok(evaluated.verdict)
    }

    fn alert(&mut self, report: &LocatedEvent<'_>) {
        self.place_conflicts += 1;
        tracing::error!(
            node = report.key.node,
            lane = report.key.lane,
            journal = report.key.journal,
            seq = report.seq,
            "another report came from this place before; both are evaluated: check whether the edge's directory was \
             copied or restored, or its certificate stolen"
        );
    }
}
