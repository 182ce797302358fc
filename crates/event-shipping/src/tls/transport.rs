//! QUIC limits: two streams, for events and for the configuration, both opened by the edge; bounded windows, and an
//! idle timeout.

use quinn::{TransportConfig, VarInt};
use std::time::Duration;

/// The time without received packets after which a connection is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval of packets that keep an idle connection open.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// Unread bytes of batches that the aggregator buffers per edge: at a round trip of 100 ms this still
/// allows 40 MB/s.
const BATCH_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Unread bytes that the edge buffers per stream; acknowledgements are small.
const ACK_WINDOW_BYTES: u32 = 256 * 1024;

/// The streams that an edge may open at a time.
const STREAMS: u32 = 2;

pub(super) fn edge() -> TransportConfig {
    let mut transport = common(ACK_WINDOW_BYTES, BATCH_WINDOW_BYTES);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport
}

pub(super) fn aggregator() -> TransportConfig {
    let mut transport = common(BATCH_WINDOW_BYTES, ACK_WINDOW_BYTES);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS));
    transport
}

fn common(receive: u32, send: u32) -> TransportConfig {
    let idle = u32::try_from(IDLE_TIMEOUT.as_millis()).expect("10,000 fits");
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(VarInt::from_u32(idle).into()))
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(receive))
        // A stream that is not read leaves the other one its window.
        .receive_window(VarInt::from_u32(STREAMS * receive))
        .send_window(u64::from(send));
    transport
}
