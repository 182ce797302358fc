//! Limits failed authentications at functions: beyond a number a minute, a network gets 429 and no function is called
//! for it. So secrets can't be guessed fast, and guessing causes no load.

use crate::network_quota::NetworkQuota;
use crate::visitor::address::Network;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_secs(60);
/// Rejection reasons for failed authentication: `unknown_advertiser`, `not_authentic`, `kyc_bad_signature`.
const AUTHENTICATION_REASONS: [u16; 3] = [101, 103, 202];

/// Counts failures by network.
#[derive(Debug, Clone)]
pub(super) struct FailureLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    networks: NetworkQuota,
    started: Instant,
}

impl FailureLimit {
    /// At most `limit` failures of a network a minute.
    pub(super) fn new(limit: u32) -> Self {
        Self(Arc::new(Inner {
            networks: NetworkQuota::new(limit),
            started: Instant::now(),
        }))
    }

    /// Whether a function may be called for `client`.
    pub(super) fn admits(&self, client: IpAddr) -> bool {
        let counters = self.0.networks.counters_of(Network::of(client));
        self.0.networks.has_room(counters, self.period())
    }

    /// Counts a rejection of a request from `client`, if its reason is a failed authentication.
    pub(super) fn rejected(&self, client: IpAddr, reason: u16) {
        if AUTHENTICATION_REASONS.contains(&reason) {
            let counters = self.0.networks.counters_of(Network::of(client));
            self.0.networks.add(counters, self.period());
        }
    }

    fn period(&self) -> u64 {
        self.0.started.elapsed().as_secs() / PERIOD.as_secs()
    }
}
