//! All parsers of external bytes, with the properties that must hold for any input.
//!
//! A target takes bytes and panics when a property does not hold. Ordinary tests run all targets over seeds and
//! their mutations; `libfuzzer/` runs them with coverage. Invariant: no search for inputs here, beyond the simple
//! mutations that tests need.
#![forbid(unsafe_code)]

mod destinations;
mod events;
mod input;
mod journal;
mod manifests;
mod mutations;
mod reports;
mod requests;
mod saved;
mod shipping;
mod temp_dir;
mod visitors;
mod webhooks;

pub use mutations::Mutations;

/// A parser and its properties.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name on the command line.
    pub name: &'static str,
    /// A short description of the input.
    pub reads: &'static str,
    /// Runs the parser; panics when a property does not hold.
    pub run: fn(&[u8]),
    /// Initial inputs, made from real values.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:literal, $reads:literal, $module:ident::$run:ident;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$(Target {
            name: $name,
            reads: $reads,
            run: $module::$run,
            seeds: $module::seeds::$run,
        },)*];
    };
}

targets! {
    "click", "a whole request with its response and event", requests::click;
    "request", "request line and headers", requests::request;
    "query", "a query, compared with a second parser", requests::query;
    "agent", "User-Agent", visitors::agent;
    "forwarded", "X-Forwarded-For and Forwarded", visitors::forwarded;
    "proxy", "PROXY protocol, versions 1 and 2", visitors::proxy;
    "destination", "destinations and macro values", destinations::destination;
    "links", "links.toml", destinations::links;
    "settings", "settings files of both daemons", destinations::settings;
    "click-id", "click ids and their signatures", events::click_id;
    "event", "the binary form of events", events::event;
    "rows", "batches converted to ClickHouse rows", events::rows;
    "frames", "concatenated frames", journal::frames;
    "segment", "a segment when the journal opens", journal::segment;
    "journal-checkpoint", "a lane's checkpoint when the journal opens", journal::checkpoint;
    "message", "messages of edges and aggregators", shipping::message;
    "batch", "a batch's header and zstd payload", shipping::batch;
    "blocks", "the aggregator's block files and checkpoint", saved::blocks;
    "postback", "an advertiser's request and its decision", reports::postback;
    "money", "amounts of postbacks, compared with a second parser", reports::money;
    "webhook", "a webhook of the KYC provider", webhooks::webhook;
    "advertisers", "advertisers.toml, and an advertiser's entry", reports::advertisers;
    "spin-manifest", "the manifest of functions", manifests::manifest;
    "filters", "saved filters of unique visits", saved::filters;
}

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
