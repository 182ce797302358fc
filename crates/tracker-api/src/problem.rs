//! The numbered reasons for which the internal API does not take a message.

crate::numbered_reasons! {
    /// Why a message is not taken. Numbers are never given to another reason.
    pub enum Problem: u16;

    /// The request has no token, or one that is not the edge's.
    NotAuthorized = 350, "not_authorized", 401;
    /// The method is not POST, or the path is not one of a message.
    UnknownMessage = 351, "unknown_message", 404;
    /// The body is not a message of this kind.
    MalformedMessage = 352, "malformed_message", 400;
    /// The body is longer than a message may be, or the event than an event may be.
    MessageTooLarge = 353, "message_too_large", 413;
    /// The journal could not make it durable; to be sent again.
    NotDurable = 354, "not_durable", 503;
    /// The body was not received in time.
    MessageTooSlow = 355, "message_too_slow", 408;
    /// As many messages are being received as may be at once; to be sent again.
    TooManyMessages = 356, "too_many_messages", 503;
    /// The edge's clock is not trusted, so that it can't say when something happened; to be sent again.
    ApiClockWrong = 357, "api_clock_wrong", 503;
}

impl Problem {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_lists_all_problems_in_order() {
        let readme = include_str!("../../../README.md");
        let mut rest = readme;
        for problem in Problem::ALL {
            let (number, name, status) = (problem.number(), problem.name(), problem.status());
            let row = format!("| {number} | `{name}` | {status} | ");
            let at = rest.find(&row).unwrap_or_else(|| panic!("{row}"));
            rest = &rest[at..];
        }
    }
}
