//! Headers of both versions, cut at every length, and random bytes.

use super::*;
use proptest::prelude::*;

fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = V2.to_vec();
    bytes.extend_from_slice(&[version_command, family]);
    bytes.extend_from_slice(&u16::try_from(body.len()).expect("in range").to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn v2_ip4() -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 1, 187, 4, 0, 2, 9, 9],
    )
}

fn v2_ip6() -> Vec<u8> {
    let mut body = [0; 36];
    body[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    body[15] = 1;
    body[32..34].copy_from_slice(&4711_u16.to_be_bytes());
    v2(0x21, 0x21, &body)
}

/// Whole headers with the source they name.
fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
    vec![
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(),
            Some("192.0.2.1:4711"),
        ),
        (
            b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(),
            Some("[2001:db8::1]:4711"),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n".to_vec(),
            Some("192.0.2.1:4711"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ff:: ee:: 1 2\r\n".to_vec(), None),
        (v2_ip4(), Some("192.0.2.1:4711")),
        (v2_ip6(), Some("[2001:db8::1]:4711")),
        (v2(0x20, 0, &[]), None),
        (v2(0x20, 0x11, &[1, 2, 3]), None),
        (v2(0x21, 0, &[1, 2, 3]), None),
        (v2(0x21, 0x31, &[0; 216]), None),
    ]
}

#[test]
fn complete_headers_yield_source_and_length() {
    for (header, source) in headers() {
        let source = source.map(|text| text.parse().expect("socket address"));
        let expected = Ok(Parsed::Done {
            source,
            len: header.len(),
        });
        assert_eq!(parse(&header), expected, "{header:?}");
        let with_request = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&with_request), expected);
    }
}

#[test]
fn every_truncation_is_incomplete() {
    for (header, _) in headers() {
        for len in 0..header.len() {
            assert_eq!(
                parse(&header[..len]),
                Ok(Parsed::Incomplete),
                "{len} of {header:?}"
            );
        }
    }
}

#[test]
fn invalid_headers_are_rejected() {
    let long_line = [b"PROXY TCP4 ".as_slice(), &[b'1'; 100]].concat();
    let cases: Vec<(Vec<u8>, ProxyError)> = vec![
        (b"GET / HTTP/1.1\r\n".to_vec(), ProxyError::NotProxy),
        (b"PROXX".to_vec(), ProxyError::NotProxy),
        (b"\r\n\r\n\0\r\nQUIZ".to_vec(), ProxyError::NotProxy),
        (long_line, ProxyError::TooLong),
        (v2(0x21, 0x11, &[0; MAX_HEADER_BYTES]), ProxyError::TooLong),
        (
            b"PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (
            b"PROXY TCP4 2001:db8::1 10.0.0.1 1 2\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (
            b"PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (
            b"PROXY TCP4 \xff 10.0.0.1 1 2\r\n".to_vec(),
            ProxyError::Malformed,
        ),
        (v2(0x11, 0x11, &[0; 12]), ProxyError::Malformed),
        (v2(0x22, 0x11, &[0; 12]), ProxyError::Malformed),
        (v2(0x21, 0x11, &[0; 11]), ProxyError::Malformed),
        (v2(0x21, 0x21, &[0; 35]), ProxyError::Malformed),
        (v2(0x21, 0x41, &[0; 12]), ProxyError::Malformed),
        (v2(0x21, 0x13, &[0; 12]), ProxyError::Malformed),
    ];
    for (bytes, error) in cases {
        assert_eq!(parse(&bytes), Err(error), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        version in 0_usize..3,
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [[b"".as_slice(), V1, V2][version], &tail].concat();
        if let Ok(Parsed::Done { len, .. }) = parse(&bytes) {
            prop_assert!(len <= bytes.len() && len <= MAX_HEADER_BYTES);
        }
    }
}
