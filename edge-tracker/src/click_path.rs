//! The path of a click through one worker, in stages: parse → resolve link → derive visitor → decide → render → log.
//! Each stage is a module that states its input, its output and its invariant.
//!
//! Sockets never belong here, nor anything that blocks: a response is sent only after its event was accepted.

mod clock;
mod decide;
mod derive;
mod edge_state;
mod functions;
mod log;
mod parse;
mod render;
mod resolve;
mod response;
mod root;

pub use edge_state::EdgeState;
pub use root::{Root, RootPageError};

use crate::metrics::WorkerMetrics;
use crate::refusal::Refusal;
use crate::shed::{Level, Shed};
use bytes::Bytes;
use clock::{Clock, Now};
use decide::{Decision, decide};
use derive::{Visitor, VisitorDeriver};
use event_journal::LaneWriter;
use http::{Request, Response};
use http_body_util::Full;
use log::EventLog;
use parse::ParsedRequest;
use render::Renderer;
use resolve::{LinkResolver, ResolvedLink};
use response::ClickResponse;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;
use tracking_events::ClickId;

/// The click path of one worker; it belongs to one thread.
#[derive(Debug)]
pub struct ClickPath {
    shared: Arc<EdgeState>,
    metrics: WorkerMetrics,
    shed: Cell<Level>,
    stages: RefCell<Stages>,
}

/// The caches and buffers of the stages, which requests reuse.
#[derive(Debug)]
struct Stages {
    clock: Clock,
    links: LinkResolver,
    visitors: VisitorDeriver,
    renderer: Renderer,
    log: EventLog,
}

/// A click or an impression that was decided.
struct Click<'a> {
    id: ClickId,
    now: Now,
    link: ResolvedLink<'a>,
    visitor: Visitor<'a>,
    decision: Decision<'a>,
}

impl ClickPath {
    /// A click path that appends to `lane`.
    #[must_use]
    pub fn new(shared: Arc<EdgeState>, metrics: WorkerMetrics, lane: LaneWriter) -> Self {
        let stages = Stages {
            clock: Clock::new(shared.clock.clone()),
            links: LinkResolver::new(shared.links.shared()),
            visitors: VisitorDeriver::new(&shared),
            renderer: Renderer::new(),
            log: EventLog::new(lane, shared.keys.clone()),
        };
        Self {
            shared,
            metrics,
            shed: Cell::default(),
            stages: RefCell::new(stages),
        }
    }

    /// The worker's metrics.
    #[must_use]
    pub const fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// Sets the level of shedding.
    pub fn set_shed_level(&self, level: Level) {
        self.shed.set(level);
    }

    /// Whether `peer` is a trusted proxy.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.shared.client_address.is_trusted(peer)
    }

    /// Responds to a request from `peer` that was parsed at `parsed_at`. The event of a redirect or pixel has been
    /// accepted by the journal, or counted as lost with its reason.
    #[must_use]
    pub fn respond<B>(
        &self,
        peer: IpAddr,
        mut request: Request<B>,
        parsed_at: Instant,
    ) -> Response<Full<Bytes>> {
        let response = match self.process(peer, &request, parsed_at) {
            Ok(response) => response,
            Err(Refusal::UnknownPath) if root::is_requested(&request) => {
                ClickResponse::Root(self.shared.root.clone())
            }
            Err(refusal) => ClickResponse::Refused(refusal),
        };
        self.count(&response);
        // The response reuses the request's header map: none is allocated.
        let mut headers = std::mem::take(request.headers_mut());
        drop(request);
        headers.clear();
        response.into_http(headers)
    }

    /// Passes a request through the stages.
    fn process<B>(
        &self,
        peer: IpAddr,
        request: &Request<B>,
        parsed_at: Instant,
    ) -> Result<ClickResponse, Refusal> {
        let shared = &*self.shared;
        let stages = &mut *self.stages.borrow_mut();
        let forwarded = shared.client_address.header();
        let request = ParsedRequest::of(request, forwarded, shared.max_url_bytes)?;
        self.check_load(&request)?;
        let link = stages.links.resolve(&request, &shared.hosts)?;
        let now = stages.clock.at(parsed_at);
        let time = now.estimate;
        let visitor = stages.visitors.derive(peer, &request, time, shared);
        let decision = decide(&link, &visitor)?;
        let click = Click {
            id: stages.log.next_id(shared.node, time, link.link.id),
            now,
            link,
            visitor,
            decision,
        };
        let response = stages.renderer.render(&click)?;
        let log = &mut stages.log;
        log.append(&click, &shared.filters, &self.metrics, parsed_at);
        Ok(response)
    }

    /// Refuses a request that is shed at the current load.
    fn check_load(&self, request: &ParsedRequest<'_>) -> Result<(), Refusal> {
        let kind = request.target.and_then(Shed::of);
        match kind.filter(|kind| self.shed.get().sheds(*kind)) {
            None => Ok(()),
            Some(kind) => {
                self.metrics.shed(kind);
                Err(Refusal::Overloaded)
            }
        }
    }

    fn count(&self, response: &ClickResponse) {
        match response {
            ClickResponse::Redirect(..) => self.metrics.clicks.inc(),
            ClickResponse::Pixel => self.metrics.impressions.inc(),
            ClickResponse::Root(_) => {}
            // It was counted as shed.
            ClickResponse::Refused(Refusal::Overloaded) => {}
            ClickResponse::Refused(refusal) => self.metrics.refused(*refusal),
        }
    }
}
