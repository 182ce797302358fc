//! Stage 4, decide.
//!
//! Input: a link and its visitor. Output: where the visitor goes, or the refusal of a link without a
//! destination. Invariant: a pure function: equal inputs give equal decisions, and nothing is read, counted
//! or stored.

use super::derive::Visitor;
use super::resolve::ResolvedLink;
use crate::links::{Destination, LinkState};
use crate::refusal::Refusal;
use crate::request::Target;
use http::StatusCode;
use tracking_events::Flags;

/// A decision, with the marks of the visit that follow from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision<'t> {
    pub(super) outcome: Outcome<'t>,
    pub(super) flags: Flags,
}

/// The outcome for the visitor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<'t> {
    Redirect {
        code: StatusCode,
        destination: &'t Destination,
    },
    Pixel,
    /// A refusal that is logged: a prefetching browser is no visitor yet.
    Prefetch,
}

impl Decision<'_> {
    /// The status of the response.
    pub(super) const fn status(&self) -> StatusCode {
        match self.outcome {
            Outcome::Redirect { code, .. } => code,
            Outcome::Pixel => StatusCode::OK,
            Outcome::Prefetch => Refusal::Prefetch.status(),
        }
    }
}

/// Decides where `visitor` of `requested` goes. Each link has one destination, the same for all visitors.
pub(super) fn decide<'t>(
    requested: &ResolvedLink<'t>,
    visitor: &Visitor<'_>,
) -> Result<Decision<'t>, Refusal> {
    let link = requested.link;
    let paused = match &link.state {
        LinkState::Active => None,
        LinkState::Paused { fallback } => Some(fallback.as_ref()),
    };
    let outcome = match (requested.target, paused) {
        (Target::Pixel(_), _) => Outcome::Pixel,
        (Target::Click(_), Some(None)) => return Err(Refusal::LinkPaused),
        (Target::Click(_), _) if visitor.is_speculative => Outcome::Prefetch,
        (Target::Click(_), None) => Outcome::Redirect {
            code: link.code,
            destination: &link.destination,
        },
        // Not the link's own code: a permanent redirect to a fallback would outlive the pause.
        (Target::Click(_), Some(Some(destination))) => Outcome::Redirect {
            code: StatusCode::FOUND,
            destination,
        },
    };
    let flags = match paused {
        None => Flags::default(),
        Some(_) => Flags::PAUSED,
    };
    Ok(Decision { outcome, flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::{Link, Name, Slug};
    use crate::query::Query;
    use crate::visitor::agent::Agents;
    use crate::visitor::geo::Location;
    use crate::visitor::identity::{PreviousId, VisitorIds};
    use domain::{CostMicros, LinkId, Micros, VisitorId};
    use std::net::Ipv4Addr;

    fn destination(url: &str) -> Destination {
        Destination::try_from(url.to_owned()).expect("destination")
    }

    fn link(state: LinkState) -> Link {
        let name = |text: &str| Name::try_from(text.to_owned()).expect("name");
        Link {
            id: LinkId(1),
            slug: Slug::try_from("spring".to_owned()).expect("slug"),
            domain: None,
            offer: name("offer"),
            campaign: name("campaign"),
            affiliate: name("ann"),
            destination: destination("https://shop.example/"),
            code: StatusCode::PERMANENT_REDIRECT,
            state,
            pass_query: false,
            renamed_from: None,
        }
    }

    #[test]
    fn decision_depends_on_link_state_target_and_visitor() {
        const CLICK: Target<'_> = Target::Click("spring");
        const PIXEL: Target<'_> = Target::Pixel("spring");
        let fallback = destination("https://fallback.example/");
        let active = link(LinkState::Active);
        let paused = link(LinkState::Paused { fallback: None });
        let with_fallback = link(LinkState::Paused {
            fallback: Some(fallback.clone()),
        });
        let redirect = |code, destination| Outcome::Redirect { code, destination };
        let own = redirect(StatusCode::PERMANENT_REDIRECT, &active.destination);
        let fallback = redirect(StatusCode::FOUND, &fallback);
        let (none, mark) = (Flags::default(), Flags::PAUSED);
        let decision = |outcome, flags| Ok(Decision { outcome, flags });
        let (agents, query) = (Agents::new(2, 64), Query::default());
        let agent = agents.get("");
        for (link, target, is_speculative, expected) in [
            (&active, CLICK, false, decision(own, none)),
            (&active, CLICK, true, decision(Outcome::Prefetch, none)),
            (&active, PIXEL, false, decision(Outcome::Pixel, none)),
            (&active, PIXEL, true, decision(Outcome::Pixel, none)),
            (&paused, CLICK, false, Err(Refusal::LinkPaused)),
            (&paused, CLICK, true, Err(Refusal::LinkPaused)),
            (&paused, PIXEL, false, decision(Outcome::Pixel, mark)),
            (&with_fallback, CLICK, false, decision(fallback, mark)),
            (
                &with_fallback,
                CLICK,
                true,
                decision(Outcome::Prefetch, mark),
            ),
            (&with_fallback, PIXEL, false, decision(Outcome::Pixel, mark)),
        ] {
            let visitor = Visitor {
                address: Ipv4Addr::LOCALHOST.into(),
                stored_address: [0; 16],
                place: Location::default(),
                agent: &agent,
                language: "",
                ids: VisitorIds {
                    current: VisitorId::default(),
                    previous: PreviousId::Computed(VisitorId::default()),
                    since: Micros(0),
                },
                referrer: "".into(),
                cost: CostMicros(0),
                query: &query,
                raw_query: "",
                is_speculative,
                flags: Flags::default(),
            };
            let requested = ResolvedLink {
                target,
                link,
                host: "",
            };
            let decided = decide(&requested, &visitor);
            assert_eq!(decided, expected, "{target:?} of {:?}", link.state);
        }
    }
}
