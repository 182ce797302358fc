//! Stage 2, resolve link.
//!
//! Input: a parsed request and the active table. Output: the link, or the refusal of a link, method or host that is
//! not served. Invariant: nothing about the visitor is known or used.

use super::parse::ParsedRequest;
use crate::links::{Link, Table};
use crate::refusal::Refusal;
use crate::request::{self, RepairedPath, Target};
use crate::unique::LinkUse;
use arc_swap::{ArcSwap, Cache};
use std::sync::Arc;
use tracking_events::{Event, Visit};

/// The worker's access to the links.
#[derive(Debug)]
pub(super) struct LinkResolver {
    links: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    host: String,
}

/// The link of a request whose method and host were accepted.
pub(super) struct ResolvedLink<'t> {
    /// The requested target, with the slug as the table spells it.
    pub(super) target: Target<'t>,
    pub(super) link: &'t Link,
    /// The requested host in lower case, or empty.
    pub(super) host: &'t str,
}

impl LinkResolver {
    pub(super) fn new(links: Arc<ArcSwap<Table>>) -> Self {
        Self {
            links: Cache::new(links),
            host: String::new(),
        }
    }

    /// The link of `request`; the host must be in `hosts` unless these are empty.
    pub(super) fn resolve(
        &mut self,
        request: &ParsedRequest<'_>,
        hosts: &[String],
    ) -> Result<ResolvedLink<'_>, Refusal> {
        let is_named = request::host(request.uri, &request.headers, &mut self.host);
        let (target, link) = find_link(self.links.load(), request, &self.host)?;
        request::check_host(is_named, &self.host, hosts)?;
        Ok(ResolvedLink {
            target,
            link,
            host: &self.host,
        })
    }
}

impl ResolvedLink<'_> {
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

type TargetLink<'t> = (Target<'t>, &'t Link);

/// The link of a request. A link whose slug is exactly the path's takes precedence.
fn find_link<'t>(
    links: &'t Table,
    request: &ParsedRequest<'_>,
    host: &str,
) -> Result<TargetLink<'t>, Refusal> {
    if let Some(target) = request.target {
        return find(links, target, host)
            .or_else(|| find_repaired(links, request, host))
            .ok_or(Refusal::UnknownLink);
    }
    let found = find_repaired(links, request, host).ok_or(Refusal::UnknownPath)?;
    request::check_method(request.method).map(|()| found)
}

fn find<'t>(links: &'t Table, target: Target<'_>, host: &str) -> Option<TargetLink<'t>> {
    let link = links.find(target.slug(), host)?;
    Some((target.with_slug(&link.slug), link))
}

/// The link of a path that mail programs, people or QR codes changed: one of exactly this slug, else the only one
/// of this slug in another case.
#[cold]
fn find_repaired<'t>(
    links: &'t Table,
    request: &ParsedRequest<'_>,
    host: &str,
) -> Option<TargetLink<'t>> {
    let path = RepairedPath::of(request.uri.path())?;
    let in_any_case = |target: Target<'_>| {
        let link = links.find_in_any_case(target.slug(), host)?;
        Some((target.with_slug(&link.slug), link))
    };
    path.targets()
        .find_map(|target| find(links, target, host))
        .or_else(|| path.targets().find_map(in_any_case))
}
