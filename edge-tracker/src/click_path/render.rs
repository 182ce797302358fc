//! Stage 5, render.
//!
//! Input: the decision with all that is known of the click. Output: the response, or the refusal of a destination
//! that became too long. Invariant: the host of a redirect is that of a destination of the links file; nothing was
//! accepted or remembered yet.

use super::Click;
use super::decide::Outcome;
use super::response::ClickResponse;
use crate::links::{Destination, RequiredValues, Values};
use crate::query;
use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use std::fmt::Write;
use std::net::Ipv6Addr;

/// Capacity for a few locations, one after another.
const LOCATION_BUFFER_BYTES: usize = 4 << 10;

/// The worker's buffers for responses.
#[derive(Debug)]
pub(super) struct Renderer {
    location: BytesMut,
    ip: String,
    asn: String,
    timestamp: String,
}

impl Renderer {
    pub(super) fn new() -> Self {
        Self {
            location: BytesMut::with_capacity(LOCATION_BUFFER_BYTES),
            ip: String::new(),
            asn: String::new(),
            timestamp: String::new(),
        }
    }

    pub(super) fn render(&mut self, click: &Click<'_>) -> Result<ClickResponse, Refusal> {
        match click.decision.outcome {
            Outcome::Redirect { code, destination } => {
                let location = self.expand(destination, click)?;
                Ok(ClickResponse::Redirect(code, location))
            }
            Outcome::Pixel => Ok(ClickResponse::Pixel),
            Outcome::Prefetch => Ok(ClickResponse::Refused(Refusal::Prefetch)),
        }
    }

    /// `destination` with its macros expanded.
    fn expand(&mut self, destination: &Destination, click: &Click<'_>) -> Result<Bytes, Refusal> {
        self.format(destination.needs(), click);
        let (link, visitor) = (click.link.link, &click.visitor);
        let (query, geo, agent) = (visitor.query, visitor.place.as_event(), visitor.agent);
        let click_id = click.id.to_text();
        let values = Values {
            click_id: click_id.as_str(),
            link: click.link.target.slug(),
            campaign: &link.campaign,
            offer: &link.offer,
            affiliate: &link.affiliate,
            subs: &query.sub_octets(),
            country: match &geo.country {
                [0, 0] => "",
                letters => std::str::from_utf8(letters).unwrap_or_default(),
            },
            region: geo.region,
            asn: &self.asn,
            device: agent.device.as_str(),
            os: &agent.os,
            browser: &agent.browser,
            language: visitor.language,
            ip: &self.ip,
            timestamp: &self.timestamp,
            source: query.source_octets(),
            external_id: query.external_id_octets(),
        };
        self.location.clear();
        let raw = link.pass_query.then_some(visitor.raw_query);
        let passed_on = raw.into_iter().flat_map(query::passed_on);
        if destination.expand(&values, passed_on, &mut self.location) {
            Ok(self.location.split().freeze())
        } else {
            Err(Refusal::LocationTooLong)
        }
    }

    /// Formats the values that the destination needs and no others.
    fn format(&mut self, needs: RequiredValues, click: &Click<'_>) {
        if needs.ip {
            let stored = Ipv6Addr::from(click.visitor.stored_address);
            write_into(&mut self.ip, stored.to_canonical());
        }
        if needs.timestamp {
            write_into(&mut self.timestamp, click.now.estimate.0 / 1_000_000);
        }
        if needs.asn {
            match click.visitor.place.asn {
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
