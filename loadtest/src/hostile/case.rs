//! A request and what must come of it, which whoever made it knows.

use super::postbacks::Claim;
use super::random::Random;
use super::request::Request;

/// A request with what must come of it.
#[derive(Debug)]
pub(super) struct Case {
    /// What kind it is of.
    pub(super) kind: &'static str,
    /// As it is sent.
    pub(super) bytes: Vec<u8>,
    pub(super) expect: Expect,
    pub(super) key: Key,
    /// Whether the answer to it has no body.
    pub(super) head: bool,
    /// Whether it goes over a connection of its own, which the edge may close after its answer.
    pub(super) alone: bool,
    /// How often it is sent.
    pub(super) times: u32,
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// It is authentic, and answered with this text.
    Taken(&'static str),
    /// It is refused by one of these numbers.
    Refused(&'static [u16]),
    /// It was changed at random. If it is still authentic it may be taken.
    Either { authentic: bool },
    /// It is not HTTP: it is refused, or the connection closed.
    Broken,
}

/// By what the tables know it, if it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
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
            key: Key::None,
            head: request.method == "HEAD",
            alone: false,
            times: 1,
        }
    }

    pub(super) fn known_as(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    pub(super) const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub(super) const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}
