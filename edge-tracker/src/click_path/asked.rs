//! What a request asks for: which link, and whether its visitor is sent somewhere.

use super::{Shared, Texts};
use crate::links::{Destination, Link, State as LinkState, Table};
use crate::query::Query;
use crate::refusal::Refusal;
use crate::request::{self, Heads, MendedPath, Target};
use crate::unique::Use;
use http::{Request, StatusCode};
use tracking_events::{Event, Flags, Visit};

/// What is asked for, once nothing stands against it.
pub(super) struct Asked<'a> {
    /// What the request is for, with the link's name as the table keeps it.
    pub(super) target: Target<'a>,
    pub(super) link: &'a Link,
    /// The query as it was sent.
    pub(super) query: &'a str,
    pub(super) outcome: Outcome<'a>,
    pub(super) flags: Flags,
}

/// What the visitor gets.
pub(super) enum Outcome<'a> {
    Redirect {
        code: StatusCode,
        destination: &'a Destination,
    },
    Pixel,
    /// A refusal: a browser that fetches ahead is no visitor yet.
    Prefetch,
}

impl<'a> Asked<'a> {
    pub(super) fn read<B>(
        shared: &Shared,
        links: &'a Table,
        request: &'a Request<B>,
        heads: &Heads<'_>,
        query: &mut Query,
        texts: &mut Texts,
    ) -> Result<Self, Refusal> {
        let (target, link) = sought(shared, links, request)?;
        request::language(heads, &mut texts.language);
        shared.serves(request.uri(), heads, &mut texts.host)?;
        let raw = request.uri().query().unwrap_or_default();
        query.read(raw, shared.max_parameter_bytes);
        let mut flags = request::marks(request.method(), heads);
        let outcome = outcome(target, link, heads, &mut flags)?;
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

    pub(super) const fn used(&self) -> Use {
        match self.target {
            Target::Click(_) => Use::Click(self.link.id),
            Target::Pixel(_) => Use::Impression(self.link.id),
        }
    }

    pub(super) const fn event<'v>(&self, visit: Visit<'v>) -> Event<'v> {
        match self.target {
            Target::Click(_) => Event::Click(visit),
            Target::Pixel(_) => Event::Impression(visit),
        }
    }
}

type Found<'a> = (Target<'a>, &'a Link);

/// The link that a request is for; one of exactly the name in its path goes before all others.
fn sought<'a, B>(
    shared: &Shared,
    links: &'a Table,
    request: &Request<B>,
) -> Result<Found<'a>, Refusal> {
    match request::target(request, shared.max_url_bytes) {
        Ok(target) => find(links, target)
            .or_else(|| mended(links, request))
            .ok_or(Refusal::UnknownLink),
        Err(Refusal::UnknownPath) => {
            let found = mended(links, request).ok_or(Refusal::UnknownPath)?;
            request::answers(request.method()).map(|()| found)
        }
        Err(refusal) => Err(refusal),
    }
}

fn find<'a>(links: &'a Table, target: Target<'_>) -> Option<Found<'a>> {
    let (slug, link) = links.find(target.slug())?;
    Some((target.with_slug(slug), link))
}

/// The link that a path was for before it was changed on its way: one of exactly this name, else the only
/// one of this name in other letters.
#[cold]
fn mended<'a, B>(links: &'a Table, request: &Request<B>) -> Option<Found<'a>> {
    let path = MendedPath::of(request.uri().path())?;
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
    heads: &Heads<'_>,
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
        (Target::Click(_), _) if heads.is_speculative() => Ok(Outcome::Prefetch),
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
