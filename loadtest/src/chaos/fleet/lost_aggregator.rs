//! An aggregator that is killed and loses its spool, its store, or has an older backup of the store put back.

use std::fs;

use anyhow::Context as _;

use super::{Fleet, until};
use crate::chaos::hand::Around;
use crate::chaos::relay::Way;
use crate::chaos::toll::Toll;
use crate::stack::wait_for_tables;
use crate::traffic::Random;
use crate::verify;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Spool,
    /// It is made again from ClickHouse.
    Store,
    /// A backup from before the last reports is put back.
    StoreButForBackup,
}

impl Fleet<'_> {
    /// Reports arrive, the aggregator is lost, and further reports of the same sales follow.
    pub(super) fn lose_aggregator(
        &mut self,
        random: &mut Random,
        around: Around<'_>,
    ) -> anyhow::Result<Toll> {
        let losses = [Loss::Spool, Loss::Store, Loss::StoreButForBackup];
        let loss = losses[self.turn as usize % losses.len()];
        let analyst = self.analyst()?;
        let sales = self.sales.as_deref_mut().context("sales are simulated")?;
        sales.begin();
        sales.report(random)?;
        let mut toll = Toll {
            contradicted: sales.compare(&analyst)?,
            ..Toll::of_kills(1)
        };
        let data = self.stack.dir().join("aggregator");
        let backup = self
            .stack
            .dir()
            .join(format!("backup-{}", random.below(u64::MAX)));
        let to = backup.display().to_string();
        if loss == Loss::StoreButForBackup {
            self.stack
                .aggregator
                .run_command(&["backup", "--to", &to])?;
            sales.report(random)?;
            toll.contradicted += sales.compare(&analyst)?;
        }
        let admin = self.stack.aggregator_admin_url.clone();
        // Reports that were acknowledged and not evaluated are nowhere else.
        until("all reports are evaluated", || {
            Ok(verify::counter(&admin, "aggregator_pending_reports")? == 0.0)
        })?;
        if loss == Loss::Spool {
            self.settle(around)?;
        }
        self.stack.aggregator.kill9()?;
        match loss {
            Loss::Spool => fs::remove_dir_all(data.join("spool"))?,
            Loss::Store => {
                fs::remove_dir_all(data.join("store"))?;
                self.stack.aggregator.run_command(&["rebuild-store"])?;
            }
            Loss::StoreButForBackup => {
                fs::remove_dir_all(data.join("store"))?;
                self.stack
                    .aggregator
                    .run_command(&["restore", "--from", &to])?;
            }
        }
        self.stack.aggregator.restart()?;
        around.packets.set([Way::default(); 2]);
        wait_for_tables(&admin, self.stack.dir())?;
        let sales = self.sales.as_deref_mut().context("sales are simulated")?;
        sales.report(random)?;
        toll.contradicted += sales.compare(&analyst)?;
        Ok(toll)
    }

    /// Nothing more reaches the aggregator, and edges know what it has: of blocks that ClickHouse took and no edge
    /// was told of, a lost spool may double a second's worth.
    fn settle(&self, around: Around<'_>) -> anyhow::Result<()> {
        let cut = Way {
            cut: true,
            ..Way::default()
        };
        around.packets.set([cut, Way::default()]);
        let admin = &self.stack.aggregator_admin_url;
        let level = |name| verify::counter(admin, name);
        until("edges know what ClickHouse has", || {
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
