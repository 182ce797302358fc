//! A request with its expected result, which the builder of the request determines.

use super::postbacks::Claim;
use super::random::Random;
use super::request::Request;

#[derive(Debug)]
pub(super) struct Case {
    /// The kind of request, for reports.
    pub(super) kind: &'static str,
    /// The bytes to send.
    pub(super) bytes: Vec<u8>,
    pub(super) expect: Expect,
    pub(super) key: StoredKey,
    /// Whether the response has no body.
    pub(super) head: bool,
    /// Whether it needs its own connection, which the edge may close after the response.
    pub(super) send_alone: bool,
    /// How many times it is sent.
    pub(super) times: u32,
}

/// The expected result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// It is authentic, and the response has this text.
    Accepted(&'static str),
    /// It is rejected with one of these numbers.
    Refused(&'static [u16]),
    /// It was changed at random. It may be accepted only if it is still authentic.
    Mutated { authentic: bool },
    /// It is not HTTP: it is rejected, or the connection is closed.
    NotHttp,
}

/// How the tables identify an accepted request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoredKey {
    None,
    Transaction(String, Claim),
    Delivery(String),
}

impl Case {
    pub(super) fn new(
        kind: &'static str,
        request: &Request,
        expect: Expect,
        random: &mut Random,
    ) -> Self {
        Self {
            kind,
            bytes: request.bytes(random),
            expect,
            key: StoredKey::None,
            head: request.method == "HEAD",
            send_alone: false,
            times: 1,
        }
    }

    pub(super) fn stored_as(mut self, key: StoredKey) -> Self {
        self.key = key;
        self
    }

    pub(super) const fn send_alone(mut self) -> Self {
        self.send_alone = true;
        self
    }

    pub(super) const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}
