//! Spans of batches in flight, for the export of traces: from the first byte sent to the acknowledgement.

use daemon::traces::SPAN_TARGET;
use event_shipping::Batch;
use tracing::field::Empty;
use tracing::{Span, trace_span};

/// The spans of batches that are not acknowledged yet; empty while no spans are exported.
#[derive(Debug, Default)]
pub(super) struct BatchSpans {
    in_flight: Vec<BatchSpan>,
}

#[derive(Debug)]
struct BatchSpan {
    lane: u8,
    last: u64,
    span: Span,
}

impl BatchSpans {
    pub(super) fn sent(&mut self, batch: &Batch) {
        let (header, bytes) = (&batch.header, batch.payload.len());
        let (lane, first, last) = (header.lane, header.first, header.last);
        let span = trace_span!(target: SPAN_TARGET, "ship batch", lane, first, last, bytes, outcome = Empty);
        if !span.is_disabled() {
            self.in_flight.push(BatchSpan { lane, last, span });
        }
    }

    pub(super) fn acknowledged(&mut self, lane: u8, through: u64) {
        let is_acknowledged = |it: &mut BatchSpan| it.lane == lane && it.last <= through;
        for batch in self.in_flight.extract_if(.., is_acknowledged) {
            batch.span.record("outcome", "acknowledged");
        }
    }

    /// Batches in flight are sent again.
    pub(super) fn disconnected(&mut self) {
        for batch in self.in_flight.drain(..) {
            batch.span.record("outcome", "disconnected");
        }
    }
}
