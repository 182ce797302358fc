//! Attempts in flight, and finished ones whose outcome is not stored yet.

use crate::store::Attempt;
use std::collections::HashMap;
use tokio::task::JoinSet;

#[derive(Default)]
pub(super) struct InFlight {
    attempts: JoinSet<Attempt>,
    by_receiver: HashMap<String, usize>,
    /// Finished attempts, until their outcomes are stored.
    pub(super) finished: Vec<Attempt>,
}

impl InFlight {
    pub(super) fn count(&self) -> usize {
        self.attempts.len()
    }

    pub(super) fn count_at(&self, receiver: &str) -> usize {
        self.by_receiver.get(receiver).copied().unwrap_or(0)
    }

    pub(super) fn start(
        &mut self,
        receiver: String,
        attempt: impl Future<Output = Attempt> + Send + 'static,
    ) {
        *self.by_receiver.entry(receiver).or_default() += 1;
        self.attempts.spawn(attempt);
    }

    /// Returns when at least one attempt has finished; never while there is none.
    pub(super) async fn one_finished(&mut self) {
        match self.attempts.join_next().await {
            Some(attempt) => self.finish(attempt.expect("an attempt does not panic")),
            None => std::future::pending().await,
        }
        self.collect();
    }

    /// Moves attempts that have finished to `finished`.
    pub(super) fn collect(&mut self) {
        while let Some(attempt) = self.attempts.try_join_next() {
            self.finish(attempt.expect("an attempt does not panic"));
        }
    }

    pub(super) async fn all_finished(&mut self) {
        while !self.attempts.is_empty() {
            self.one_finished().await;
        }
    }

    fn finish(&mut self, attempt: Attempt) {
        if let Some(count) = self.by_receiver.get_mut(&attempt.receiver) {
            *count -= 1;
            if *count == 0 {
                self.by_receiver.remove(&attempt.receiver);
            }
        }
        self.finished.push(attempt);
    }
}
