//! Resolves a request to its link, and decides whether its visitor is redirected.

use super::{EdgeState, FormatBuffers};
use crate::links::{Destination, Link, LinkState, Table};
use crate::query::Query;
use crate::refusal::Refusal;
use crate::request::{self, RepairedPath, RequestHeaders, Target};
use crate::unique::LinkUse;
use http::{Request, StatusCode};
use tracking_events::{Event, Flags, Visit};

/// A request whose link was found and whose host and method were accepted.
pub(super) struct ResolvedTarget<'a> {
    /// The requested target, with the slug as the table spells it.
    pub(super) target: Target<'a>,
    pub(super) link: &'a Link,
    /// The query as it was sent.
    pub(super) query: &'a str,
    pub(super) outcome: Outcome<'a>,
    pub(super) flags: Flags,
}

/// The outcome for the visitor.
pub(super) enum Outcome<'a> {
    Redirect {
        code: StatusCode,
        destination: &'a Destination,
    },
    Pixel,
    /// A refusal: a prefetching browser is no visitor yet.
    Prefetch,
}

impl<'a> ResolvedTarget<'a> {
    pub(super) fn resolve<B>(
        shared: &EdgeState,
        links: &'a Table,
        request: &'a Request<B>,
        headers: &RequestHeaders<'_>,
        query: &mut Query,
        buffers: &mut FormatBuffers,
    ) -> Result<Self, Refusal> {
        let (target, link) = find_link(shared, links, request)?;
        request::language(headers, &mut buffers.language);
        shared.check_host(request.uri(), headers, &mut buffers.host)?;
        let raw = request.uri().query().unwrap_or_default();
        query.read(raw, shared.max_parameter_bytes);
        let mut flags = request::marks(request.method(), headers);
        let outcome = outcome(target, link, headers, &mut flags)?;
        Ok(Self {
            target,
            link,
            query: raw,
            outcome,
            flags,
        })
    }

    pub(super) const fn destination(&self) -> Option<&'a Destination> {
        match self.outcome {
            Outcome::Redirect { destination, .. } => Some(destination),
            Outcome::Pixel | Outcome::Prefetch => None,
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self.outcome {
            Outcome::Redirect { code, .. } => code,
            Outcome::Pixel => StatusCode::OK,
            Outcome::Prefetch => Refusal::Prefetch.status(),
        }
    }

    pub(super) const fn link_use(&self) -> LinkUse {
        match self.target {
            Target::Click(_) => LinkUse::Click(self.link.id),
            Target::Pixel(_) => LinkUse::Impression(self.link.id),
        }
    }

    pub(super) const fn event<'v>(&self, visit: Visit<'v>) -> Event<'v> {
        match self.target {
            Target::Click(_) => Event::Click(visit),
            Target::Pixel(_) => Event::Impression(visit),
        }
    }
}

type TargetLink<'a> = (Target<'a>, &'a Link);

/// The link of a request. A link whose slug is exactly the path's takes precedence.
fn find_link<'a, B>(
    shared: &EdgeState,
    links: &'a Table,
    request: &Request<B>,
) -> Result<TargetLink<'a>, Refusal> {
    match request::parse_target(request, shared.max_url_bytes) {
        Ok(target) => find(links, target)
            .or_else(|| find_repaired(links, request))
            .ok_or(Refusal::UnknownLink),
        Err(Refusal::UnknownPath) => {
            let found = find_repaired(links, request).ok_or(Refusal::UnknownPath)?;
            request::check_method(request.method()).map(|()| found)
        }
        Err(refusal) => Err(refusal),
    }
}

fn find<'a>(links: &'a Table, target: Target<'_>) -> Option<TargetLink<'a>> {
    let (slug, link) = links.find(target.slug())?;
    Some((target.with_slug(slug), link))
}

/// The link of a path that mail programs, people or QR codes changed: one of exactly this slug, else the only one
/// of this slug in another case.
#[cold]
fn find_repaired<'a, B>(links: &'a Table, request: &Request<B>) -> Option<TargetLink<'a>> {
    let path = RepairedPath::of(request.uri().path())?;
    let in_any_case = |target: Target<'_>| {
        let (slug, link) = links.find_in_any_case(target.slug())?;
        Some((target.with_slug(slug), link))
    };
    path.targets()
        .find_map(|target| find(links, target))
        .or_else(|| path.targets().find_map(in_any_case))
}

fn outcome<'a>(
    target: Target<'_>,
    link: &'a Link,
    headers: &RequestHeaders<'_>,
    flags: &mut Flags,
) -> Result<Outcome<'a>, Refusal> {
    let paused = match &link.state {
        LinkState::Active => None,
        LinkState::Paused { fallback } => {
            flags.insert(Flags::PAUSED);
            Some(fallback.as_ref())
        }
    };
    match (target, paused) {
        (Target::Pixel(_), _) => Ok(Outcome::Pixel),
        (Target::Click(_), Some(None)) => Err(Refusal::LinkPaused),
        (Target::Click(_), _) if headers.is_speculative() => Ok(Outcome::Prefetch),
        (Target::Click(_), None) => Ok(Outcome::Redirect {
            code: link.code,
            destination: &link.destination,
        }),
        // Not the link's own code: a permanent redirect to a fallback would outlive the pause.
        (Target::Click(_), Some(Some(destination))) => Ok(Outcome::Redirect {
            code: StatusCode::FOUND,
            destination,
        }),
    }
}
