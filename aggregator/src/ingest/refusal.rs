//! Why a connection ended, and the message about it for the edge.

use event_shipping::{
    InvalidHeader, OfferError, OpenError, ReadError, Refuse, RefuseCode, WireError,
};

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// The edge or the network closed it.
    Gone(String),
    /// The aggregator refused the edge, which gets code and message.
    Refused(RefuseCode, String),
    /// A newer connection sends the same journal.
    Superseded {
        /// The node of both connections.
        node: u16,
        /// The description of the newer connection.
        newer: String,
    },
}

impl ConnectionEnd {
    pub(super) fn refuse(code: RefuseCode, message: impl ToString) -> Self {
        Self::Refused(code, message.to_string())
    }

    /// Code and message for the edge, unless the connection is lost.
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

/// The message for the edge.
pub(super) fn message(code: RefuseCode, message: &str) -> Refuse {
    Refuse {
        code: code.number(),
        message: message.to_owned(),
    }
}

impl From<ReadError> for ConnectionEnd {
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

impl From<InvalidHeader> for ConnectionEnd {
    fn from(error: InvalidHeader) -> Self {
        Self::refuse(RefuseCode::Header, error)
    }
}

impl From<OpenError> for ConnectionEnd {
    fn from(error: OpenError) -> Self {
        Self::refuse(RefuseCode::Checksum, error)
    }
}

impl From<OfferError> for ConnectionEnd {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::UnknownLane(cause) => Self::refuse(RefuseCode::UnknownLane, cause),
            OfferError::Gap(cause) => Self::refuse(RefuseCode::Gap, cause),
            OfferError::TooManyLanes(cause) => Self::refuse(RefuseCode::TooManyLanes, cause),
        }
    }
}
