//! What is answered to a `Hello`, and what operators learn of its claims.

use super::Shared;
use event_shipping::{ClaimResult, Hello, LaneKey, TooManyLanes, Welcome};

/// Says where the lanes of an edge stand.
///
/// A claim is never taken for more than the edge's own word: it changes nothing that is remembered here, and
/// of a lane that is known it changes the answer neither. An edge whose acknowledged events this aggregator
/// does not know (its directory was restored from an older copy) continues under another journal id.
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
                "an edge claims that more of a lane was acknowledged than was received here; ignored. Was this \
                 data directory restored from an older copy, or does an edge lie?"
            );
        } else {
            metrics.claims.with_label_values(&["accepted"]).inc();
            tracing::warn!(
                lane = %key,
                claimed = lane.acknowledged,
                released = lane.released,
                "a lane that is not known here continues after what its edge says was acknowledged"
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
