//! All simulated edges of a run, connected to one aggregator.

use super::edge::{Edge, Shipped};
use super::schedule::ClickSchedule;
use crate::bench::client::LoadMode;
use crate::stack::Stack;
use anyhow::Context as _;
use event_shipping::tls::{self, Subject};
use std::time::Instant;
use tokio::task::JoinSet;
use tracking_events::{Micros, NodeId};

/// Connected edges that have sent no batch yet.
pub(super) struct Fleet(Vec<Edge>);

impl Fleet {
    /// Connects this many edges, numbered from 1, to the aggregator of `stack`.
    pub(super) async fn connect(edges: u16, stack: &Stack) -> anyhow::Result<Self> {
        let mut fleet = Vec::new();
        for node in 1..=edges {
            let dir = stack.tls.join(format!("edge-{node}"));
            let identity = tls::load_or_create(&dir, &Subject::Edge(vec![node]))?;
            let tls = identity.client_config()?;
            let edge = Edge::connect(NodeId(node), stack.aggregator_address, tls).await;
            fleet.push(edge.with_context(|| format!("edge {node}"))?);
        }
        Ok(Self(fleet))
    }

    /// Sends `clicks` in equal shares and waits until the aggregator has acknowledged all of them as stored in
    /// ClickHouse.
    pub(super) async fn ship(self, clicks: u64, load_mode: LoadMode) -> anyhow::Result<Shipped> {
        let schedule = ClickSchedule {
            edges: u16::try_from(self.0.len())?,
            clicks,
            load_mode,
            start: (Instant::now(), Micros::now()),
        };
        let mut shipping = JoinSet::new();
        for (edge, number) in self.0.into_iter().zip(0..) {
            let share = schedule.share(number);
            shipping.spawn(async move {
                let shipped = edge.ship(share).await;
                shipped.with_context(|| format!("edge {}", number + 1))
            });
        }
        let mut all = Shipped::default();
        while let Some(shipped) = shipping.join_next().await {
            all.add(shipped??);
        }
        Ok(all)
    }
}
