//! The evaluation of reports: stored durably when their block is built, then evaluated and inserted in the order of
//! their blocks. Clicks never wait for it.

use super::{Dependency, Pipeline, run_blocking};
use crate::blocks::PendingReports;
use crate::fatal::FatalError;
use crate::history::{EventPlace, History};
use crate::report::{LocatedEvent, Report, Verdict};
use crate::sink::{PreparedBlock, Tables, report_tables, report_time};
use crate::store::{Epoch, EstablishError, Evaluation, Rebuild};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::Storage;

impl<S: Storage> Pipeline<S> {
    /// Adds the rows of reports that need no evaluation, and writes the others to a file, so that edges need not keep
    /// them. Waits while too much is pending.
    pub(super) async fn set_reports_apart(&self, prepared: &mut PreparedBlock) {
        let reports = std::mem::take(&mut prepared.reports);
        let (pending, noted): (Vec<_>, Vec<_>) =
            reports.into_iter().partition(Report::needs_evaluation);
        let located: Vec<LocatedEvent<'_>> = noted.iter().filter_map(Report::read).collect();
        if !located.is_empty() {
            prepared.add_reports(&located, &vec![Verdict::Noted; located.len()]);
        }
        if pending.is_empty() {
            return;
        }
        self.reports.room().await;
        let (token, pending) = (Arc::new(prepared.token.clone()), Arc::new(pending));
        let kept = self.retry_until_ok(Dependency::Disk, || {
            let (files, token) = (self.report_files.clone(), Arc::clone(&token));
            let pending = Arc::clone(&pending);
            run_blocking::<S, _>(move || files.write(&token, &pending))
        });
        self.reports.add(kept.await);
    }

    /// Evaluates pending reports and inserts their rows, one file after another.
    pub(super) async fn evaluate(&self, tables: &impl Tables) -> Result<(), FatalError> {
        loop {
            let pending = self.reports.first().await;
            let epoch = self.establish(tables).await?;
            if let Some(reports) = self.read(&pending).await {
                self.evaluate_block(tables, epoch, &pending.token, &reports)
                    .await;
            }
            let token = Arc::new(pending.token);
            self.retry_until_ok(Dependency::Disk, || {
                let (files, token) = (self.report_files.clone(), Arc::clone(&token));
                run_blocking::<S, _>(move || files.remove(&token))
            })
            .await;
            self.reports.remove(&token);
        }
    }

    async fn read(&self, pending: &PendingReports) -> Option<Vec<Report>> {
        let token = Arc::new(pending.token.clone());
        let read = self.retry_until_ok(Dependency::Disk, || {
            let (files, token) = (self.report_files.clone(), Arc::clone(&token));
            run_blocking::<S, _>(move || files.read(&token))
        });
        let read = read.await;
        if read.is_none() {
            self.metrics.set_aside.inc();
            tracing::error!(block = %token, "set aside a damaged report file; edges no longer have its reports");
        }
        read
    }

    /// Opens the store, and checks that it continues the state in ClickHouse.
    pub(super) async fn establish(&self, history: &impl History) -> Result<Epoch, FatalError> {
        let attempt = async || match self
            .conversion_store
            .establish(history, Rebuild::Forbidden)
            .await
        {
            Ok(established) => Ok(Ok(established.epoch)),
            Err(error @ EstablishError::Empty(_)) => {
                Ok(Err(FatalError::EmptyStore(error.to_string())))
            }
            Err(error) => Err(error),
        };
        self.retry_until_ok(Dependency::Store, attempt).await
    }

    /// Evaluates a file and inserts its rows. May be repeated after a crash: the same reports always get the same
    /// verdicts, and their rows have one token.
    async fn evaluate_block(
        &self,
        tables: &impl Tables,
        epoch: Epoch,
        token: &str,
        reports: &[Report],
    ) {
        let located: Vec<LocatedEvent<'_>> = reports.iter().filter_map(Report::read).collect();
        let evaluated = self.retry_until_ok(Dependency::Store, || {
            self.conversion_store.evaluate(&located)
        });
        let evaluated = evaluated.await;
        let stored = self.stored(tables, epoch, &located, &evaluated).await;
        let fresh = located.into_iter().zip(evaluated);
        let (located, verdicts): (Vec<_>, Vec<_>) = fresh
            .filter(|(located, _)| !stored.contains(&place_of(located)))
            .map(|(located, evaluation)| (located, evaluation.verdict))
            .unzip();
        let token = format!("{token}-reports");
        for (table, columns) in &report_tables(&located, &verdicts, epoch.number) {
            self.insert_table(Dependency::ReportTables, tables, table, &token, columns)
                .await;
        }
        let times: Vec<u64> = located.iter().map(report_time).collect();
        self.observe_freshness(&times);
    }

    /// The reports whose rows ClickHouse already has. Tokens don't suffice: an event that an edge sent again, for
    /// example after the loss of the spool, is in another block.
    async fn stored(
        &self,
        history: &impl History,
        epoch: Epoch,
        located: &[LocatedEvent<'_>],
        evaluated: &[Evaluation],
    ) -> BTreeSet<EventPlace> {
        let doubtful: Vec<EventPlace> = located
            .iter()
            .zip(evaluated)
            .filter(|(located, it)| it.is_repeated || epoch.may_follow(report_time(located)))
            .map(|(located, _)| place_of(located))
            .collect();
        if doubtful.is_empty() {
            return BTreeSet::new();
        }
        self.retry_until_ok(Dependency::ReportTables, || history.stored(&doubtful))
            .await
    }
}

fn place_of(located: &LocatedEvent<'_>) -> EventPlace {
    EventPlace {
        node: located.key.node,
        lane: located.key.lane,
        journal: located.key.journal,
        seq: located.seq,
        time: report_time(located),
    }
}
