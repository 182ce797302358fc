//! Why a connection is ended, in the terms of the protocol.

use event_shipping::{
    InvalidHeader, OfferError, OpenError, ReadError, Refuse, RefuseCode, WireError,
};

/// The end of a conversation.
#[derive(Debug)]
pub(crate) enum End {
    /// The edge went away, or the network did.
    Gone(String),
    /// The edge is told why.
    Refused(RefuseCode, String),
    /// A newer connection sends the same journal.
    Superseded {
        /// The node of both.
        node: u16,
        /// The newer one's description.
        newer: String,
    },
}

impl End {
    pub(super) fn refuse(code: RefuseCode, message: impl ToString) -> Self {
        Self::Refused(code, message.to_string())
    }

    /// What the edge is told, unless it has gone.
    pub(super) fn refusal(&self) -> Option<(RefuseCode, &str)> {
        match self {
            Self::Gone(_) => None,
            Self::Refused(code, why) => Some((*code, why)),
            Self::Superseded { .. } => Some((
                RefuseCode::Superseded,
                "a newer connection sends the same journal; was this edge's directory copied?",
            )),
        }
    }
}

/// The message that tells the edge.
pub(super) fn message(code: RefuseCode, message: &str) -> Refuse {
    Refuse {
        code: code.number(),
        message: message.to_owned(),
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(cause) => Self::Gone(cause.to_string()),
            ReadError::Wire(cause @ WireError::TooLong { .. }) => {
                Self::refuse(RefuseCode::TooLong, cause)
            }
            ReadError::Wire(cause) => Self::refuse(RefuseCode::Malformed, cause),
        }
    }
}

impl From<InvalidHeader> for End {
    fn from(error: InvalidHeader) -> Self {
        Self::refuse(RefuseCode::Header, error)
    }
}

impl From<OpenError> for End {
    fn from(error: OpenError) -> Self {
        Self::refuse(RefuseCode::Checksum, error)
    }
}

impl From<OfferError> for End {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::UnknownLane(cause) => Self::refuse(RefuseCode::UnknownLane, cause),
            OfferError::Gap(cause) => Self::refuse(RefuseCode::Gap, cause),
            OfferError::TooManyLanes(cause) => Self::refuse(RefuseCode::TooManyLanes, cause),
        }
    }
}
