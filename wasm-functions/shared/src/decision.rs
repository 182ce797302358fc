//! What is decided about a request: a message for the edge, or a refusal and what is recorded of it.

use crate::{Reason, Request};
use tracker_api::Rejection;

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<T> {
    /// Report the message; once that is durable, answer with the text.
    Accept(T, String),
    /// Answer with the text; there is nothing to report.
    Acknowledge(String),
    /// Answer with the refusal, and record it.
    Refuse(Box<Refused>),
}

/// A reason, and what exactly was wrong. Values that were sent are in neither text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The numbered reason.
    pub reason: Reason,
    /// What is said to who sent the request, such as a parameter's name.
    pub told: String,
    /// What operators are told.
    pub recorded: String,
}

/// A refusal, ready to be answered and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status code.
    pub status: u16,
    /// The answer's text.
    pub answer: String,
    /// What is recorded.
    pub rejection: Rejection<'static>,
}

impl Reason {
    /// With what exactly was wrong.
    pub fn because(self, detail: impl Into<String>) -> Refusal {
        let told = detail.into();
        Refusal {
            reason: self,
            recorded: told.clone(),
            told,
        }
    }
}

impl Refusal {
    /// Tells operators more than who sent the request.
    #[must_use]
    pub fn recorded(self, recorded: String) -> Self {
        Self { recorded, ..self }
    }

    /// The refusal by the function `source` of a request of `party`, which is shown as `shown`.
    #[must_use]
    pub fn of(
        self,
        source: &'static str,
        party: &str,
        shown: String,
        request: &Request,
    ) -> Refused {
        let (reason, told) = (self.reason, self.told);
        Refused {
            status: reason.status(),
            answer: format!("refused: {} {}: {told}\n", reason.number(), reason.name()),
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
