//! Every parser of outside bytes, each with what must hold whatever the bytes are.
//!
//! A target takes bytes and panics when something does not hold. Ordinary tests run all of them over
//! seeds and mutations of these; `libfuzzer/` runs the same with coverage. What finds inputs never
//! belongs here, beyond the simple mutations that tests need.
#![forbid(unsafe_code)]

mod destinations;
mod events;
mod folder;
mod input;
mod journal;
mod manifests;
mod mutations;
mod reports;
mod requests;
mod saved;
mod shipping;
mod visitors;
mod webhooks;

pub use mutations::Mutations;

/// A parser and what must hold for it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called on a command line.
    pub name: &'static str,
    /// What it reads, in a few words.
    pub reads: &'static str,
    /// Reads the bytes; panics when something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made of real values.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:literal, $reads:literal, $module:ident::$run:ident;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target {
            name: $name,
            reads: $reads,
            run: $module::$run,
            seeds: $module::seeds::$run,
        },)*];
    };
}

targets! {
    "click", "a whole request, to its answer and event", requests::click;
    "request", "request line and headers", requests::request;
    "query", "a query against a second reader of it", requests::query;
    "agent", "User-Agent", visitors::agent;
    "forwarded", "X-Forwarded-For and Forwarded", visitors::forwarded;
    "proxy", "PROXY protocol, versions 1 and 2", visitors::proxy;
    "destination", "destinations and the values filled in", destinations::destination;
    "links", "links.toml", destinations::links;
    "settings", "settings files of both daemons", destinations::settings;
    "click-id", "click ids and their signatures", events::click_id;
    "event", "the binary form of events", events::event;
    "rows", "batches to rows of ClickHouse", events::rows;
    "frames", "concatenated frames", journal::frames;
    "segment", "a segment at the journal's start", journal::segment;
    "journal-checkpoint", "a lane's checkpoint at the journal's start", journal::checkpoint;
    "message", "messages of edges and aggregators", shipping::message;
    "batch", "a batch's header and zstd payload", shipping::batch;
    "blocks", "the aggregator's block files and checkpoint", saved::blocks;
    "postback", "an advertiser's request, to what is decided of it", reports::postback;
    "money", "amounts of postbacks, by a second reader", reports::money;
    "webhook", "a webhook of the identity service", webhooks::webhook;
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
