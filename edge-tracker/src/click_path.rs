//! The way of a request through one worker: link, visitor, unique or repeated, id, journal, answer.
//!
//! Sockets never belong here, nor anything that waits: what is answered has been accepted.

mod answer;
mod asked;
mod clock;
mod root;

pub use root::{Root, RootPageError};

use crate::functions::Functions;
use crate::links::{Destination, Table, Values};
use crate::metrics::WorkerMetrics;
use crate::query::{self, Query};
use crate::refusal::Refusal;
use crate::request::{self, Heads};
use crate::shed::{Level, Shed};
use crate::unique::{Filters, Uniqueness, Use};
use crate::visitor::address::{self, AddressStorage, ClientAddress, Network};
use crate::visitor::agent::{Agent, Agents, Recent};
use crate::visitor::geo::{Geo, Place};
use crate::visitor::identity::Identity;
use answer::Answer;
use arc_swap::{ArcSwap, Cache};
use asked::{Asked, Outcome};
use bytes::{Bytes, BytesMut};
use clock::{Clock, Now};
use event_journal::LaneWriter;
use function_host::{Failure, Matched};
use http::{Request, Response, Uri};
use http_body_util::Full;
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

/// Room for some locations, one after another.
const LOCATION_BYTES: usize = 4 << 10;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// This node.
    pub node: NodeId,
    /// The links, swapped whole.
    pub links: Arc<ArcSwap<Table>>,
    /// Where addresses are.
    pub geo: Geo,
    /// What user agents say.
    pub agents: Agents,
    /// Who visitors are; each worker has a copy.
    pub identity: Identity,
    /// Who has been here before.
    pub filters: Filters,
    /// Signs click ids, swapped whole.
    pub keys: Arc<ArcSwap<KeyRing>>,
    /// The time of day, as far as it can be trusted.
    pub clock: Arc<TrustedClock>,
    /// Whose word about the client's address is believed.
    pub client_address: ClientAddress,
    /// How much of an address is stored.
    pub address_storage: AddressStorage,
    /// Hosts that are answered; empty means any.
    pub hosts: Vec<String>,
    /// How much is kept of a parameter of ours, in bytes.
    pub max_parameter_bytes: usize,
    /// The longest request target, in bytes.
    pub max_url_bytes: usize,
    /// What the bare domain answers.
    pub root: Root,
    /// Functions, where there are any.
    pub functions: Option<Functions>,
}

impl Shared {
    /// Whether requests to the host are answered, which is written into `host`.
    fn serves(&self, uri: &Uri, heads: &Heads<'_>, host: &mut String) -> Result<(), Refusal> {
        let named = request::host(uri, heads, host);
        if self.hosts.is_empty() || (named && self.hosts.contains(host)) {
            Ok(())
        } else {
            Err(Refusal::UnknownHost)
        }
    }
}

/// One worker's way of answering; it belongs to one thread.
#[derive(Debug)]
pub struct ClickPath {
    shared: Arc<Shared>,
    metrics: WorkerMetrics,
    shed: Cell<Level>,
    state: RefCell<State>,
}

/// What is reused from request to request.
#[derive(Debug)]
struct State {
    lane: LaneWriter,
    clock: Clock,
    links: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    keys: Cache<Arc<ArcSwap<KeyRing>>, Arc<KeyRing>>,
    agents: Recent,
    identity: Identity,
    query: Query,
    texts: Texts,
    location: BytesMut,
}

#[derive(Debug, Default)]
struct Texts {
    host: String,
    language: String,
    ip: String,
    asn: String,
    timestamp: String,
}

impl ClickPath {
    /// A way that logs to `lane`.
    #[must_use]
    pub fn new(shared: Arc<Shared>, metrics: WorkerMetrics, lane: LaneWriter) -> Self {
        let state = State {
            lane,
            clock: Clock::new(shared.clock.clone()),
            links: Cache::new(shared.links.clone()),
            keys: Cache::new(shared.keys.clone()),
            agents: Recent::new(&shared.agents),
            identity: shared.identity.clone(),
            query: Query::default(),
            texts: Texts::default(),
            location: BytesMut::with_capacity(LOCATION_BYTES),
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

    /// Sheds so much from now on.
    pub fn shed(&self, level: Level) {
        self.shed.set(level);
    }

    /// Whether `peer` is believed about the client's address.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.shared.client_address.is_trusted(peer)
    }

    /// Answers a request that came from `peer` and was whole at `parsed`; a redirect or pixel has
    /// been accepted by the journal, or counted as lost with its reason.
    #[must_use]
    pub fn answer<B>(
        &self,
        peer: IpAddr,
        mut request: Request<B>,
        parsed: Instant,
    ) -> Response<Full<Bytes>> {
        if let Some(shed) = self.sheds(&request) {
            self.metrics.shed(shed);
            return Refusal::Overloaded.response();
        }
        let answer = match self.accept(peer, &request, parsed) {
            Ok(answer) => answer,
            Err(Refusal::UnknownPath) if root::is_asked_for(&request) => {
                Answer::Root(self.shared.root.clone())
            }
            Err(refusal) => {
                self.metrics.refused(refusal);
                return refusal.response();
            }
        };
        // The request's own map of headers carries the answer's: none is allocated.
        let mut headers = std::mem::take(request.headers_mut());
        drop(request);
        headers.clear();
        answer.response(headers)
    }

    /// The function that `request` from `peer` is for, or why it is not called; nothing when it is for
    /// none.
    #[must_use]
    pub fn function<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Option<Result<Matched, Refusal>> {
        let functions = self.shared.functions.as_ref()?;
        let path = request.uri().path();
        // Links and pixels are asked for far more often, and are never a function's.
        if matches!(path.as_bytes(), [b'/', b'c' | b'C' | b'i' | b'I', b'/', ..])
            || root::is_asked_for(request)
        {
            return None;
        }
        let function = functions.find(path)?;
        let taken = self.takes(functions, peer, request);
        let taken = taken.inspect_err(|refusal| self.metrics.refused(*refusal));
        Some(taken.map(|()| function))
    }

    /// What holds for functions as for links, and how often a network may fail to authenticate.
    fn takes<B>(
        &self,
        functions: &Functions,
        peer: IpAddr,
        request: &Request<B>,
    ) -> Result<(), Refusal> {
        let shared = &*self.shared;
        // Signatures and clicks expire by the time, and what a function reports is paid by it.
        if shared.clock.read().source != TimeSource::System {
            return Err(Refusal::ClockWrong);
        }
        request::fits(request.uri(), shared.max_url_bytes)?;
        let heads = Heads::find(request.headers(), shared.client_address.header());
        let host = &mut self.state.borrow_mut().texts.host;
        shared.serves(request.uri(), &heads, host)?;
        let client = shared.client_address.resolve(peer, heads.hops());
        if functions.admits(client) {
            Ok(())
        } else {
            Err(Refusal::TooManyFailures)
        }
    }

    /// Calls a function for the client behind `peer`.
    pub fn call<B>(
        &self,
        function: Matched,
        peer: IpAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response<function_host::Body>> + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let shared = self.shared.clone();
        let heads = Heads::find(request.headers(), shared.client_address.header());
        let client = shared.client_address.resolve(peer, heads.hops());
        async move {
            match &shared.functions {
                Some(functions) => functions.call(function, client, request).await,
                None => Failure::NotStarted.response(),
            }
        }
    }

    /// As what the request is shed, if it is.
    fn sheds<B>(&self, request: &Request<B>) -> Option<Shed> {
        let level = self.shed.get();
        if level == Level::default() {
            return None;
        }
        let target = request::target(request, self.shared.max_url_bytes).ok()?;
        Shed::of(target).filter(|shed| level.sheds(*shed))
    }

    fn accept<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
        parsed: Instant,
    ) -> Result<Answer, Refusal> {
        let shared = &*self.shared;
        let State {
            lane,
            clock,
            links,
            keys,
            agents,
            identity,
            query,
            texts,
            location,
        } = &mut *self.state.borrow_mut();
        let heads = Heads::find(request.headers(), shared.client_address.header());
        let asked = Asked::read(shared, links.load(), request, &heads, query, texts)?;
        let visitor = Visitor::of(shared, agents, peer, &heads);
        let now = clock.at(parsed);
        texts.fill(&asked, shared, &visitor, now.estimate);
        let id = keys.load().sign(ClickIdParts {
            time: now.estimate,
            node: shared.node,
            lane: LaneId(lane.lane()),
            seq: Seq(lane.next_seq()),
            link: asked.link.id,
        });
        let mut visit = visitor.visit(shared, now, id, &asked, query, texts);
        if let Some(destination) = asked.destination() {
            expand(destination, &visit, &asked, query, texts, location)?;
        }
        visitor.remember(shared, identity, asked.used(), now, &mut visit);
        self.log(lane, &asked.event(visit), parsed);
        match asked.outcome {
            Outcome::Redirect { code, .. } => {
                self.metrics.clicks.inc();
                Ok(Answer::Redirect(code, location.split().freeze()))
            }
            Outcome::Pixel => {
                self.metrics.impressions.inc();
                Ok(Answer::Pixel)
            }
            Outcome::Prefetch => Err(Refusal::Prefetch),
        }
    }

    /// From here on the event is accepted, or counted as lost with its reason.
    fn log(&self, lane: &mut LaneWriter, event: &Event<'_>, parsed: Instant) {
        if let Event::Click(visit) | Event::Impression(visit) = event {
            self.metrics.marked(visit.flags);
        }
        match lane.append(MAX_EVENT_BYTES, |room| {
            tracking_events::encode(event, room).ok()
        }) {
            Ok(_) => self.metrics.logged_in(parsed.elapsed()),
            Err(error) => self.metrics.lost(error.reason()),
        }
    }
}

/// Who came, as far as one request tells.
struct Visitor<'r> {
    address: IpAddr,
    place: Place,
    agent: &'r Agent,
    agent_cut: bool,
    referrer_header: Cow<'r, str>,
}

impl<'r> Visitor<'r> {
    fn of(shared: &Shared, agents: &'r mut Recent, peer: IpAddr, heads: &Heads<'r>) -> Self {
        let address = shared.client_address.resolve(peer, heads.hops());
        let (agent, agent_cut) = agents.get(heads.agent(), heads.hints(), &shared.agents);
        Self {
            address,
            place: shared.geo.lookup(address),
            agent,
            agent_cut,
            referrer_header: heads.referrer(),
        }
    }

    fn visit<'a>(
        &'a self,
        shared: &Shared,
        now: Now,
        id: ClickId,
        asked: &Asked<'a>,
        query: &'a Query,
        texts: &'a Texts,
    ) -> Visit<'a> {
        let mut flags = asked.flags;
        flags.insert(now.flags);
        flags.insert(self.agent.marks());
        let (referrer, referrer_cut) = match query.referrer() {
            "" => request::cut(&self.referrer_header, request::MAX_REFERRER_BYTES),
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
                id: asked.link.id,
                slug: asked.target.slug(),
                offer: &asked.link.offer,
                campaign: &asked.link.campaign,
                affiliate: &asked.link.affiliate,
            },
            visitor: VisitorId::default(),
            flags,
            status: asked.status().as_u16(),
            address: address::store(self.address, shared.address_storage),
            geo: self.place.as_event(),
            agent: self.agent.as_event(),
            language: &texts.language,
            host: &texts.host,
            referrer,
            source: query.source(),
            external_id: query.external_id(),
            cost: cost.unwrap_or_default(),
            subs: query.subs(),
        }
    }

    /// Gives the visit its visitor, and marks it when that visitor used the link so before, or may have. What is
    /// not counted is not remembered: a prefetch must not make the visit that follows a repeat.
    fn remember(
        &self,
        shared: &Shared,
        identity: &mut Identity,
        used: Use,
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

impl Texts {
    /// Writes what the destination asks for and nothing else.
    fn fill(&mut self, asked: &Asked<'_>, shared: &Shared, visitor: &Visitor<'_>, now: Micros) {
        let needs = asked.destination().map(Destination::needs);
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

/// Writes the destination of `visit` into `location`.
fn expand(
    destination: &Destination,
    visit: &Visit<'_>,
    asked: &Asked<'_>,
    query: &Query,
    texts: &Texts,
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
        asn: &texts.asn,
        device: visit.agent.device.as_str(),
        os: visit.agent.os,
        browser: visit.agent.browser,
        language: visit.language,
        ip: &texts.ip,
        timestamp: &texts.timestamp,
        source: query.source_octets(),
        external_id: query.external_id_octets(),
    };
    location.clear();
    let raw = asked.link.pass_query.then_some(asked.query);
    let passed_on = raw.into_iter().flat_map(query::passed_on);
    if destination.expand(&values, passed_on, location) {
        Ok(())
    } else {
        Err(Refusal::LocationTooLong)
    }
}
