//! What a batch claims about its events, against its bytes.

use super::refusal::End;
use event_journal::frame_bytes;
use event_shipping::{BatchHeader, RefuseCode};
use tracking_events::MIN_EVENT_BYTES;

/// No event takes fewer bytes of a batch, before compression.
const MIN_FRAME_BYTES: u64 = frame_bytes(MIN_EVENT_BYTES) as u64;

/// Refuses a batch that claims more events than its bytes can hold.
pub(super) fn check(header: &BatchHeader) -> Result<(), End> {
    let BatchHeader {
        events, raw_bytes, ..
    } = *header;
    if u64::from(events) * MIN_FRAME_BYTES <= u64::from(raw_bytes) {
        return Ok(());
    }
    let why = format!(
        "{events} events can't lie in {raw_bytes} bytes of frames: each takes {MIN_FRAME_BYTES} or more"
    );
    Err(End::refuse(RefuseCode::Header, why))
}
