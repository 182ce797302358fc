//! Compares the claims of a batch's header with its bytes.

use super::refusal::ConnectionEnd;
use event_journal::frame_bytes;
use event_shipping::{BatchHeader, RefuseCode};
use tracking_events::MIN_EVENT_BYTES;

/// The minimal size of an event in a batch, before compression.
const MIN_FRAME_BYTES: u64 = frame_bytes(MIN_EVENT_BYTES) as u64;

/// Refuses a batch that claims more events than its bytes can contain.
pub(super) fn check(header: &BatchHeader) -> Result<(), ConnectionEnd> {
    let BatchHeader {
        events, raw_bytes, ..
    } = *header;
    if u64::from(events) * MIN_FRAME_BYTES <= u64::from(raw_bytes) {
        return Ok(());
    }
    let why = format!(
        "{events} events don't fit into {raw_bytes} bytes of frames: each needs {MIN_FRAME_BYTES} or more"
    );
    Err(ConnectionEnd::refuse(RefuseCode::Header, why))
}
