//! The path of a click through one worker: link, visitor, uniqueness, click id, journal, response.
//!
//! Sockets never belong here, nor anything that blocks: a response is sent only after its event was accepted.

mod clock;
mod resolved_target;
mod response;
mod root;

pub use root::{Root, RootPageError};

use crate::functions::Functions;
use crate::links::{Destination, Table, Values};
use crate::metrics::WorkerMetrics;
use crate::query::{self, Query};
use crate::refusal::Refusal;
use crate::request::{self, RequestHeaders};
use crate::shed::{Level, Shed};
use crate::unique::{Filters, LinkUse, Uniqueness};
use crate::visitor::address::{self, AddressStorage, ClientAddress, Network};
use crate::visitor::agent::{Agent, Agents, WorkerCache};
use crate::visitor::geo::{Geo, Location};
use crate::visitor::identity::Identity;
use arc_swap::{ArcSwap, Cache};
use bytes::{Bytes, BytesMut};
use clock::{Clock, Now};
use event_journal::LaneWriter;
use function_host::{Failure, MatchedFunction};
use http::{Request, Response, Uri};
use http_body_util::Full;
use resolved_target::{Outcome, ResolvedTarget};
use response::ClickResponse;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;
use tracking_events::{
    ClickId, ClickIdParts, Event, Flags, KeyRing, LaneId, Link as EventLink, MAX_EVENT_BYTES,
    Micros, NodeId, Seq, Visit, VisitorId,
};
use trusted_clock::{TimeSource, TrustedClock};

/// Capacity for a few locations, one after another.
const LOCATION_BUFFER_BYTES: usize = 4 << 10;

/// The state of an edge that all its workers share.
#[derive(Debug)]
pub struct EdgeState {
    /// This node.
    pub node: NodeId,
    /// The links; each reload replaces the table.
    pub links: Arc<ArcSwap<Table>>,
    /// Looks up countries, regions and autonomous systems.
    pub geo: Geo,
    /// Recognises user agents.
    pub agents: Agents,
    /// Derives visitor ids; each worker has a copy.
    pub identity: Identity,
    /// Remembers visitors for uniqueness.
    pub filters: Filters,
    /// The keys that sign click ids; each reload replaces the ring.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// The time of day and how far it can be trusted.
    pub clock: Arc<TrustedClock>,
    /// Finds the client's address behind trusted proxies.
    pub client_address: ClientAddress,
    /// How much of an address is stored.
    pub address_storage: AddressStorage,
    /// Hosts that are served; empty means any.
    pub hosts: Vec<String>,
    /// Bytes kept of each own parameter.
    pub max_parameter_bytes: usize,
    /// The longest request target, in bytes.
    pub max_url_bytes: usize,
    /// The response of the bare domain.
    pub root: Root,
    /// Functions, if there are any.
    pub functions: Option<Functions>,
}

impl EdgeState {
    /// Writes the request's host into `host` and checks that it is served.
    fn check_host(
        &self,
        uri: &Uri,
        headers: &RequestHeaders<'_>,
        host: &mut String,
    ) -> Result<(), Refusal> {
        let named = request::host(uri, headers, host);
        if self.hosts.is_empty() || (named && self.hosts.contains(host)) {
            Ok(())
        } else {
            Err(Refusal::UnknownHost)
        }
    }
}

/// The click path of one worker; it belongs to one thread.
#[derive(Debug)]
pub struct ClickPath {
    shared: Arc<EdgeState>,
    metrics: WorkerMetrics,
    shed: Cell<Level>,
    state: RefCell<WorkerState>,
}

/// Buffers and caches that requests reuse.
#[derive(Debug)]
struct WorkerState {
    lane: LaneWriter,
    clock: Clock,
    links: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    keys: Cache<Arc<ArcSwap<KeyRing>>, Arc<KeyRing>>,
    agents: WorkerCache,
    identity: Identity,
    query: Query,
    buffers: FormatBuffers,
    location: BytesMut,
}

#[derive(Debug, Default)]
struct FormatBuffers {
    host: String,
    language: String,
    ip: String,
    asn: String,
    timestamp: String,
}

impl ClickPath {
    /// A click path that appends to `lane`.
    #[must_use]
    pub fn new(shared: Arc<EdgeState>, metrics: WorkerMetrics, lane: LaneWriter) -> Self {
        let state = WorkerState {
            lane,
            clock: Clock::new(shared.clock.clone()),
            links: Cache::new(shared.links.clone()),
            keys: Cache::new(shared.keys.clone()),
            agents: WorkerCache::new(&shared.agents),
            identity: shared.identity.clone(),
            query: Query::default(),
            buffers: FormatBuffers::default(),
            location: BytesMut::with_capacity(LOCATION_BUFFER_BYTES),
        };
        Self {
            shared,
            metrics,
            shed: Cell::default(),
            state: RefCell::new(state),
        }
    }

    /// The worker's metrics.
    #[must_use]
    pub const fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// Sets what is shed from now on.
    pub fn set_shed_level(&self, level: Level) {
        self.shed.set(level);
    }

    /// Whether `peer` is a trusted proxy.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.shared.client_address.is_trusted(peer)
    }

    /// Responds to a request from `peer` that was parsed at `parsed`. The event of a redirect or pixel has been
    /// accepted by the journal, or counted as lost with its reason.
    #[must_use]
    pub fn respond<B>(
        &self,
        peer: IpAddr,
        mut request: Request<B>,
        parsed: Instant,
    ) -> Response<Full<Bytes>> {
        if let Some(shed) = self.shed_kind(&request) {
            self.metrics.shed(shed);
            return Refusal::Overloaded.response();
        }
        let response = match self.process(peer, &request, parsed) {
            Ok(response) => response,
            Err(Refusal::UnknownPath) if root::is_requested(&request) => {
                ClickResponse::Root(self.shared.root.clone())
            }
            Err(refusal) => {
                self.metrics.refused(refusal);
                return refusal.response();
            }
        };
        // The response reuses the request's header map: none is allocated.
        let mut headers = std::mem::take(request.headers_mut());
        drop(request);
        headers.clear();
        response.into_http(headers)
    }

    /// The function that `request` from `peer` is routed to, or why it is refused; nothing when no function matches.
    #[must_use]
    pub fn match_function<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Option<Result<MatchedFunction, Refusal>> {
        let functions = self.shared.functions.as_ref()?;
        let path = request.uri().path();
        // Links and pixels are requested far more often, and never routed to a function.
        if matches!(path.as_bytes(), [b'/', b'c' | b'C' | b'i' | b'I', b'/', ..])
            || root::is_requested(request)
        {
            return None;
        }
        let function = functions.find(path)?;
        let checked = self.check_limits(functions, peer, request);
        let checked = checked.inspect_err(|refusal| self.metrics.refused(*refusal));
        Some(checked.map(|()| function))
    }

    /// Checks common to links and functions, and the limit of failed authentications of a network.
    fn check_limits<B>(
        &self,
        functions: &Functions,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Result<(), Refusal> {
        let shared = &*self.shared;
        // Signatures and clicks expire by the clock, and conversions are paid by their time.
        if shared.clock.read().source != TimeSource::System {
            return Err(Refusal::ClockWrong);
        }
        request::check_url_length(request.uri(), shared.max_url_bytes)?;
        let headers = RequestHeaders::find(request.headers(), shared.client_address.header());
        let host = &mut self.state.borrow_mut().buffers.host;
        shared.check_host(request.uri(), &headers, host)?;
        let client = shared.client_address.resolve(peer, headers.hops());
        if functions.admits(client) {
            Ok(())
        } else {
            Err(Refusal::TooManyFailures)
        }
    }

    /// Calls a function for the client behind `peer`.
    pub fn call_function<B>(
        &self,
        function: MatchedFunction,
        peer: IpAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response<function_host::Body>> + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let shared = self.shared.clone();
        let headers = RequestHeaders::find(request.headers(), shared.client_address.header());
        let client = shared.client_address.resolve(peer, headers.hops());
        async move {
            match &shared.functions {
                Some(functions) => functions.call(function, client, request).await,
                None => Failure::NotStarted.response(),
            }
        }
    }

    /// What the request is shed as, if it is shed.
    fn shed_kind<B>(&self, request: &Request<B>) -> Option<Shed> {
        let level = self.shed.get();
        if level == Level::default() {
            return None;
        }
        let target = request::parse_target(request, self.shared.max_url_bytes).ok()?;
        Shed::of(target).filter(|shed| level.sheds(*shed))
    }

    fn process<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
        parsed: Instant,
    ) -> Result<ClickResponse, Refusal> {
        let shared = &*self.shared;
        let WorkerState {
            lane,
            clock,
            links,
            keys,
            agents,
            identity,
            query,
            buffers,
            location,
        } = &mut *self.state.borrow_mut();
        let headers = RequestHeaders::find(request.headers(), shared.client_address.header());
        let target =
            ResolvedTarget::resolve(shared, links.load(), request, &headers, query, buffers)?;
        let visitor = Visitor::of(shared, agents, peer, &headers);
        let now = clock.at(parsed);
        buffers.fill(&target, shared, &visitor, now.estimate);
        let id = keys.load().sign(ClickIdParts {
            time: now.estimate,
            node: shared.node,
            lane: LaneId(lane.lane()),
            seq: Seq(lane.next_seq()),
            link: target.link.id,
        });
        let mut visit = visitor.visit(shared, now, id, &target, query, buffers);
        if let Some(destination) = target.destination() {
            expand(destination, &visit, &target, query, buffers, location)?;
        }
        visitor.remember(shared, identity, target.link_use(), now, &mut visit);
        self.append(lane, &target.event(visit), parsed);
        match target.outcome {
            Outcome::Redirect { code, .. } => {
                self.metrics.clicks.inc();
                Ok(ClickResponse::Redirect(code, location.split().freeze()))
            }
            Outcome::Pixel => {
                self.metrics.impressions.inc();
                Ok(ClickResponse::Pixel)
            }
            Outcome::Prefetch => Err(Refusal::Prefetch),
        }
    }

    /// Appends the event to the journal, or counts it as lost with its reason.
    fn append(&self, lane: &mut LaneWriter, event: &Event<'_>, parsed: Instant) {
        if let Event::Click(visit) | Event::Impression(visit) = event {
            self.metrics.marked(visit.flags);
        }
        match lane.append(MAX_EVENT_BYTES, |room| {
            tracking_events::encode(event, room).ok()
        }) {
            Ok(_) => self.metrics.observe_click_log(parsed.elapsed()),
            Err(error) => self.metrics.lost(error.reason()),
        }
    }
}

/// The attributes of a visitor in one request.
struct Visitor<'r> {
    address: IpAddr,
    place: Location,
    agent: &'r Agent,
    agent_cut: bool,
    referrer_header: Cow<'r, str>,
}

impl<'r> Visitor<'r> {
    fn of(
        shared: &EdgeState,
        agents: &'r mut WorkerCache,
        peer: IpAddr,
        headers: &RequestHeaders<'r>,
    ) -> Self {
        let address = shared.client_address.resolve(peer, headers.hops());
        let (agent, agent_cut) = agents.get(headers.agent(), headers.hints(), &shared.agents);
        Self {
            address,
            place: shared.geo.lookup(address),
            agent,
            agent_cut,
            referrer_header: headers.referrer(),
        }
    }

    fn visit<'a>(
        &'a self,
        shared: &EdgeState,
        now: Now,
        id: ClickId,
        target: &ResolvedTarget<'a>,
        query: &'a Query,
        buffers: &'a FormatBuffers,
    ) -> Visit<'a> {
        let mut flags = target.flags;
        flags.insert(now.flags);
        flags.insert(self.agent.marks());
        let (referrer, referrer_cut) = match query.referrer() {
            "" => query::truncate(&self.referrer_header, query::MAX_REFERRER_BYTES),
            own => (own, false),
        };
        let cut = referrer_cut || self.agent_cut || query.truncated();
        let cost = query.cost();
        for (mark, applies) in [
            (Flags::TRUNCATED, cut),
            (Flags::MALFORMED_QUERY, query.malformed()),
            (Flags::BAD_COST, cost.is_none()),
        ] {
            if applies {
                flags.insert(mark);
            }
        }
        Visit {
            id,
            time: now.time,
            link: EventLink {
                id: target.link.id,
                slug: target.target.slug(),
                offer: &target.link.offer,
                campaign: &target.link.campaign,
                affiliate: &target.link.affiliate,
            },
            visitor: VisitorId::default(),
            flags,
            status: target.status().as_u16(),
            address: address::store(self.address, shared.address_storage),
            geo: self.place.as_event(),
            agent: self.agent.as_event(),
            language: &buffers.language,
            host: &buffers.host,
            referrer,
            source: query.source(),
            external_id: query.external_id(),
            cost: cost.unwrap_or_default(),
            subs: query.subs(),
        }
    }

    /// Sets the visit's visitor id, and marks the visit as repeated or of unknown uniqueness. Visits that are not
    /// counted are not remembered: a prefetch must not make the visit that follows a repeat.
    fn remember(
        &self,
        shared: &EdgeState,
        identity: &mut Identity,
        used: LinkUse,
        now: Now,
        visit: &mut Visit<'_>,
    ) {
        let ids = identity.ids_of(now.estimate, self.address, &self.agent.digest);
        visit.visitor = ids.current;
        if !visit.counted() {
            return;
        }
        let network = Network::of(self.address);
        let filters = &shared.filters;
        match filters.check_and_set(now.estimate, used, &ids, network) {
            Uniqueness::Unique => {}
            Uniqueness::Repeated => visit.flags.insert(Flags::REPEATED),
            Uniqueness::Unknown => visit.flags.insert(Flags::UNIQUENESS_UNKNOWN),
        }
    }
}

impl FormatBuffers {
    /// Formats the values that the destination needs and no others.
    fn fill(
        &mut self,
        target: &ResolvedTarget<'_>,
        shared: &EdgeState,
        visitor: &Visitor<'_>,
        now: Micros,
    ) {
        let needs = target.destination().map(Destination::needs);
        let needs = needs.unwrap_or_default();
        if needs.ip {
            let stored = address::store(visitor.address, shared.address_storage);
            write_into(&mut self.ip, Ipv6Addr::from(stored).to_canonical());
        }
        if needs.timestamp {
            write_into(&mut self.timestamp, now.0 / 1_000_000);
        }
        if needs.asn {
            match visitor.place.asn {
                0 => self.asn.clear(),
                asn => write_into(&mut self.asn, asn),
            }
        }
    }
}

fn write_into(text: &mut String, value: impl std::fmt::Display) {
    text.clear();
    write!(text, "{value}").expect("writing to a String can't fail");
}

/// Writes the destination of `visit`, with its macros expanded, into `location`.
fn expand(
    destination: &Destination,
    visit: &Visit<'_>,
    target: &ResolvedTarget<'_>,
    query: &Query,
    buffers: &FormatBuffers,
    location: &mut BytesMut,
) -> Result<(), Refusal> {
    let click_id = visit.id.to_text();
    let values = Values {
        click_id: click_id.as_str(),
        link: visit.link.slug,
        campaign: visit.link.campaign,
        offer: visit.link.offer,
        affiliate: visit.link.affiliate,
        subs: &query.sub_octets(),
        country: match &visit.geo.country {
            [0, 0] => "",
            letters => std::str::from_utf8(letters).unwrap_or_default(),
        },
        region: visit.geo.region,
        asn: &buffers.asn,
        device: visit.agent.device.as_str(),
        os: visit.agent.os,
        browser: visit.agent.browser,
        language: visit.language,
        ip: &buffers.ip,
        timestamp: &buffers.timestamp,
        source: query.source_octets(),
        external_id: query.external_id_octets(),
    };
    location.clear();
    let raw = target.link.pass_query.then_some(target.query);
    let passed_on = raw.into_iter().flat_map(query::passed_on);
    if destination.expand(&values, passed_on, location) {
        Ok(())
    } else {
        Err(Refusal::LocationTooLong)
    }
}
