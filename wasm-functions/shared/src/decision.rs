//! Decisions on requests: a message for the edge, or a rejection and its record.

use crate::{Reason, Request};
use tracker_api::Rejection;

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<T> {
    /// Report the message; once it is durable, send this response.
    Accept(T, String),
    /// Send this response; there is nothing to report.
    Acknowledge(String),
    /// Send the rejection and record it.
    Refuse(Box<Refused>),
}

/// A reason with details. Neither text contains sent values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The numbered reason.
    pub reason: Reason,
    /// Details for the sender, such as a parameter's name.
    pub explanation: String,
    /// Details for operators.
    pub recorded: String,
}

/// A rejection with its response and its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The response's text.
    pub body: String,
    /// The record.
    pub rejection: Rejection<'static>,
}

impl Reason {
    /// Adds details.
    pub fn because(self, detail: impl Into<String>) -> Refusal {
        let explanation = detail.into();
        Refusal {
            reason: self,
            recorded: explanation.clone(),
            explanation,
        }
    }
}

impl Refusal {
    /// Adds details that only operators see.
    #[must_use]
    pub fn recorded(self, recorded: String) -> Self {
        Self { recorded, ..self }
    }

    /// The rejection by the function `source` of a request of `party`, recorded as `shown`.
    #[must_use]
    pub fn of(
        self,
        source: &'static str,
        party: &str,
        shown: String,
        request: &Request,
    ) -> Refused {
        let (reason, explanation) = (self.reason, self.explanation);
        Refused {
            status: reason.status(),
            body: format!(
                "refused: {} {}: {explanation}\n",
                reason.number(),
                reason.name()
            ),
            rejection: Rejection {
                source: source.into(),
                party: party.to_owned().into(),
                reason: reason.number(),
                reason_name: reason.name().into(),
                detail: self.recorded.into(),
                request: shown.into(),
                status: reason.status(),
                address: request.client_text().into(),
            },
        }
    }
}
