//! Stage 3, derive visitor.
//!
//! Input: the peer, a parsed request and the time. Output: the visitor: address, place, agent,
//! language, ids and parameters. Invariant: nothing here is a reason for refusal, no visit is remembered, and
//! the link is neither known nor used.

use super::EdgeState;
use super::parse::ParsedRequest;
use crate::query::{self, Query};
use crate::request;
use crate::visitor::address;
use crate::visitor::agent::{Agent, WorkerCache};
use crate::visitor::geo::Location;
use crate::visitor::identity::{Identity, VisitorIds};
use domain::{CostMicros, Micros};
use std::borrow::Cow;
use std::net::IpAddr;
use tracking_events::Flags;

/// The worker's caches and buffers for visitors.
#[derive(Debug)]
pub(super) struct VisitorDeriver {
    agents: WorkerCache,
    identity: Identity,
    query: Query,
    language: String,
}

/// The visitor of one request.
pub(super) struct Visitor<'r> {
    pub(super) address: IpAddr,
    /// The address as it is stored.
    pub(super) stored_address: [u8; 16],
    pub(super) place: Location,
    pub(super) agent: &'r Agent,
    pub(super) language: &'r str,
    pub(super) ids: VisitorIds,
    pub(super) referrer: Cow<'r, str>,
    pub(super) cost: CostMicros,
    pub(super) query: &'r Query,
    /// The query as it was sent.
    pub(super) raw_query: &'r str,
    /// Whether the browser loads the link ahead of its user, and again after an error response.
    pub(super) is_speculative: bool,
    pub(super) flags: Flags,
}

impl VisitorDeriver {
    pub(super) fn new(shared: &EdgeState) -> Self {
        Self {
            agents: WorkerCache::new(&shared.agents),
            identity: shared.identity.clone(),
            query: Query::default(),
            language: String::new(),
        }
    }

    /// The visitor behind `peer` that sent `request` at `time`.
    pub(super) fn derive<'r>(
        &'r mut self,
        peer: IpAddr,
        request: &ParsedRequest<'r>,
        time: Micros,
        shared: &EdgeState,
    ) -> Visitor<'r> {
        let headers = &request.headers;
        let address = shared.client_address.resolve(peer, headers.hops());
        let (agent, agent_cut) = self
            .agents
            .get(headers.agent(), headers.hints(), &shared.agents);
        request::language(headers, &mut self.language);
        let raw_query = request.uri.query().unwrap_or_default();
        self.query.read(raw_query, shared.max_parameter_bytes);
        let query = &self.query;
        let (referrer, referrer_cut) = referrer(request, query);
        let cost = query.cost();
        let mut flags = request.flags;
        flags.insert(agent.marks());
        for (mark, applies) in [
            (
                Flags::TRUNCATED,
                referrer_cut || agent_cut || query.truncated(),
            ),
            (Flags::MALFORMED_QUERY, query.malformed()),
            (Flags::BAD_COST, cost.is_none()),
        ] {
            if applies {
                flags.insert(mark);
            }
        }
        Visitor {
            address,
            stored_address: address::store(address, shared.address_storage),
            place: shared.geo.lookup(address),
            ids: self.identity.ids_of(time, address, &agent.digest),
            agent,
            language: &self.language,
            referrer,
            cost: cost.unwrap_or_default(),
            query,
            raw_query,
            is_speculative: headers.is_speculative(),
            flags,
        }
    }
}

/// The `referrer` parameter, else the `Referer` header, and whether it was truncated.
fn referrer<'r>(request: &ParsedRequest<'r>, query: &'r Query) -> (Cow<'r, str>, bool) {
    match query.referrer() {
        "" => truncate(request.headers.referrer(), query::MAX_REFERRER_BYTES),
        own => (Cow::Borrowed(own), false),
    }
}

fn truncate(text: Cow<'_, str>, max: usize) -> (Cow<'_, str>, bool) {
    match text {
        Cow::Borrowed(text) => {
            let (kept, cut) = query::truncate(text, max);
            (Cow::Borrowed(kept), cut)
        }
        Cow::Owned(mut text) => {
            let (kept, cut) = query::truncate(&text, max);
            text.truncate(kept.len());
            (Cow::Owned(text), cut)
        }
    }
}
