//! Realistic clicks for the benchmarks of several crates. Measured code never belongs here.

use domain::{CostMicros, LaneId, LinkId, Micros, NodeId, Seq, VisitorId};
use tracking_events::{
    ClickIdParts, Device, Event, Flags, Geo, KeyId, KeyRing, Link, MacKey, UserAgent, Visit, encode,
};

type Agent = (Device, &'static str, &'static str, &'static str);

/// 2027-01-15, in microseconds since 1970.
const START: u64 = 1_800_000_000_000_000;

const AGENTS: [Agent; 5] = [
    (
        Device::Phone,
        "Android",
        "Chrome",
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36",
    ),
    (
        Device::Desktop,
        "Windows",
        "Chrome",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
    ),
    (
        Device::Phone,
        "iPhone",
        "Safari",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    ),
    (
        Device::Desktop,
        "Linux",
        "Firefox",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (
        Device::Bot,
        "",
        "Googlebot",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    ),
];

const COUNTRIES: [[u8; 2]; 6] = [*b"DE", *b"US", *b"NO", *b"FR", *b"IN", *b"BR"];

/// The encoded click `number` of a lane; the same number always gives the same bytes.
pub(crate) fn encoded_click(number: u64) -> Vec<u8> {
    let noise = mixed(number);
    let link = LinkId((noise % 200) as u32);
    let texts = [
        format!("offer-{}", link.0 % 20),
        format!("campaign-{}", link.0 % 50),
        format!("affiliate-{}", link.0 % 40),
        format!("slug-{}", link.0),
        format!("zone{}", noise >> 8 & 0xfff),
        format!("{:016x}", mixed(noise)),
    ];
    let visit = visit(number, noise, link, &texts);
    let mut out = vec![0; 4096];
    let length = encode(&Event::Click(visit), &mut out).expect("it is far shorter");
    out.truncate(length);
    out
}

fn visit<'a>(number: u64, noise: u64, link: LinkId, texts: &'a [String; 6]) -> Visit<'a> {
    let [offer, campaign, affiliate, slug, zone, external] = texts;
    let time = Micros(START + number * 250 + noise % 250);
    let (device, os, browser, raw) = AGENTS[(noise >> 20) as usize % AGENTS.len()];
    let mut subs = [""; 10];
    subs[..2].copy_from_slice(&[zone, "banner-300x250"]);
    let bot = device == Device::Bot;
    Visit {
        id: ring().sign(parts(number, time, link)),
        time,
        link: Link {
            id: link,
            slug,
            offer,
            campaign,
            affiliate,
        },
        visitor: VisitorId(mixed(noise ^ 1)),
        flags: if bot { Flags::BOT } else { Flags(0) },
        status: 302,
        address: address(noise),
        geo: Geo {
            country: COUNTRIES[(noise >> 30) as usize % COUNTRIES.len()],
            region: "",
            asn: (noise >> 40) as u32 % 60_000,
        },
        agent: UserAgent {
            device,
            os,
            browser,
            raw,
        },
        language: "en-us",
        host: "go.example.com",
        referrer: "",
        source: "newsletter",
        external_id: external,
        cost: CostMicros(12_500),
        subs,
    }
}

fn parts(number: u64, time: Micros, link: LinkId) -> ClickIdParts {
    ClickIdParts {
        time,
        node: NodeId(1),
        lane: LaneId(0),
        seq: Seq(number),
        link,
    }
}

fn ring() -> KeyRing {
    let key = KeyId::new(0).expect("below 32");
    KeyRing::new(key, [(key, MacKey::new([7; 32]))]).expect("the active key is among the keys")
}

/// An IPv4 address without its last byte, as stored.
fn address(noise: u64) -> [u8; 16] {
    let [a, b, c, ..] = noise.to_le_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, 0]
}

/// Maps consecutive numbers to evenly distributed ones.
fn mixed(number: u64) -> u64 {
    fastrand::Rng::with_seed(number).u64(..)
}
