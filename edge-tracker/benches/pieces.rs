//! How long each piece of a click's way takes: user agent, place, visitor id, repeat or not, link,
//! destination. The whole way is measured elsewhere.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use domain::{LinkId, Micros, VisitorId};
use edge_tracker::links::{self, Destination, Values};
use edge_tracker::unique::{Filters, LinkUse, UniqueSettings, Uniqueness};
use edge_tracker::visitor::VisitorSettings;
use edge_tracker::visitor::address::Network;
use edge_tracker::visitor::agent::{Agents, SentHints, WorkerCache};
use edge_tracker::visitor::geo::{Geo, GeoSettings};
use edge_tracker::visitor::identity::{AgentDigest, Identity, PreviousId, VisitorIds};
use edge_tracker::visitor::salt::{Ratchet, SaltState};
use std::env;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// `#` stands for a number, that there are as many as are needed.
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.#.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.#.0 Safari/537.36 Edg/139.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E# Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/# Firefox/140.0",
];
const DAY: u64 = 24 * 3_600_000_000;
/// Length of the lists that inputs are taken from in turn, so that no single one is always in the cache.
const INPUTS: u64 = 4_096;

criterion_group! {
    name = pieces;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .nresamples(10_000);
    targets = agents, places, visitor_ids, repeats, links_by_slug, destinations
}
criterion_main!(pieces);

/// Evenly spread numbers out of consecutive ones.
fn mixed(number: u64) -> u64 {
    fastrand::Rng::with_seed(number).u64(..)
}

fn addresses(of: fn(u64) -> IpAddr) -> impl Iterator<Item = IpAddr> + Clone {
    let list: Vec<_> = (0..INPUTS).map(|number| of(mixed(number))).collect();
    list.into_iter().cycle()
}

fn v4(noise: u64) -> IpAddr {
    Ipv4Addr::from_bits(noise as u32).into()
}

/// An address out of 2000::/3, where those in use lie.
fn v6(noise: u64) -> IpAddr {
    let high = noise >> 3 | 1 << 61;
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(mixed(noise))).into()
}

fn agents(criterion: &mut Criterion) {
    let settings = VisitorSettings::default();
    let agents = Agents::new(settings.agent_cache_entries, settings.max_agent_bytes);
    let known: Vec<_> = (0..INPUTS).map(agent).collect();
    let mut recent = WorkerCache::new(&agents);
    for agent in &known {
        let _ = recent.get(agent.as_bytes(), SentHints::default(), &agents);
    }
    let mut group = criterion.benchmark_group("agent");
    let mut last = known.iter().rev().take(256).cycle();
    group.bench_function("worker-hit", |b| {
        b.iter(|| {
            let agent = last.next().expect("endless");
            let sent = black_box(agent.as_bytes());
            recent.get(sent, SentHints::default(), &agents).0.bot
        });
    });
    let mut next = known.iter().cycle();
    group.bench_function("hit", |b| {
        b.iter(|| agents.get(black_box(next.next().expect("endless"))));
    });
    let mut number = INPUTS;
    let mut unknown = || {
        number += 1;
        agent(number)
    };
    group.bench_function("miss", |b| {
        b.iter_batched_ref(
            &mut unknown,
            |agent| agents.get(agent),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn agent(number: u64) -> String {
    AGENTS[number as usize % AGENTS.len()].replace('#', &number.to_string())
}

fn places(criterion: &mut Criterion) {
    let Some(country) = geo_file() else {
        return;
    };
    let geo = Geo::open(&GeoSettings {
        country: Some(country),
        ..GeoSettings::default()
    });
    let mut group = criterion.benchmark_group("geo");
    for (name, of) in [("country-v4", v4 as fn(u64) -> IpAddr), ("country-v6", v6)] {
        let mut next = addresses(of);
        group.bench_function(name, |b| {
            b.iter(|| geo.lookup(black_box(next.next().expect("endless"))));
        });
    }
    group.finish();
}

/// The file named by `FANZFILIATE_GEO`, or the one that `cargo xtask setup` fetches.
fn geo_file() -> Option<PathBuf> {
    let cached = || {
        let home = PathBuf::from(env::var_os("HOME")?);
        Some(home.join(".cache/fanzfiliate-edge/geo/geo-whois-asn-country.mmdb"))
    };
    let named = env::var_os("FANZFILIATE_GEO").map(PathBuf::from);
    let file = named.or_else(cached).filter(|file| file.is_file());
    if file.is_none() {
        eprintln!("geo: SKIPPED, there is no file; run `cargo xtask setup` or set FANZFILIATE_GEO");
    }
    file
}

fn visitor_ids(criterion: &mut Criterion) {
    let mut identity =
        Identity::fixed(Ratchet::new(86_400_000_000, 20_000, SaltState([7; 32])).keys());
    let now = Micros(1_800_000_000_000_000);
    let digest = AgentDigest::of(AGENTS[0]);
    let mut next = addresses(v4);
    let mut address = || next.next().expect("endless");
    let mut group = criterion.benchmark_group("visitor-id");
    group.bench_function("of-agent", |b| {
        b.iter(|| identity.ids(now, address(), black_box(AGENTS[0])));
    });
    group.bench_function("of-digest", |b| {
        b.iter(|| identity.ids_of(now, address(), black_box(&digest)));
    });
    group.finish();
}

/// The default's expected visits, evenly over the day, day after day.
struct Visits {
    filters: Filters,
    step: u64,
    number: u64,
}

impl Visits {
    /// After one day, so that every generation is there and as full as expected.
    fn after_a_day() -> Self {
        let settings = UniqueSettings::default();
        let step = DAY / settings.expected_visits;
        let filters = Filters::new(&settings).expect("the default is valid");
        let mut visits = Self {
            filters,
            step,
            number: 0,
        };
        (0..settings.expected_visits).for_each(|_| {
            visits.visit_new();
        });
        visits
    }

    fn visit_new(&mut self) -> bool {
        self.number += 1;
        self.visit(self.number)
    }

    /// A visit at a fixed time, by a visitor that may have visited before.
    fn visit(&self, visitor: u64) -> bool {
        let now = 20_000 * DAY + self.number * self.step;
        let ids = VisitorIds {
            current: VisitorId(mixed(visitor)),
            previous: PreviousId::Computed(VisitorId(mixed(!visitor))),
            since: Micros(now / DAY * DAY),
        };
        let network = Network::of(IpAddr::V4(Ipv4Addr::from((visitor as u32) << 8)));
        let filters = &self.filters;
        let known = filters.check_and_set(Micros(now), LinkUse::Click(LinkId(1)), &ids, network);
        known != Uniqueness::Unique
    }
}

fn repeats(criterion: &mut Criterion) {
    let mut visits = Visits::after_a_day();
    let mut group = criterion.benchmark_group("dedup");
    group.bench_function("new", |b| b.iter(|| visits.visit_new()));
    let known: Vec<_> = (0..INPUTS).map(|back| visits.number - back).collect();
    let mut next = known.into_iter().cycle();
    group.bench_function("repeated", |b| {
        b.iter(|| visits.visit(next.next().expect("endless")));
    });
    group.finish();
}

fn links_by_slug(criterion: &mut Criterion) {
    let file = tempfile::NamedTempFile::new().expect("file for a moment");
    std::fs::write(file.path(), links_toml()).expect("written");
    let table = links::load(file.path()).expect("valid links");
    let mut group = criterion.benchmark_group("link");
    for (name, prefix) in [("hit", "slug"), ("miss", "none")] {
        let slugs: Vec<_> = (0..INPUTS).map(|n| format!("{prefix}-{n}")).collect();
        assert_eq!(table.find(&slugs[0], "").is_some(), name == "hit");
        let mut next = slugs.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| table.find(black_box(next.next().expect("endless")), ""));
        });
    }
    group.finish();
}

fn links_toml() -> String {
    let mut text = String::new();
    for id in 1..=10_000 {
        let slug = id - 1;
        write!(
            text,
            "[[link]]\nid = {id}\nslug = \"slug-{slug}\"\noffer = \"offer\"\ncampaign = \"campaign\"\n\
             affiliate = \"affiliate\"\ndestination = \"https://shop.example/{id}\"\n"
        )
        .expect("writing to a String can't fail");
    }
    text
}

fn destinations(criterion: &mut Criterion) {
    let text =
        "https://shop.example/{link}/landing?c={campaign}&a={affiliate}&z={sub1}&g={country}#top";
    let destination = Destination::try_from(String::from(text))
        .expect("valid")
        .with_click_id();
    let values = values();
    let passed_on = ["utm_source=newsletter", "coupon=10%20%25%20off"];
    let mut out = BytesMut::new();
    criterion.bench_function("destination/expand", |b| {
        b.iter(|| {
            out.clear();
            destination.expand(black_box(&values), passed_on.into_iter(), &mut out)
        });
    });
}

fn values() -> Values<'static> {
    Values {
        click_id: "A8tYBQkL1v100000GkJ2000dV9ZM7fTz8hPq0c",
        link: "spring-sale",
        campaign: "campaign 17",
        offer: "offer-3",
        affiliate: "affiliate-21",
        subs: &[b"zone1234", b"", b"", b"", b"", b"", b"", b"", b"", b""],
        country: "NO",
        region: "03",
        asn: "64500",
        device: "phone",
        os: "Android",
        browser: "Chrome",
        language: "en-us",
        ip: "192.0.2.0",
        timestamp: "1800000000",
        source: b"newsletter",
        external_id: b"x-1",
    }
}
