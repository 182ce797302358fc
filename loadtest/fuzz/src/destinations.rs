//! Links files, settings files and destinations. Invariant: no value leads to another host than the link's.

use crate::input::{Input, piece};
use crate::temp_dir::temp_dir;
use bytes::BytesMut;
use edge_tracker::links::{self, Destination, Slug, Values};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use tempfile::TempDir;
use url::Url;

/// The host that a browser would connect to, by the URL standard that browsers follow; `None` if it would not
/// connect.
pub(crate) fn host_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    assert!(matches!(url.scheme(), "http" | "https"), "{address}");
    assert!(
        url.username().is_empty() && url.password().is_none(),
        "{address}"
    );
    url.host_str().map(str::to_owned)
}

/// Macro values: the same hostile text everywhere except for the click id.
fn values<'a>(text: &'a str, subs: &'a [&'a [u8]; 10]) -> Values<'a> {
    Values {
        click_id: "A0123456789abcdefghijklmnopqrstuvwxyzZ",
        link: text,
        campaign: text,
        offer: text,
        affiliate: text,
        subs,
        country: text,
        region: text,
        asn: text,
        device: text,
        os: text,
        browser: text,
        language: text,
        ip: text,
        timestamp: text,
        source: text.as_bytes(),
        external_id: text.as_bytes(),
    }
}

fn expanded(destination: &Destination, text: &str, passed_on: &[&str]) -> Option<String> {
    let mut out = BytesMut::new();
    let subs = [text.as_bytes(); 10];
    let fits = destination.expand(&values(text, &subs), passed_on.iter().copied(), &mut out);
    let out = String::from_utf8(out.to_vec()).expect("ASCII");
    assert!(out.bytes().all(|byte| byte.is_ascii_graphic()), "{out:?}");
    assert!(http::HeaderValue::from_str(&out).is_ok());
    assert!(!fits || out.len() <= 16 << 10);
    fits.then_some(out)
}

/// A destination, a name and a value.
pub(crate) fn destination(bytes: &[u8]) {
    let mut input = Input(bytes);
    let text = String::from_utf8_lossy(input.piece());
    let name = String::from_utf8_lossy(input.piece());
    let value = String::from_utf8_lossy(input.0);
    let Ok(plain) = Destination::try_from(text.clone().into_owned()) else {
        return;
    };
    let tagged = plain.clone().with_click_id();
    assert_eq!(tagged, tagged.clone().with_click_id());
    // A value of a single letter can't change the host.
    let expected = expanded(&plain, "a", &[]).expect("it is short");
    let host = host_of(&expected);
    for destination in [&plain, &tagged] {
        for passed_on in [&[][..], &[&*name, &*value, &*format!("{value}={name}")]] {
            if let Some(address) = expanded(destination, &value, passed_on) {
                assert_eq!(host_of(&address), host, "{address} of {text}");
            }
        }
    }
    let at = tagged_at(&tagged);
    assert!(
        at.contains("A0123456789abcdefghijklmnopqrstuvwxyzZ"),
        "{at}"
    );
}

fn tagged_at(tagged: &Destination) -> String {
    expanded(tagged, "a", &[]).expect("it is short")
}

thread_local! {
    static FILE: (TempDir, PathBuf) = {
        let dir = temp_dir();
        let file = dir.path().join("file.toml");
        // Private, because a settings file may hold a password.
        let mut private = OpenOptions::new();
        let private = private.write(true).create_new(true).mode(0o600);
        private.open(&file).expect("created");
        (dir, file)
    };
}

fn with_file<T>(bytes: &[u8], read: impl FnOnce(&std::path::Path) -> T) -> T {
    FILE.with(|(_dir, file)| {
        std::fs::write(file, bytes).expect("writable");
        read(file)
    })
}

pub(crate) fn links(bytes: &[u8]) {
    match with_file(bytes, links::load) {
        Ok(loaded) => {
            let text = std::str::from_utf8(bytes).expect("TOML is UTF-8");
            let file: toml::Table = text.parse().expect("it was read");
            let entries = file.get("link").and_then(|it| it.as_array());
            let entries = entries.map_or(&[][..], Vec::as_slice);
            assert_eq!(loaded.len(), entries.len());
            for entry in entries {
                let slug = entry["slug"].as_str().expect("text");
                assert!(Slug::try_from(slug.to_owned()).is_ok());
                let link = loaded.find(slug, "").expect("found");
                assert_eq!(&*link.slug, slug);
                assert_eq!(
                    i64::from(link.id.0),
                    entry["id"].as_integer().expect("number")
                );
                assert!(link.code.is_redirection());
                let configured = entry["destination"].as_str().expect("text");
                let plain = Destination::try_from(configured.to_owned()).expect("valid");
                let address = expanded(&link.destination, "x", &[]).expect("short");
                let expected = expanded(&plain, "x", &[]).expect("short");
                assert_eq!(host_of(&address), host_of(&expected));
            }
        }
        Err(error) => check_error_position(&error, bytes),
    }
}

/// An error names its line, with an excerpt that fits a terminal.
fn check_error_position(error: &daemon::settings::SettingsError, bytes: &[u8]) {
    if let daemon::settings::SettingsError::Invalid { line, text, .. } = error {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!((1..=lines).contains(line), "line {line} of {lines}");
        assert!(text.chars().count() <= 120);
    }
}

/// A settings file of an edge or an aggregator.
pub(crate) fn settings(bytes: &[u8]) {
    use edge_tracker::settings::Settings;
    match with_file(bytes, daemon::settings::load::<Settings>) {
        Ok(settings) => {
            let _ = settings.contradictions();
            assert!(settings.worker_count() > 0);
            assert!((256..=65_535).contains(&settings.http.max_url_bytes.get().0));
            assert!((16..=512).contains(&settings.http.max_parameter_bytes.get().0));
        }
        Err(error) => check_error_position(&error, bytes),
    }
    match with_file(bytes, aggregator::settings::read) {
        Ok(settings) => assert!(settings.limits.max_edges.get() > 0),
        Err(aggregator::settings::InvalidSettings::File(error)) => {
            check_error_position(&error, bytes)
        }
        Err(_) => {}
    }
}

pub(crate) mod seeds {
    //! Links and settings as operators write them.

    use super::piece;

    pub(crate) fn destination() -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for text in [
            "https://shop.example/{_sub1}/x?c={click_id}&s={sub1}&t={sub10}#top",
            "https://shop.example",
            "https://shop.example?{_source}",
            "https://shop.example#{_sub2}",
            "http://shop.example:8080/{_offer}{_campaign}{_affiliate}{_link}{_ip}{_asn}",
            "https://[2001:db8::1]:443/{timestamp}{language}{browser}{os}{device}",
            "https://user@evil.example/",
            "https://www.bücher.example:8080/{sub1}",
            "https://b%C3%BCcher.example/{sub1}",
            "https://{sub1}.example/",
            "https://shop.example/{sub1",
        ] {
            for value in [
                "a",
                "//evil.example/?#@:\\",
                "\r\nSet-Cookie: x=y",
                "ü{}|^`<>\" &=",
            ] {
                seeds.push(
                    [
                        piece(text.as_bytes()),
                        piece(b"n&m"),
                        value.as_bytes().to_vec(),
                    ]
                    .concat(),
                );
            }
        }
        seeds
    }

    pub(crate) fn links() -> Vec<Vec<u8>> {
        let one = "[[link]]\nid = 1\nslug = \"a\"\noffer = \"o\"\ncampaign = \"c\"\naffiliate = \"f\"\ndestination = \"https://shop.example/{sub1}?x={click_id}\"\n";
        let more = "code = 307\nstate = \"paused\"\nfallback = \"https://shop.example/\"\npass_query = true\nappend_click_id = false\n";
        let two = one
            .replace("id = 1", "id = 2")
            .replace("\"a\"", "\"b.c-d_e\"");
        let files = [
            String::new(),
            one.to_owned(),
            [one, more, &two].concat(),
            [one, one].concat(),
        ];
        files.map(String::into_bytes).into()
    }

    pub(crate) fn settings() -> Vec<Vec<u8>> {
        let edge = "node = 1\ndata_dir = \"d\"\n[http]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"[::1]:0\"\ntrusted_proxies = [\"10.0.0.0/8\"]\nforwarded_header = \"forwarded\"\nheader_timeout = \"5s\"\nmax_url_bytes = \"8KiB\"\n[links]\nfile = \"links.toml\"\n[unique]\nwindow = \"12h\"\nfalse_positive_rate = 0.001\n[journal]\nmax_bytes = \"1GiB\"\n[aggregator]\naddress = \"h:1\"\nbatch_age = \"200ms\"\n";
        let aggregator = "data_dir = \"d\"\nlisten = \"0.0.0.0:7400\"\n[tls]\ndir = \"t\"\n[clickhouse]\nurl = \"http://127.0.0.1:8123\"\npassword = \"p\"\n[blocks]\nmax_rows = 1000\nmax_age = \"1s\"\n[limits]\nmax_edges = 10\npending_bytes = \"2MiB\"\n";
        [edge, aggregator, ""]
            .map(|text| text.as_bytes().to_vec())
            .into()
    }
}
