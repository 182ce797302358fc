//! Both record layouts, missing fields, and the reload of files.

use super::mmdb::{Record, Value, file};
use super::*;
use daemon::files::SETTLE_TIME;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use tempfile::TempDir;
use tracing::subscriber::with_default;
use tracing::{Level, Metadata, Subscriber, span};

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn warnings<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let counter = Warnings::default();
    let result = with_default(counter.clone(), run);
    (result, counter.0.load(Ordering::Relaxed))
}

fn nested(country: &'static str, region: &'static str) -> Record {
    let iso = |code| {
        Value::Map(vec![
            ("geoname_id", Value::Number(7)),
            ("iso_code", Value::Text(code)),
        ])
    };
    let mut record = vec![("city", Value::Map(vec![])), ("country", iso(country))];
    if !region.is_empty() {
        record.push(("subdivisions", Value::List(vec![iso(region), iso("XX")])));
    }
    record
}

fn flat(country: &'static str) -> Record {
    vec![("country_code", Value::Text(country))]
}

fn asn(number: u32) -> Record {
    vec![
        ("autonomous_system_number", Value::Number(number)),
        (
            "autonomous_system_organization",
            Value::Text("An operator of a large network"),
        ),
    ]
}

struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            dir: TempDir::new().expect("temporary directory"),
        }
    }

    fn settings(&self) -> GeoSettings {
        GeoSettings {
            country: Some(self.dir.path().join("country.mmdb")),
            asn: Some(self.dir.path().join("asn.mmdb")),
            ..GeoSettings::default()
        }
    }

    /// Replaces a file as an operator should: writes a temporary file and renames it.
    fn put(&self, name: &str, bytes: &[u8]) {
        let temporary = self.dir.path().join("temporary");
        fs::write(&temporary, bytes).expect("written");
        fs::rename(&temporary, self.dir.path().join(name)).expect("renamed");
    }

    fn both(&self) {
        self.put("country.mmdb", &city_file());
        self.put(
            "asn.mmdb",
            &file(6, "GeoLite2-ASN", vec![("192.0.2.0/24", asn(64_500))]),
        );
    }
}

fn city_file() -> Vec<u8> {
    file(
        6,
        "GeoLite2-City",
        vec![
            ("192.0.2.0/24", nested("DE", "BE")),
            ("198.51.100.0/25", nested("fr", "")),
            ("203.0.113.0/24", vec![("continent", Value::Text("EU"))]),
            ("2001:db8::/32", nested("US", "CA")),
            ("2001:db9::/32", nested("Germany", "too-long")),
        ],
    )
}

fn place(geo: &Geo, address: &str) -> (String, String, u32) {
    let place = geo.lookup(address.parse().expect("address"));
    let event = place.as_event();
    let country = String::from_utf8_lossy(&event.country).replace('\0', "");
    (country, event.region.into(), event.asn)
}

fn expect(geo: &Geo, address: &str, country: &str, region: &str, asn: u32) {
    assert_eq!(
        place(geo, address),
        (country.into(), region.into(), asn),
        "{address}"
    );
}

#[test]
fn nested_records_give_country_region_and_asn() {
    let files = Files::new();
    files.both();
    let (geo, warned) = warnings(|| Geo::open(&files.settings()));
    assert_eq!(warned, 0);
    expect(&geo, "192.0.2.200", "DE", "BE", 64_500);
    expect(&geo, "::ffff:192.0.2.200", "DE", "BE", 64_500);
    expect(&geo, "2001:db8::1", "US", "CA", 0);
    expect(&geo, "198.51.100.127", "FR", "", 0);
    expect(&geo, "198.51.100.128", "", "", 0);
    expect(&geo, "203.0.113.1", "", "", 0);
    expect(&geo, "2001:db9::1", "", "", 0);
    assert_eq!(geo.built(), [Some(1_700_000_000); 2]);
}

#[test]
fn flat_records_give_the_country() {
    let files = Files::new();
    let networks = || {
        vec![
            ("192.0.2.0/24", flat("NL")),
            ("198.51.100.0/24", flat("BE")),
        ]
    };
    for version in [4, 6] {
        files.put(
            "country.mmdb",
            &file(version, "geo-whois-asn-country", networks()),
        );
        let geo = Geo::open(&GeoSettings {
            asn: None,
            ..files.settings()
        });
        expect(&geo, "192.0.2.1", "NL", "", 0);
        expect(&geo, "198.51.100.1", "BE", "", 0);
        expect(&geo, "10.0.0.1", "", "", 0);
        expect(&geo, "2001:db8::1", "", "", 0);
    }
}

const fn outcomes(loaded: usize, refused: usize) -> RefreshResult {
    RefreshResult { loaded, refused }
}

/// The outcomes of `files` changed files, each once it has settled.
fn refreshed(geo: &Geo, files: usize) -> RefreshResult {
    let (mut all, deadline) = (outcomes(0, 0), Instant::now() + 20 * SETTLE_TIME);
    while all.loaded + all.refused < files && Instant::now() < deadline {
        thread::sleep(SETTLE_TIME / 50);
        let more = geo.refresh();
        all = outcomes(all.loaded + more.loaded, all.refused + more.refused);
    }
    all
}

#[test]
fn missing_files_cause_one_warning_and_unknown_locations() {
    for settings in [GeoSettings::default(), Files::new().settings()] {
        let (geo, warned) = warnings(|| {
            let geo = Geo::open(&settings);
            let _ = geo.refresh();
            geo
        });
        assert_eq!(warned, 1);
        assert_eq!(geo.lookup([192, 0, 2, 1].into()), Location::default());
    }
}

#[test]
fn replaced_file_is_loaded_once() {
    let files = Files::new();
    let geo = Geo::open(&files.settings());
    assert_eq!(geo.refresh(), outcomes(0, 0));
    files.both();
    assert_eq!(refreshed(&geo, 2), outcomes(2, 0));
    expect(&geo, "192.0.2.1", "DE", "BE", 64_500);
    assert_eq!(geo.refresh(), outcomes(0, 0));
    files.put(
        "country.mmdb",
        &file(4, "flat", vec![("192.0.2.0/24", flat("NL"))]),
    );
    assert_eq!(geo.refresh(), outcomes(0, 0), "it may still be written");
    assert_eq!(refreshed(&geo, 1), outcomes(1, 0));
    expect(&geo, "192.0.2.1", "NL", "", 64_500);
}

#[test]
fn invalid_file_is_rejected_once_and_the_old_one_kept() {
    let files = Files::new();
    files.both();
    let geo = Geo::open(&files.settings());
    let good = city_file();
    let asn_only = file(6, "GeoLite2-ASN", vec![("192.0.2.0/24", asn(1))]);
    let bad: [&[u8]; 4] = [
        b"",
        b"<html>Too many requests</html>",
        &good[..good.len() / 2],
        &asn_only,
    ];
    for bytes in bad {
        files.put("country.mmdb", bytes);
        let (refreshed, warned) = warnings(|| [refreshed(&geo, 1), geo.refresh()]);
        assert_eq!(refreshed, [outcomes(0, 1), outcomes(0, 0)]);
        assert_eq!(warned, 1);
        expect(&geo, "192.0.2.1", "DE", "BE", 64_500);
    }
    fs::remove_file(files.dir.path().join("country.mmdb")).expect("removed");
    let (_, warned) = warnings(|| [refreshed(&geo, 1), geo.refresh()]);
    assert_eq!(warned, 1);
    expect(&geo, "192.0.2.1", "DE", "BE", 64_500);
    files.put("country.mmdb", &good);
    assert_eq!(refreshed(&geo, 1), outcomes(1, 0));
}

#[test]
fn file_above_the_limit_is_rejected() {
    let files = Files::new();
    files.both();
    let settings = GeoSettings {
        max_file_bytes: ByteSize(100),
        ..files.settings()
    };
    let (geo, warned) = warnings(|| Geo::open(&settings));
    assert_eq!(warned, 1);
    expect(&geo, "192.0.2.1", "", "", 0);
}

#[test]
fn overwritten_file_does_not_affect_lookups() {
    let files = Files::new();
    files.both();
    let geo = Geo::open(&files.settings());
    fs::write(files.dir.path().join("country.mmdb"), b"").expect("truncated in place");
    expect(&geo, "192.0.2.1", "DE", "BE", 64_500);
}

#[test]
fn damaged_bytes_never_panic() {
    let good = city_file();
    let files = Files::new();
    let settings = GeoSettings {
        asn: None,
        ..files.settings()
    };
    let mut loaded = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        files.put("country.mmdb", &bytes);
        let geo = Geo::open(&settings);
        loaded += geo.built().iter().flatten().count();
        for address in [
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8::1",
            "10.0.0.1",
        ] {
            let (country, ..) = place(&geo, address);
            assert!(country.is_empty() || country.bytes().all(|b| b.is_ascii_uppercase()));
        }
    }
    assert!(
        loaded > 100,
        "most damage is within records of files that load: {loaded}"
    );
}

#[test]
fn city_is_an_alias_of_country_and_other_keys_rejected() {
    let read = |text| toml::from_str::<GeoSettings>(text);
    assert_eq!(read("city = 'a.mmdb'"), read("country = 'a.mmdb'"));
    assert!(read("contry = 'a.mmdb'").is_err());
    assert_eq!(read("").expect("all have defaults"), GeoSettings::default());
}
