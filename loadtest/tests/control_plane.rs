//! Links of the control plane at the edges: every change reaches both, none serves a part of a change, and the last
//! version survives kills of edges and aggregator.
#![allow(missing_docs)]

mod common;

use catalog::{
    Advertiser, Affiliate, AffiliateStatus, Author, Campaign, Catalog, CatalogError,
    DEFAULT_NETWORK, Link, MAX_BULK, Object, Offer, Scope, Writer,
};
use common::wait_until;
use domain::{CampaignId, LinkId, Micros};
use loadtest::stack::{Stack, StackOptions};
use serde_json::{Value, json};
use sql_store::{Access, Database, Isolation, Location};
use std::path::Path;
use std::time::{Duration, Instant};

const EDGES: u16 = 2;
/// Changes whose way to the edges is timed.
const CHANGES: u64 = 30;
const KILLS: u64 = 12;
/// Far more than a change takes, on two cores that run every process in a debug build.
const MAX_MEDIAN: Duration = Duration::from_secs(1);

/// The catalog, written by a process of its own.
struct ControlPlane {
    runtime: tokio::runtime::Runtime,
    catalog: Catalog,
    campaign: CampaignId,
    links: Vec<LinkId>,
}

fn settings<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("valid settings")
}

async fn create(writer: &mut Writer<'_>) -> Result<(CampaignId, Vec<LinkId>), CatalogError> {
    let advertiser: Advertiser = settings(json!({ "name": "shop", "dialect": "generic" }));
    let advertiser = writer.create(advertiser).await?.id;
    let destinations = json!([{ "name": "main", "url": "https://shop.example/" }]);
    let offer: Offer = settings(json!({
        "name": "offer", "advertiser": advertiser, "access": "open", "destinations": destinations,
    }));
    let offer = writer.create(offer).await?.id;
    let affiliate: Affiliate = settings(json!({ "name": "ann" }));
    let affiliate = writer.create(affiliate).await?;
    let (id, revision) = (affiliate.id, affiliate.revision);
    let approved = AffiliateStatus::Approved;
    writer
        .set_status::<Affiliate>(id, revision, approved, "")
        .await?;
    let campaign: Campaign = settings(json!({ "name": "spring", "affiliate": id, "offer": offer }));
    let campaign = writer.create(campaign).await?.id;
    let mut links = Vec::new();
    for slug in ["a", "b"] {
        let link: Link = settings(json!({
            "slug": slug, "campaign": campaign, "destination": "https://shop.example/0",
        }));
        links.push(writer.create(link).await?.id);
    }
    Ok((campaign, links))
}

impl ControlPlane {
    fn open(store: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let location = Location::File(store.into());
        let access = Access {
            application_name: "test",
            max_connections: 2,
        };
        let open = async || {
            let database = Database::connect(&location, access).await?;
            Catalog::open(database, Micros::now()).await
        };
        let mut catalog = None;
        // The aggregator may create the same tables at this moment.
        wait_until("the catalog opens", || {
            catalog = runtime.block_on(open()).ok();
            catalog.is_some()
        });
        let mut control_plane = Self {
            runtime,
            catalog: catalog.expect("just opened"),
            campaign: CampaignId(0),
            links: Vec::new(),
        };
        let created = control_plane.write(async |writer| create(writer).await);
        (control_plane.campaign, control_plane.links) = created;
        control_plane
    }

    fn write<T>(&self, work: impl AsyncFn(&mut Writer<'_>) -> Result<T, CatalogError>) -> T {
        let written = self.runtime.block_on(async {
            let database = self.catalog.database();
            let mut attempts = database.attempts(Isolation::ReadCommitted);
            loop {
                let mut tx = attempts.begin().await?;
                let scope = Scope::Network(DEFAULT_NETWORK);
                let author = Author::program("test");
                let written = async {
                    let mut writer = self
                        .catalog
                        .writer(&mut tx, scope, author, Micros::now)
                        .await?;
                    work(&mut writer).await
                };
                let written = written.await;
                if let Some(written) = attempts.finish(tx, written).await {
                    return written;
                }
            }
        });
        written.expect("written")
    }

    /// Creates links with slugs of their own, in as many requests as that takes.
    fn create_links(&self, count: usize) {
        let numbers: Vec<usize> = (0..count).collect();
        for numbers in numbers.chunks(MAX_BULK) {
            let link = |number: &usize| -> Link {
                settings(json!({ "slug": format!("link-{number}"), "campaign": self.campaign }))
            };
            let links: Vec<Link> = numbers.iter().map(link).collect();
            self.write(async |writer| {
                let drafts = links.iter().cloned().map(Into::into).collect();
                writer.create_many::<Link>(drafts).await
            });
        }
    }

    /// Gives both links the destination of this number, in one transaction.
    fn publish(&self, number: u64) {
        self.write(async |writer| {
            for id in &self.links {
                let Object {
                    revision,
                    settings: mut link,
                    ..
                } = writer.reader().get::<Link>(*id).await?;
                link.destination = Some(format!("https://shop.example/{number}"));
                writer.update(*id, revision, link).await?;
            }
            Ok(())
        });
    }
}

/// The times from the commit of a change to both edges serving it, sorted.
fn time_changes(control_plane: &ControlPlane, all_serve: impl Fn(u64) -> bool) {
    let time = |number| {
        control_plane.publish(number);
        let committed = Instant::now();
        wait_until("both edges serve the change", || all_serve(number));
        committed.elapsed()
    };
    let mut times: Vec<Duration> = (1..=CHANGES).map(time).collect();
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "a change is served by both edges after {median:.0?} (median), {longest:.0?} (longest)"
    );
    assert!(median < MAX_MEDIAN);
}

/// A client of the edges.
struct Visitor(ureq::Agent);

impl Visitor {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)))
            .proxy(None)
            .build();
        Self(ureq::Agent::new_with_config(config))
    }

    /// Where a link leads; `None` without a redirect.
    fn location(&self, edge: &str, slug: &str) -> Option<String> {
        let response = self.0.get(format!("{edge}/c/{slug}")).call().ok()?;
        let location = response.headers().get("location")?.to_str().ok()?;
        Some(location.to_owned())
    }

    /// The number in a link's destination; `None` without a redirect.
    fn visit(&self, edge: &str, slug: &str) -> Option<u64> {
        let location = self.location(edge, slug)?;
        let number = location.strip_prefix("https://shop.example/")?;
        number.split('?').next()?.parse().ok()
    }

    /// Whether the edge serves this version, or has gone back to an earlier one or serves a part of one.
    fn serves(&self, edge: &str, number: u64) -> bool {
        // A change between both visits makes the second one newer, never older.
        let [first, second] = ["a", "b"].map(|slug| self.visit(edge, slug));
        assert!(
            second >= first || second.is_none(),
            "{first:?} then {second:?}"
        );
        (first, second) == (Some(number), Some(number))
    }
}

fn start(dir: &Path) -> Stack {
    let options = StackOptions {
        control_plane: true,
        ..StackOptions::default()
    };
    Stack::start_with(dir, EDGES, None, &options, |_| {}).expect("starts")
}

#[test]
fn changes_reach_both_edges_whatever_is_killed() {
    let seed = getrandom::u64().expect("random");
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut stack = start(dir.path());
    let control_plane = ControlPlane::open(&dir.path().join("aggregator/store/store.sqlite"));
    let visitor = Visitor::new();
    let edges = stack.edge_urls.clone();
    let all_serve = |number| edges.iter().all(|edge| visitor.serves(edge, number));
    wait_until("both edges serve the links", || all_serve(0));

    time_changes(&control_plane, all_serve);

    for number in CHANGES + 1..=CHANGES + KILLS {
        let victim = random.usize(..3);
        let process = match victim {
            2 => &mut stack.aggregator,
            edge => &mut stack.edges[edge],
        };
        if random.bool() {
            control_plane.publish(number);
            std::thread::sleep(Duration::from_millis(random.u64(..300)));
            process.kill().expect("killed");
        } else {
            process.kill().expect("killed");
            control_plane.publish(number);
        }
        for (edge, url) in edges.iter().enumerate().filter(|(edge, _)| *edge != victim) {
            let served = visitor.visit(url, "a");
            assert!(served >= Some(number - 1), "edge {edge} serves {served:?}");
        }
        process.restart().expect("restarts");
        wait_until("both edges serve the change", || all_serve(number));
    }
    let newest = CHANGES + KILLS;

    // Without the aggregator an edge serves what its disk holds.
    stack.aggregator.kill().expect("killed");
    for edge in &mut stack.edges {
        edge.restart().expect("restarts");
    }
    assert!(all_serve(newest));
    stack.aggregator.restart().expect("restarts");
    stack.stop().expect("stops");
}

/// The resident memory of a process, in MiB.
fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let kib: u64 = kib.expect("a number of KiB");
    kib / 1024
}

/// `CONTROL_PLANE_LINKS` is the number of links.
#[test]
#[ignore = "minutes; for the figures in docs/performance.md, with release programs: `--release -- --ignored`"]
fn change_among_many_links_is_served_soon() {
    let count = std::env::var("CONTROL_PLANE_LINKS");
    let count = count.map_or(1_000_000, |count| count.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("temporary directory");
    let stack = start(dir.path());
    let control_plane = ControlPlane::open(&dir.path().join("aggregator/store/store.sqlite"));
    let visitor = Visitor::new();
    let edges = stack.edge_urls.clone();
    let all_serve = |number| edges.iter().all(|edge| visitor.serves(edge, number));
    wait_until("both edges serve the links", || all_serve(0));
    let memory = || {
        let pid = stack.edges[0].pid().expect("it runs");
        let aggregator = stack.aggregator.pid().expect("it runs");
        (resident_mib(pid), resident_mib(aggregator))
    };
    println!("edge and aggregator have {:?} MiB", memory());
    let started = Instant::now();
    control_plane.create_links(count);
    println!("{count} links were created in {:.1?}", started.elapsed());
    let created = Instant::now();
    let last = format!("link-{}", count - 1);
    wait_until("both edges serve the last link", || {
        let is_served = |edge: &String| visitor.location(edge, &last).is_some();
        edges.iter().all(is_served)
    });
    println!(
        "both edges served the last one {:.1?} later",
        created.elapsed()
    );
    let before = memory();
    time_changes(&control_plane, all_serve);
    println!(
        "edge and aggregator have {before:?} MiB, after the changes {:?} MiB",
        memory()
    );
    stack.stop().expect("stops");
}
