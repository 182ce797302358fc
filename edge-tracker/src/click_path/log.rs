//! Stage 6, log.
//!
//! Input: a click whose response is rendered. Output: its event in the journal and its visit in the filters.
//! Invariant: when this stage has ended, the event is accepted or counted as lost with its reason; the response is
//! the same in both cases.

use super::Click;
use crate::metrics::WorkerMetrics;
use crate::unique::{Filters, Uniqueness};
use crate::visitor::address::Network;
use arc_swap::{ArcSwap, Cache};
use domain::{LaneId, LinkId, Micros, NodeId, Seq};
use event_journal::LaneWriter;
use std::sync::Arc;
use std::time::Instant;
use tracking_events::{ClickId, ClickIdParts, Event, Flags, KeyRing, Link, MAX_EVENT_BYTES, Visit};

/// The worker's lane of the journal, and the keys of its click ids.
#[derive(Debug)]
pub(super) struct EventLog {
    lane: LaneWriter,
    keys: Cache<Arc<ArcSwap<KeyRing>>, Arc<KeyRing>>,
}

impl EventLog {
    pub(super) fn new(lane: LaneWriter, keys: Arc<ArcSwap<KeyRing>>) -> Self {
        Self {
            lane,
            keys: Cache::new(keys),
        }
    }

    /// The signed id of the next event.
    pub(super) fn next_id(&mut self, node: NodeId, time: Micros, link: LinkId) -> ClickId {
        self.keys.load().sign(ClickIdParts {
            time,
            node,
            lane: LaneId(self.lane.lane()),
            seq: Seq(self.lane.next_seq()),
            link,
        })
    }

    /// Remembers the visit and appends its event, which was parsed at `parsed`.
    pub(super) fn append(
        &mut self,
        click: &Click<'_>,
        filters: &Filters,
        metrics: &WorkerMetrics,
        parsed: Instant,
    ) {
        let mut visit = visit(click);
        remember(click, filters, &mut visit);
        metrics.marked(visit.flags);
        let event: Event<'_> = click.link.event(visit);
        match self.lane.append(MAX_EVENT_BYTES, |room| {
            tracking_events::encode(&event, room).ok()
        }) {
            Ok(_) => metrics.observe_click_log(parsed.elapsed()),
            Err(error) => metrics.lost(error.reason()),
        }
    }
}

fn visit<'a>(click: &'a Click<'_>) -> Visit<'a> {
    let (link, visitor) = (click.link.link, &click.visitor);
    let mut flags = visitor.flags;
    flags.insert(click.decision.flags);
    flags.insert(click.now.flags);
    Visit {
        id: click.id,
        time: click.now.time,
        link: Link {
            id: link.id,
            slug: click.link.target.slug(),
            offer: &link.offer,
            campaign: &link.campaign,
            affiliate: &link.affiliate,
        },
        visitor: visitor.ids.current,
        flags,
        status: click.decision.status().as_u16(),
        address: visitor.stored_address,
        geo: visitor.place.as_event(),
        agent: visitor.agent.as_event(),
        language: visitor.language,
        host: click.link.host,
        referrer: &visitor.referrer,
        source: visitor.query.source(),
        external_id: visitor.query.external_id(),
        cost: visitor.cost,
        subs: visitor.query.subs(),
    }
}

/// Marks the visit as repeated or of unknown uniqueness. Visits that are not counted are not remembered: a prefetch
/// must not make the visit that follows a repeat.
fn remember(click: &Click<'_>, filters: &Filters, visit: &mut Visit<'_>) {
    if !visit.counted() {
        return;
    }
    let visitor = &click.visitor;
    let network = Network::of(visitor.address);
    let used = click.link.link_use();
    match filters.check_and_set(click.now.estimate, used, &visitor.ids, network) {
        Uniqueness::Unique => {}
        Uniqueness::Repeated => visit.flags.insert(Flags::REPEATED),
        Uniqueness::Unknown => visit.flags.insert(Flags::UNIQUENESS_UNKNOWN),
    }
}
