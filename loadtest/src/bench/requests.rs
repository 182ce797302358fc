//! The requests of a benchmark: rendered once; the visitor's address is written into them when sent.
//!
//! The same seed gives the same requests in the same order for every server.

use crate::traffic::{self, Random};

/// Variants per user agent: different combinations of pages, links and parameters.
const VARIANTS: usize = 256;
/// Three digits per octet, so that an address can be overwritten in place.
const PLACEHOLDER: &str = "100.100.100.100";

/// An endless source of requests.
pub(super) trait RequestSource {
    /// The next request's bytes.
    fn next_request(&mut self) -> &[u8];
}

/// Requests for clicks.
#[derive(Debug)]
pub(super) struct ClickRequests {
    templates: Vec<Template>,
    visitors: u64,
    random: Random,
}

#[derive(Debug, Clone)]
struct Template {
    bytes: Vec<u8>,
    /// Offset of the visitor's address.
    address: usize,
}

impl ClickRequests {
    /// Clicks on `slugs` by `visitors` distinct visitors; `close` asks the server to close the connection after the
    /// response.
    #[must_use]
    pub(super) fn new(slugs: &[String], visitors: u64, close: bool, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let templates = traffic::agents()
            .flat_map(|agent| std::iter::repeat_n(agent, VARIANTS))
            .map(|agent| Template::new(agent, slugs, close, &mut random))
            .collect();
        Self {
            templates,
            visitors: visitors.max(1),
            random,
        }
    }
}

impl RequestSource for ClickRequests {
    fn next_request(&mut self) -> &[u8] {
        let visitor = self.random.below(self.visitors);
        // A visitor's properties depend only on its number.
        let mut visitor_random = Random::new(visitor ^ 0x5eed);
        let agent = traffic::agent_of(visitor_random.below(100));
        let variant = self.random.below(VARIANTS as u64) as usize;
        let template = &mut self.templates[agent * VARIANTS + variant];
        let place = &mut template.bytes[template.address..][..PLACEHOLDER.len()];
        for octet in place.chunks_mut(4) {
            let value = 100 + visitor_random.below(124) as u8;
            octet[..3].copy_from_slice(&[
                b'0' + value / 100,
                b'0' + value / 10 % 10,
                b'0' + value % 10,
            ]);
        }
        &template.bytes
    }
}

impl Template {
    fn new(agent: &str, slugs: &[String], close: bool, random: &mut Random) -> Self {
        let slug = &slugs[random.below(slugs.len() as u64) as usize];
        let (creator, page, story) = (random.below(50), random.below(40), random.below(1_000));
        let connection = if close { "close" } else { "keep-alive" };
        let text = format!(
            "GET /c/{slug}?sub1=creator{creator}&sub2=story-{story}&source=profile HTTP/1.1\r\n\
             Host: go.fanz.example\r\nConnection: {connection}\r\nUser-Agent: {agent}\r\n\
             Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
             Accept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
             Referer: https://creator{creator}.example/page/{page}\r\n\
             X-Forwarded-For: {PLACEHOLDER}\r\nUpgrade-Insecure-Requests: 1\r\n\
             Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
             Sec-Fetch-Site: cross-site\r\n\r\n"
        );
        let address = text.find(PLACEHOLDER).expect("written above");
        Self {
            bytes: text.into_bytes(),
            address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn seed_determines_requests_and_visitors() {
        let stream = |seed, visitors| {
            let mut requests = ClickRequests::new(&["a".into(), "b".into()], visitors, false, seed);
            (0..2_000)
                .map(|_| String::from_utf8(requests.next_request().to_vec()).expect("text"))
                .collect::<Vec<_>>()
        };
        assert_eq!(stream(1, 100), stream(1, 100));
        assert_ne!(stream(1, 100), stream(2, 100));
        let visitor = |request: &String| {
            let line = |name: &str| {
                let line = request.lines().find(|line| line.starts_with(name));
                line.expect("found").to_owned()
            };
            (line("X-Forwarded-For"), line("User-Agent"))
        };
        let visitors: BTreeSet<_> = stream(1, 100).iter().map(visitor).collect();
        assert_eq!(visitors.len(), 100);
    }
}
