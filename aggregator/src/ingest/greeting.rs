//! The response to a `Hello`, and metrics and logs about its claims.

use super::Shared;
use event_shipping::{ClaimResult, Hello, LaneKey, TooManyLanes, Welcome};

/// The positions of an edge's lanes.
///
/// A claim is only the edge's own word. It changes no state here, nor the response about a known lane. An edge with
/// acknowledged events that this aggregator does not know (its directory was restored from an older copy) continues
/// with another journal id.
pub(super) fn welcome(hello: &Hello, shared: &Shared) -> Result<Welcome, TooManyLanes> {
    let greeting = shared.ingest_queue.hello(hello)?;
    let metrics = &shared.metrics;
    for (lane, state, claim) in greeting.unconfirmed {
        let key = LaneKey {
            node: hello.node,
            lane: lane.lane,
            journal: lane.journal,
        };
        if claim == ClaimResult::Ignored {
            metrics.claims.with_label_values(&["ignored"]).inc();
            tracing::error!(
                lane = %key,
                received = state.received,
                claimed = lane.acknowledged,
                released = lane.released,
                "ignored an edge's claim that more of a lane was acknowledged than was received here; was this data \
                 directory restored from an older copy, or is the edge compromised?"
            );
        } else {
            metrics.claims.with_label_values(&["accepted"]).inc();
            tracing::warn!(
                lane = %key,
                claimed = lane.acknowledged,
                released = lane.released,
                "an unknown lane continues after the sequence that its edge claims was acknowledged"
            );
        }
    }
    for lane in &greeting.welcome.lanes {
        let key = LaneKey {
            node: hello.node,
            lane: lane.lane,
            journal: lane.journal,
        };
        metrics.lane(key, *lane, shared.ingest_queue.held_events(key));
    }
    metrics.known_lanes(greeting.known_lanes);
    Ok(greeting.welcome)
}
