//! QUIC's limits: one stream, opened by the edge; bounded windows; silence ends a connection.

use quinn::{TransportConfig, VarInt};
use std::time::Duration;

/// A connection without a sign of life is closed after this.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// An idle connection is kept open by a packet this often.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Bytes of batches on their way that the aggregator holds unread per edge: at 100 ms of round trip
/// this still allows 40 MB/s.
const BATCH_WINDOW: u32 = 4 * 1024 * 1024;

/// Bytes towards the edge that it holds unread; acknowledgements are small.
const ANSWER_WINDOW: u32 = 256 * 1024;

pub(super) fn edge() -> TransportConfig {
    let mut transport = common(ANSWER_WINDOW, BATCH_WINDOW);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport
}

pub(super) fn aggregator() -> TransportConfig {
    let mut transport = common(BATCH_WINDOW, ANSWER_WINDOW);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    transport
}

fn common(receive: u32, send: u32) -> TransportConfig {
    let idle = u32::try_from(IDLE_TIMEOUT.as_millis()).expect("10,000 fits");
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(VarInt::from_u32(idle).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(receive))
        .receive_window(VarInt::from_u32(receive))
        .send_window(u64::from(send));
    transport
}
