//! The visitor salt of a real edge: its files reveal no visitor of an ended period, and the nodes of a fleet agree.
#![allow(missing_docs)]

mod harness;

use domain::Micros;
use event_shipping::VisitorSalt;
use harness::fleet::WelcomingAggregator;
use harness::{CHROME, Edge, journal};
use siphasher::sip::SipHasher24;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

const PERIOD_MICROS: u64 = 1_000_000;
const SHORT_PERIODS: &str = "[visitor]\nperiod = \"1s\"\n[unique]\nwindow = \"1s\"\n";

/// Every key of `period` that follows from the texts of secret files.
fn keys_from(files: &[String], period: u64) -> Vec<[u8; 16]> {
    let half = |bytes: &[u8]| <[u8; 16]>::try_from(&bytes[..16]).expect("16 bytes");
    let mut keys = Vec::new();
    for text in files {
        let words = text.split(|c: char| !c.is_ascii_hexdigit());
        for word in words.filter(|word| matches!(word.len(), 32 | 64)) {
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(word.as_bytes());
            let bytes = bytes.expect("hexadecimal");
            keys.push(half(&bytes));
            // As derived by earlier versions, which had one secret for all periods.
            let context = "FanzFiliate edge 2026-11 visitor id period key v1";
            let of_secret = blake3::Hasher::new_derive_key(context)
                .update(&bytes)
                .update(&PERIOD_MICROS.to_le_bytes())
                .update(&period.to_le_bytes())
                .finalize();
            keys.push(half(of_secret.as_bytes()));
            // As derived by a ratchet that continues from the period in the file.
            let mut state = bytes;
            for _ in 0..20 {
                let context = "FanzFiliate edge 2026-12 visitor salt period key v1";
                keys.push(half(&blake3::derive_key(context, &state)));
                let context = "FanzFiliate edge 2026-12 visitor salt next state v1";
                state = blake3::derive_key(context, &state).into();
            }
        }
    }
    keys
}

/// The addresses of a stored network that would have this id.
fn addresses_with_id(id: u64, keys: &[[u8; 16]]) -> Vec<Ipv4Addr> {
    let agent = blake3::hash(CHROME.as_bytes());
    let candidates = (0..=255).map(|host| Ipv4Addr::new(127, 0, 0, host));
    candidates
        .filter(|address| {
            let mut message = address.to_ipv6_mapped().octets().to_vec();
            message.extend_from_slice(&agent.as_bytes()[..16]);
            keys.iter()
                .any(|key| SipHasher24::new_with_key(key).hash(&message) == id)
        })
        .collect()
}

/// The texts of all files directly in the data directory.
fn secret_files(data: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data).expect("readable").flatten();
    let files = files.filter(|it| it.path().is_file());
    files
        .filter_map(|it| std::fs::read_to_string(it.path()).ok())
        .collect()
}

#[test]
fn files_of_later_periods_reveal_no_visitor() {
    let edge = Edge::with(SHORT_PERIODS);
    let data = edge.dir.path().join("data");
    let of_its_period = secret_files(&data);
    assert_eq!(edge.get("/c/spring").status, 302);
    let begun = Micros::now().0 / PERIOD_MICROS;
    // Only the passing of time ends a period.
    while Micros::now().0 / PERIOD_MICROS < begun + 3 {
        std::thread::sleep(Duration::from_millis(50));
    }
    let dir = edge.kill9();
    let data = dir.path().join("data");
    let click = journal::clicks(dir.path(), 2)[0];
    let (id, period) = (click.visitor, click.time.0 / PERIOD_MICROS);
    let known = addresses_with_id(id, &keys_from(&of_its_period, period));
    assert_eq!(
        known,
        [Ipv4Addr::LOCALHOST],
        "the attack works with files of the period itself"
    );
    let later = addresses_with_id(id, &keys_from(&secret_files(&data), period));
    assert_eq!(later, [] as [Ipv4Addr; 0], "with files of a later period");
}

#[test]
fn edges_adopt_the_fleets_salt_and_recognise_visitors() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let period_micros = 86_400_000_000;
    let salt = VisitorSalt {
        period_micros,
        period: Micros::now().0 / period_micros,
        state: [9; 32],
    };
    let aggregator = WelcomingAggregator::start(dir.path(), Some(salt));
    let more = format!(
        "[tls]\ndir = \"{}/tls\"\ndevelopment = true\n[aggregator]\naddress = \"{}\"\n",
        dir.path().display(),
        aggregator.address
    );
    let visitors = [(), ()].map(|()| {
        let edge = Edge::with(&more);
        edge.await_metric("edge_trust_changes_total", "salt_adopted", 1);
        assert_eq!(edge.get("/c/spring").status, 302);
        journal::clicks(edge.kill9().path(), 2)[0].visitor
    });
    assert_eq!(visitors[0], visitors[1]);
}
