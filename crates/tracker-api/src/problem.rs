//! The numbered reasons for which the internal API does not take a message.

numbered_reasons::numbered_reasons! {
    /// Why a message is not taken. Numbers are never given to another reason.
    pub enum Problem: u16;

    /// The request has no token, or not one of this edge's tokens. Use the present content of `internal_api.token`.
    NotAuthorized = 350, "not_authorized", 401;
    /// The method is not POST, or the path is not that of a message.
    UnknownMessage = 351, "unknown_message", 404;
    /// The body is not a message of this kind. Functions and edge are of different versions: update the older one.
    MalformedMessage = 352, "malformed_message", 400;
    /// The body is longer than `internal_api.max_message_bytes`, or its event longer than 16 KiB.
    MessageTooLarge = 353, "message_too_large", 413;
    /// The journal has no room, the disk did not sync within 3 s, or the edge is drained. The sender retries.
    NotDurable = 354, "not_durable", 503;
    /// The body took longer than `internal_api.timeout`.
    MessageTooSlow = 355, "message_too_slow", 408;
    /// More messages than `internal_api.max_requests` are being received. The sender retries.
    TooManyMessages = 356, "too_many_messages", 503;
    /// The edge's clock is not trusted, so that it can't date the message. The sender retries; correct the node's
    /// clock.
    ApiClockWrong = 357, "api_clock_wrong", 503;
}
