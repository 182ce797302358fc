//! Identification of visitors: address behind proxies, PROXY protocol, user agent.

use crate::input::Input;
use edge_tracker::visitor::address::proxy::{self, MAX_HEADER_BYTES, Parsed};
use edge_tracker::visitor::address::{ClientAddress, ForwardedHeader};
use edge_tracker::visitor::agent::{Agents, SentHints, WorkerCache};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use tracking_events::Device;

const MAX_AGENT_BYTES: usize = 512;
/// Maximum length of a system's or browser's name in bytes.
const MAX_NAME_BYTES: usize = 64;

static AGENTS: LazyLock<Agents> = LazyLock::new(|| Agents::new(1_000, MAX_AGENT_BYTES));

thread_local! {
    static RECENT: RefCell<WorkerCache> = RefCell::new(WorkerCache::new(&AGENTS));
}

/// The User-Agent header, then the lines of three client hints.
pub(crate) fn agent(bytes: &[u8]) {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let header = line();
    let hints = SentHints {
        brands: line(),
        mobile: line(),
        platform: line(),
    };
    let text = String::from_utf8_lossy(header);
    let expected = AGENTS.cut(&text);
    let response = AGENTS.get(&text);
    assert_eq!(response.raw(), expected);
    assert!(response.raw().len() <= MAX_AGENT_BYTES);
    assert_eq!(response.bot, response.device == Device::Bot);
    assert!(AGENTS.entries() <= 1_000);
    RECENT.with_borrow_mut(|recent| {
        let (known, cut) = recent.get(header, SentHints::default(), &AGENTS);
        assert_eq!(*known, *response);
        assert_eq!(cut, expected.len() < text.len());
        let (known, _) = recent.get(header, hints, &AGENTS);
        assert_eq!(
            (known.raw(), &known.digest),
            (response.raw(), &response.digest)
        );
        for name in [&response.browser, &response.os, &known.browser, &known.os] {
            assert!(name.len() <= MAX_NAME_BYTES, "{name}");
        }
    });
}

fn trusting(header: ForwardedHeader) -> ClientAddress {
    let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
    let trusted = trusted.map(|range| range.parse().expect("range"));
    ClientAddress::new(trusted.into(), header)
}

/// A choice of header, a peer, then the header's lines, separated by line feeds.
pub(crate) fn forwarded(bytes: &[u8]) {
    let mut input = Input(bytes);
    let choice = input.u8();
    let address = trusting(if choice & 1 == 0 {
        ForwardedHeader::XForwardedFor
    } else {
        ForwardedHeader::Forwarded
    });
    let peer: IpAddr = match choice >> 1 & 3 {
        0 => Ipv4Addr::new(10, 0, 0, 1).into(),
        1 => Ipv6Addr::from(input.array::<16>()).into(),
        2 => Ipv4Addr::from(input.array::<4>()).into(),
        _ => Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into(),
    };
    let lines: Vec<&[u8]> = input.0.split(|byte| *byte == b'\n').collect();
    let found = address.resolve(peer, lines.iter().rev().copied());
    assert_eq!(found, found.to_canonical());
    if !address.is_trusted(peer) {
        assert_eq!(
            found,
            peer.to_canonical(),
            "an untrusted peer's header was used"
        );
        return;
    }
    // Everything left of the first address that is not a proxy's may be forged, in the same line or in earlier
    // ones. Quotes that a proxy left open may end the evaluation earlier.
    if !address.is_trusted(found) {
        for forged in [
            &b"203.0.113.66, "[..],
            b"for=203.0.113.66,",
            b"\",",
            b"x, \"y, ",
        ] {
            let before = lines.iter().rev().copied().chain([forged]);
            assert_eq!(address.resolve(peer, before), found, "{forged:?}");
            if !lines[0].contains(&b'"') {
                let first = [forged, lines[0]].concat();
                let within = lines[1..].iter().rev().copied().chain([&first[..]]);
                assert_eq!(address.resolve(peer, within), found, "{forged:?}");
            }
        }
    }
    // The last entry of a trusted proxy always wins, with any content quoted from the visitor.
    for appended in proxy_entries(choice & 1 == 1, lines[0]) {
        let error = Ipv4Addr::new(198, 51, 100, 7);
        let later = [&appended[..]]
            .into_iter()
            .chain(lines.iter().rev().copied());
        assert_eq!(
            address.resolve(peer, later),
            error,
            "{}",
            appended.escape_ascii()
        );
        let line = [lines[lines.len() - 1], b", ", &appended].concat();
        let earlier = lines.iter().rev().skip(1).copied();
        let within = [&line[..]].into_iter().chain(earlier);
        assert_eq!(
            address.resolve(peer, within),
            error,
            "{}",
            line.escape_ascii()
        );
    }
}

/// Entries that a proxy may append for the client 198.51.100.7 and the host `asked`.
fn proxy_entries(forwarded: bool, asked: &[u8]) -> Vec<Vec<u8>> {
    if !forwarded {
        return vec![b"198.51.100.7".to_vec(), b"198.51.100.7:4711".to_vec()];
    }
    let mut quoted = String::new();
    for character in String::from_utf8_lossy(asked).chars().take(200) {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    let words = [
        "for=198.51.100.7".to_owned(),
        format!("for=\"198.51.100.7:80\";host=\"{quoted}\""),
        format!("proto=https;host=\"{quoted}\";by=10.0.0.1;For=198.51.100.7"),
    ];
    words.map(String::into_bytes).into()
}

/// The first bytes of a connection.
pub(crate) fn proxy(bytes: &[u8]) {
    match proxy::parse(bytes) {
        Ok(Parsed::Done { source, len }) => {
            assert!(len <= bytes.len() && len <= MAX_HEADER_BYTES);
            let whole = proxy::parse(&bytes[..len]);
            assert_eq!(whole, Ok(Parsed::Done { source, len }));
            // Only a complete header is accepted, and no prefix of one is rejected.
            for end in 0..len {
                assert_eq!(proxy::parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end}");
            }
            let more = [&bytes[..len], b"\r\nGET / HTTP/1.1\r\n"].concat();
            assert_eq!(proxy::parse(&more), whole);
            if let Some(source) = source {
                assert_eq!(source.ip(), source.ip().to_canonical());
                let family = if source.is_ipv4() { 4 } else { 6 };
                let host = if family == 4 {
                    "192.0.2.1"
                } else {
                    "2001:db8::1"
                };
                let line = format!(
                    "PROXY TCP{family} {} {host} {} 443\r\n",
                    source.ip(),
                    source.port()
                );
                let expected = Parsed::Done {
                    source: Some(source),
                    len: line.len(),
                };
                assert_eq!(proxy::parse(line.as_bytes()), Ok(expected));
            }
        }
        Ok(Parsed::Incomplete) => assert!(bytes.len() < MAX_HEADER_BYTES),
        // More bytes don't make it valid.
        Err(error) => {
            for more in [&b"\r\n"[..], &[0; 300]] {
                assert_eq!(proxy::parse(&[bytes, more].concat()), Err(error));
            }
        }
    }
}

pub(crate) mod seeds {
    //! Headers of visitors and their proxies.

    pub(crate) fn agent() -> Vec<Vec<u8>> {
        let agents = [
            "",
            "-",
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 9; CUBOT_X18) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0 Mobile Safari/537.36",
            "Mozilla/5.0 (iPad; CPU OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/604.1",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/538.1 (KHTML, like Gecko) TV Safari/538.1",
            "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)",
            "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119 Version/11.10",
            "DoCoMo/2.0 N05A(c100;TB;W24H16)",
            "curl/8.5.0",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36\n\"Not;A=Brand\";v=\"99\", \"Brave\";v=\"139\"\n?0\n\"Android\"",
            "FeedFetcher-Google; (+http://www.google.com/feedfetcher.html)",
            "Mozilla/5.0 (PlayStation 4 2.50) AppleWebKit/537.73 (KHTML, like Gecko)",
        ];
        let long = [agents[2], &"ü".repeat(300)].concat();
        let mut seeds: Vec<_> = agents.map(|agent| agent.as_bytes().to_vec()).into();
        seeds.extend([long.into_bytes(), b"Mozilla/5.0 \xff\xfe (X11)".to_vec()]);
        seeds
    }

    pub(crate) fn forwarded() -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for lines in [
            "198.51.100.1",
            "203.0.113.9, 198.51.100.1,10.0.0.2 , 10.0.0.3",
            "203.0.113.9\n198.51.100.1, 10.0.0.2",
            "[2001:db8::1]:4711, 2001:db8:ffff::5",
            "unknown, _hidden, 999.1.1.1, ::ffff:10.0.0.9",
            "\"x, 198.51.100.1",
        ] {
            seeds.push([&[0], lines.as_bytes()].concat());
            seeds.push([&[6], lines.as_bytes()].concat());
            seeds.push([&[4, 192, 0, 2, 1], lines.as_bytes()].concat());
        }
        for lines in [
            "for=198.51.100.1",
            "For=\"198.51.100.1:4711\";proto=https;by=10.0.0.7",
            "for=192.0.2.43, for=\"[2001:db8:cafe::17]\", for=10.0.0.2",
            "by=10.0.0.3;for = unknown\nfor=10.0.0.4",
            "for=203.0.113.66;x=\", for=198.51.100.1;host=\"a\\\"b;for=203.0.113.66\"",
        ] {
            seeds.push([&[1], lines.as_bytes()].concat());
        }
        seeds
    }

    pub(crate) fn proxy() -> Vec<Vec<u8>> {
        let v2 = |command: u8, family: u8, body: &[u8]| {
            let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
            bytes.extend([
                command,
                family,
                0,
                u8::try_from(body.len()).expect("in range"),
            ]);
            bytes.extend_from_slice(body);
            bytes
        };
        let v4 = [198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x34, 1, 0xbb];
        let mut v6 = [0x20; 36];
        v6[32..].copy_from_slice(&[0x12, 0x34, 1, 0xbb]);
        let with_extension = [&v4[..], &[4, 0, 3, 1, 2, 3]].concat();
        vec![
            b"PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:f...f:ffff 1 2\r\n".to_vec(),
            b"PROXY TCP4 1.2.3".to_vec(),
            v2(0x21, 0x11, &v4),
            v2(0x21, 0x12, &with_extension),
            v2(0x21, 0x21, &v6),
            v2(0x20, 0x00, &[]),
            v2(0x21, 0x31, &[0; 216]),
        ]
    }
}
