//! The client behind a chain of proxies, with honest and forged headers.

use super::*;
use proptest::prelude::*;
use std::iter::once;

const PROXY: &str = "10.0.0.1";

fn chain(header: ForwardedHeader) -> ClientAddress {
    let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
    ClientAddress::new(
        trusted.map(|range| range.parse().expect("range")).to_vec(),
        header,
    )
}

fn resolve(header: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
    let peer = peer.parse().expect("address");
    let lines = lines.iter().rev().map(|line| line.as_bytes());
    chain(header).resolve(peer, lines).to_string()
}

#[test]
fn x_forwarded_for() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("192.0.2.1", &[], "192.0.2.1"),
        ("192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
        ("::ffff:192.0.2.1", &[], "192.0.2.1"),
        (PROXY, &[], PROXY),
        (PROXY, &["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
        (PROXY, &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (
            PROXY,
            &["203.0.113.9, 198.51.100.1,10.0.0.2 , 10.0.0.3"],
            "198.51.100.1",
        ),
        (
            PROXY,
            &["203.0.113.9", "198.51.100.1, 10.0.0.2"],
            "198.51.100.1",
        ),
        (PROXY, &["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        (PROXY, &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (PROXY, &["198.51.100.1:4711"], "198.51.100.1"),
        (PROXY, &["2001:db8::1"], "2001:db8::1"),
        (PROXY, &["[2001:db8::1]"], "2001:db8::1"),
        (PROXY, &["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXY, &["198.51.100.1, 2001:db8:ffff::5"], "198.51.100.1"),
        (PROXY, &["198.51.100.1, unknown"], PROXY),
        (PROXY, &["198.51.100.1, _hidden, 10.0.0.9"], "10.0.0.9"),
        (PROXY, &["198.51.100.1, 999.1.1.1, 10.0.0.9"], "10.0.0.9"),
        (PROXY, &["198.51.100.1, , 10.0.0.9"], "10.0.0.9"),
        (PROXY, &["198.51.100.1", "", "10.0.0.9"], "10.0.0.9"),
        (PROXY, &["198.51.100.1, [2001:db8::1"], PROXY),
        (PROXY, &["fe80::1%eth0"], PROXY),
        (PROXY, &["\u{e4}, 10.0.0.9"], "10.0.0.9"),
        (PROXY, &["\"x, 198.51.100.1"], "198.51.100.1"),
    ];
    for (peer, lines, expected) in cases {
        let found = resolve(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(&found, expected, "{peer} {lines:?}");
    }
}

/// A proxy that quotes the requested `Host` (RFC 7239), with arbitrary content.
#[test]
fn quoted_values_of_a_proxy_are_ignored() {
    let resolved = |line: &str| resolve(ForwardedHeader::Forwarded, PROXY, &[line]);
    for line in [
        r#"host="x;for=203.0.113.66;y";for=198.51.100.1"#,
        r#"for=203.0.113.66;x=, for=198.51.100.1;host="a\"b""#,
        r#"for=203.0.113.66;x=", for=198.51.100.1;host="a\"b""#,
        r#"for=203.0.113.66, host="a\\";for=198.51.100.1"#,
        r#"for=203.0.113.66, host="a, for=203.0.113.66";for="198.51.100.1:80""#,
    ] {
        assert_eq!(resolved(line), "198.51.100.1", "{line}");
    }
    // An open quote may come from the visitor.
    assert_eq!(
        resolved(r#"for=203.0.113.66;x=, for=198.51.100.1;host="a"#),
        PROXY
    );
}

#[test]
fn forwarded() {
    let cases: &[(&[&str], &str)] = &[
        (&["for=198.51.100.1"], "198.51.100.1"),
        (
            &["For=\"198.51.100.1:4711\";proto=https;by=10.0.0.7"],
            "198.51.100.1",
        ),
        (&["proto=http ; for=198.51.100.1"], "198.51.100.1"),
        (&["for=\"[2001:db8::1]:4711\", for=10.0.0.2"], "2001:db8::1"),
        (&["for=\"[2001:db8::1]\""], "2001:db8::1"),
        (
            &["for=203.0.113.9, for=198.51.100.1, for=10.0.0.2"],
            "198.51.100.1",
        ),
        (&["for=203.0.113.9", "for=198.51.100.1"], "198.51.100.1"),
        (&["for=198.51.100.1, for=unknown"], PROXY),
        (
            &["for=198.51.100.1, for=\"_gazonk\", for=10.0.0.2"],
            "10.0.0.2",
        ),
        (&["for=198.51.100.1, proto=https"], PROXY),
        (&["198.51.100.1"], PROXY),
        (&["for=\"x, for=198.51.100.1"], "198.51.100.1"),
        (
            &["for=203.0.113.9;host=\"a, for=203.0.113.8\", for=10.0.0.2"],
            "203.0.113.9",
        ),
    ];
    for (lines, expected) in cases {
        let found = resolve(ForwardedHeader::Forwarded, PROXY, lines);
        assert_eq!(&found, expected, "{lines:?}");
    }
}

#[test]
fn only_the_configured_header_of_trusted_proxies_counts() {
    let peer = PROXY.parse().expect("address");
    let resolve = |chain: ClientAddress, line: &str| {
        let name = chain.header().as_str();
        format!("{name} {}", chain.resolve(peer, once(line.as_bytes())))
    };
    assert_eq!(
        resolve(chain(ForwardedHeader::Forwarded), "for=198.51.100.1"),
        "forwarded 198.51.100.1"
    );
    assert_eq!(
        resolve(chain(ForwardedHeader::XForwardedFor), "203.0.113.9"),
        "x-forwarded-for 203.0.113.9"
    );
    let trusts_no_peer = ClientAddress::default();
    assert_eq!(
        trusts_no_peer.resolve(peer, once(b"203.0.113.9".as_slice())),
        peer
    );
}

#[test]
fn forwarded_chain_is_bounded_in_hops_and_bytes() {
    let hops = |count: usize| format!("198.51.100.1{}", ", 10.0.0.2".repeat(count));
    let walk = |line: &str| resolve(ForwardedHeader::XForwardedFor, PROXY, &[line]);
    assert_eq!(walk(&hops(MAX_HOPS - 1)), "198.51.100.1");
    assert_eq!(walk(&hops(MAX_HOPS)), "10.0.0.2");
    let padded = |spaces: usize| format!("198.51.100.1,{}10.0.0.2", " ".repeat(spaces));
    assert_eq!(walk(&padded(MAX_HEADER_BYTES - 30)), "198.51.100.1");
    assert_eq!(walk(&padded(MAX_HEADER_BYTES)), PROXY);
}

#[test]
fn storage_keeps_the_network_or_the_address() {
    let stored = |address: &str, storage| {
        let octets = store(address.parse().expect("address"), storage);
        Ipv6Addr::from(octets).to_canonical().to_string()
    };
    assert_eq!(stored("192.0.2.77", AddressStorage::Truncated), "192.0.2.0");
    assert_eq!(
        stored("::ffff:192.0.2.77", AddressStorage::Truncated),
        "192.0.2.0"
    );
    assert_eq!(
        stored("2001:db8:1:2::3", AddressStorage::Truncated),
        "2001:db8:1::"
    );
    // IPv4 within IPv6: 192.0.2.77 by 6to4 and by NAT64.
    assert_eq!(
        stored("2002:c000:24d:1:2:3:4:5", AddressStorage::Truncated),
        "2002:c000:200::"
    );
    assert_eq!(
        stored("64:ff9b::192.0.2.77", AddressStorage::Truncated),
        "64:ff9b::c000:200"
    );
    assert_eq!(
        stored("64:ff9b:1::192.0.2.77", AddressStorage::Truncated),
        "64:ff9b:1::"
    );
    assert_eq!(
        stored("2002:c000:24d::1", AddressStorage::Full),
        "2002:c000:24d::1"
    );
    assert_eq!(stored("192.0.2.77", AddressStorage::Full), "192.0.2.77");
    assert_eq!(
        stored("2001:db8:1:2::3", AddressStorage::Full),
        "2001:db8:1:2::3"
    );
}

proptest! {
    #[test]
    fn any_header_yields_the_peer_or_one_of_its_addresses(line in "[ -~]{0,200}") {
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            let found = resolve(header, PROXY, &[&line]);
            prop_assert!(found == PROXY || !line.is_empty());
            prop_assert_eq!(resolve(header, "192.0.2.1", &[&line]), "192.0.2.1");
        }
    }

    #[test]
    fn forged_header_never_hides_a_proxys_address(forged in "[ -~]{0,80}") {
        let line = format!("{forged}, 198.51.100.1, 10.0.0.2");
        prop_assert_eq!(resolve(ForwardedHeader::XForwardedFor, PROXY, &[&line]), "198.51.100.1");
        let line = format!("{forged}, for=198.51.100.1, for=10.0.0.2");
        prop_assert_eq!(resolve(ForwardedHeader::Forwarded, PROXY, &[&line]), "198.51.100.1");
    }
}
