//! An aggregator that is killed and loses its spool or its store, or gets an older backup of the store restored.

use std::fs;

use anyhow::Context as _;

use super::{Fleet, wait_until};
use crate::chaos::context::FaultContext;
use crate::chaos::counts::FaultCounts;
use crate::chaos::relay::PacketFaults;
use crate::stack::wait_for_tables;
use crate::traffic::Random;
use crate::verify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Spool,
    /// The store is rebuilt from ClickHouse.
    Store,
    /// A backup from before the last reports is restored.
    RestoredStore,
}

impl Fleet<'_> {
    /// Reports arrive, the aggregator loses data, and more reports of the same sales arrive.
    pub(super) fn lose_aggregator(
        &mut self,
        random: &mut Random,
        context: FaultContext<'_>,
    ) -> anyhow::Result<FaultCounts> {
        let losses = [Loss::Spool, Loss::Store, Loss::RestoredStore];
        let loss = losses[self.turn as usize % losses.len()];
        let analyst = self.analyst()?;
        let sales = self.sales.as_deref_mut().context("sales are simulated")?;
        sales.start_sales();
        sales.report(random)?;
        let mut counts = FaultCounts {
            contradicted: sales.compare(&analyst)?,
            ..FaultCounts::with_kills(1)
        };
        let data = self.stack.dir().join("aggregator");
        let backup = self
            .stack
            .dir()
            .join(format!("backup-{}", random.below(u64::MAX)));
        let to = backup.display().to_string();
        if loss == Loss::RestoredStore {
            self.stack
                .aggregator
                .run_command(&["backup", "--to", &to])?;
            sales.report(random)?;
            counts.contradicted += sales.compare(&analyst)?;
        }
        let admin = self.stack.aggregator_admin_url.clone();
        // Acknowledged reports that are not evaluated yet exist only in the spool.
        wait_until("all reports are evaluated", || {
            Ok(verify::counter(&admin, "aggregator_pending_reports")? == 0.0)
        })?;
        if loss == Loss::Spool {
            self.isolate_aggregator(context)?;
        }
        self.stack.aggregator.kill()?;
        match loss {
            Loss::Spool => fs::remove_dir_all(data.join("spool"))?,
            Loss::Store => {
                fs::remove_dir_all(data.join("store"))?;
                self.stack.aggregator.run_command(&["rebuild-store"])?;
            }
            Loss::RestoredStore => {
                fs::remove_dir_all(data.join("store"))?;
                self.stack
                    .aggregator
                    .run_command(&["restore", "--from", &to])?;
            }
        }
        self.stack.aggregator.restart()?;
        context.udp_relay.set([PacketFaults::default(); 2]);
        wait_for_tables(&admin, self.stack.dir())?;
        let sales = self.sales.as_deref_mut().context("sales are simulated")?;
        sales.report(random)?;
        counts.contradicted += sales.compare(&analyst)?;
        Ok(counts)
    }

    /// Cuts the edges off and waits until they know the inserted sequences. If the spool is lost with blocks that
    /// ClickHouse took and edges don't know of, up to a second of clicks is duplicated.
    fn isolate_aggregator(&self, context: FaultContext<'_>) -> anyhow::Result<()> {
        let blocked = PacketFaults {
            drop_all: true,
            ..PacketFaults::default()
        };
        context.udp_relay.set([blocked, PacketFaults::default()]);
        let admin = &self.stack.aggregator_admin_url;
        let level = |name| verify::counter(admin, name);
        wait_until("edges know the inserted sequences", || {
            let received = level("aggregator_lane_received")?;
            let taken = level("aggregator_lane_taken")?;
            let mut acknowledged = 0.0;
            for edge in &self.stack.edge_admin_urls {
                acknowledged +=
                    verify::labelled_counter(edge, "edge_lane_sequence", "acknowledged")?;
            }
            let mut taken_of_edges = 0.0;
            for node in 1..=self.stack.edges.len() {
                let label = format!("node=\"{node}\"");
                taken_of_edges += verify::labelled_counter(admin, "aggregator_lane_taken", &label)?;
            }
            Ok(received == taken && acknowledged >= taken_of_edges)
        })
    }
}
