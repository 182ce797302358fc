//! The outcome of an attempt for the postback and its receiver, by its response or the lack of one.

use super::super::client::{PostbackResponse, SendError};
use crate::store::{Attempt, AttemptOutcome, EndpointHealth, LeasedPostback};
use daemon::backoff::Backoff;
use domain::Micros;
use http::StatusCode;
use std::time::Duration;

/// The longest pause between two attempts at a postback.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(3_600);
/// By how much each pause is longer than the one before.
const RETRY_FACTOR: u32 = 3;
/// A failing receiver is tried again after this long at the latest, to notice when it is back.
const MAX_ENDPOINT_HOLD: Duration = Duration::from_secs(300);

/// Status codes of the client-error class after which a repetition may succeed.
const RETRYABLE_STATUSES: [StatusCode; 3] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
];

/// When a failed postback is sent again, and for how long.
#[derive(Clone, Copy)]
pub(in crate::outgoing) struct RetryPolicy {
    pub(in crate::outgoing) first_retry: Duration,
    pub(in crate::outgoing) give_up_after: Duration,
}

/// A failed attempt.
struct Failure {
    /// The status code of the response; 0 without one.
    status: u16,
    /// The pause that the receiver asks for.
    retry_after: Duration,
    error: String,
}

impl RetryPolicy {
    pub(in crate::outgoing) fn evaluate(
        self,
        postback: LeasedPostback,
        response: Result<PostbackResponse, SendError>,
        now: Micros,
    ) -> Attempt {
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let failure = Failure {
                    status: 0,
                    retry_after: Duration::ZERO,
                    error: error.to_string(),
                };
                return self.failed(postback, now, failure);
            }
        };
        let code = response.status;
        let status = code.as_u16();
        if code.is_server_error() || RETRYABLE_STATUSES.contains(&code) {
            let failure = Failure {
                status,
                retry_after: response.retry_after.unwrap_or_default(),
                error: String::new(),
            };
            return self.failed(postback, now, failure);
        }
        let (outcome, error) = if code.is_success() {
            (AttemptOutcome::Delivered, "")
        } else if code.is_redirection() {
            (
                AttemptOutcome::Refused,
                "one redirect within the same registrable domain is followed: name the address where this one leads",
            )
        } else {
            (AttemptOutcome::Refused, "")
        };
        Attempt {
            status,
            error: error.to_owned(),
            ..finished(postback, outcome, EndpointHealth::Healthy)
        }
    }

    /// To be sent again, unless it was tried for too long.
    fn failed(self, postback: LeasedPostback, now: Micros, failure: Failure) -> Attempt {
        let backoff = Backoff {
            first: self.first_retry,
            factor: RETRY_FACTOR,
            max: MAX_RETRY_PAUSE,
        };
        let Failure {
            status,
            retry_after,
            error,
        } = failure;
        let outcome = if now.since(postback.since) >= self.give_up_after {
            AttemptOutcome::GivenUp
        } else {
            let name = postback.key.name(postback.epoch);
            let pause = backoff.spread_pause(postback.attempts, &name);
            AttemptOutcome::Retry(now.saturating_add(pause.max(retry_after)))
        };
        let failures = postback.failures.saturating_add(1);
        let hold = backoff.spread_pause(failures, &postback.receiver);
        let hold = hold.min(MAX_ENDPOINT_HOLD).max(retry_after);
        let held_until = now.saturating_add(hold);
        Attempt {
            status,
            error,
            ..finished(postback, outcome, EndpointHealth::Failing { held_until })
        }
    }
}

/// An attempt without a response and without an error.
pub(super) fn finished(
    postback: LeasedPostback,
    outcome: AttemptOutcome,
    endpoint_health: EndpointHealth,
) -> Attempt {
    Attempt {
        key: postback.key,
        receiver: postback.receiver,
        outcome,
        status: 0,
        error: String::new(),
        attempts: postback.attempts,
        failures: postback.failures,
        endpoint_health,
    }
}
