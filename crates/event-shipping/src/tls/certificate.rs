//! A parsed certificate: the nodes it names, its fingerprint and its expiry.

use super::TlsError;
use quinn::Connection;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate};

const NODE_URI_PREFIX: &str = "fanzfiliate://edge/";
const NODE_DNS_PREFIX: &str = "edge-";
const NODE_DNS_SUFFIX: &str = ".fanzfiliate.internal";

/// The URI that names a node in a certificate.
pub(super) fn node_uri(node: u16) -> String {
    format!("{NODE_URI_PREFIX}{node}")
}

/// A parsed certificate with its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    nodes: Vec<u16>,
    fingerprint: Fingerprint,
    expires_at: i64,
}

impl Certificate {
    /// Parses the first certificate of a chain.
    ///
    /// # Errors
    /// When the chain is empty or the certificate is not X.509.
    pub fn parse(chain: Vec<CertificateDer<'static>>) -> Result<Self, TlsError> {
        let unreadable = |cause: String| TlsError::Certificate(cause);
        let leaf = chain
            .first()
            .ok_or_else(|| unreadable("the chain is empty".into()))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|cause| unreadable(cause.to_string()))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|cause| unreadable(cause.to_string()))?;
        let names = names
            .iter()
            .flat_map(|extension| &extension.value.general_names);
        let mut nodes: Vec<u16> = names.filter_map(named_node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Ok(Self {
            nodes,
            fingerprint: Fingerprint::of(leaf),
            expires_at: parsed.validity().not_after.timestamp(),
            chain,
        })
    }

    /// The certificate with which the peer of `connection` authenticated.
    ///
    /// # Errors
    /// When the peer sent none or it can't be parsed.
    pub fn of_peer(connection: &Connection) -> Result<Self, TlsError> {
        let chain = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        Self::parse(chain.map(|chain| *chain).unwrap_or_default())
    }

    /// The nodes it names, in order; empty for an aggregator.
    #[must_use]
    pub fn nodes(&self) -> &[u16] {
        &self.nodes
    }

    /// The certificate's fingerprint.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The last second of its validity, since 1970.
    #[must_use]
    pub const fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// The last second of its validity as a date, as openssl shows it.
    pub(super) fn expiry_date(&self) -> String {
        let date = ASN1Time::from_timestamp(self.expires_at);
        date.map_or_else(|_| self.expires_at.to_string(), |date| date.to_string())
    }

    pub(super) fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

/// The node in one of a certificate's names.
fn named_node(name: &GeneralName<'_>) -> Option<u16> {
    match name {
        GeneralName::URI(uri) => node_number(uri.strip_prefix(NODE_URI_PREFIX)?),
        GeneralName::DNSName(dns) => {
            let dns = dns.to_ascii_lowercase();
            let number = dns.strip_prefix(NODE_DNS_PREFIX)?;
            node_number(number.strip_suffix(NODE_DNS_SUFFIX)?)
        }
        _ => None,
    }
}

/// Parses decimal digits without a leading zero, so that each node has one spelling.
fn node_number(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten()
}

/// The SHA-256 of a certificate's DER, read as `openssl x509 -fingerprint -sha256` prints it, with its label or without.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; Self::BYTES]);

/// A text that is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a SHA-256 fingerprint has 64 hexadecimal digits, with or without colons")]
pub struct InvalidFingerprint;

impl Fingerprint {
    const BYTES: usize = 32;

    fn of(der: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let digits = match text.split_once('=') {
            Some((label, digits)) if label.eq_ignore_ascii_case("sha256 fingerprint") => digits,
            _ => text,
        };
        let digits: Option<Vec<u8>> = digits
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits = digits.ok_or(InvalidFingerprint)?;
        if digits.len() != 2 * Self::BYTES {
            return Err(InvalidFingerprint);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (pair[0] << 4) | pair[1];
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_number_has_one_spelling() {
        for (text, node) in [("1", Some(1)), ("65535", Some(65_535))] {
            assert_eq!(node_number(text), node, "{text}");
        }
        for text in ["", "0", "07", "+7", "-7", " 7", "7 ", "65536", "7/8", "٧"] {
            assert_eq!(node_number(text), None, "{text}");
        }
    }

    #[test]
    fn named_node_accepts_uri_and_dns_only() {
        let uri = GeneralName::URI;
        assert_eq!(named_node(&uri("fanzfiliate://edge/7")), Some(7));
        assert_eq!(named_node(&uri("fanzfiliate://edge/7/x")), None);
        assert_eq!(named_node(&uri("https://edge/7")), None);
        let dns = GeneralName::DNSName;
        assert_eq!(named_node(&dns("edge-7.fanzfiliate.internal")), Some(7));
        assert_eq!(named_node(&dns("Edge-7.FanzFiliate.internal")), Some(7));
        assert_eq!(named_node(&dns("edge-7.fanzfiliate.internal.evil")), None);
        assert_eq!(named_node(&dns("*.fanzfiliate.internal")), None);
        assert_eq!(named_node(&GeneralName::RFC822Name("edge-7")), None);
    }

    #[test]
    fn fingerprint_is_read_with_and_without_colons() {
        let plain = "0123456789abcdef".repeat(4);
        let pairs: Vec<_> = plain.as_bytes().chunks(2).map(<[u8]>::to_vec).collect();
        let colons = String::from_utf8(pairs.join(&b':')).expect("ASCII");
        let parsed: Fingerprint = colons.to_uppercase().parse().expect("fingerprint");
        assert_eq!(parsed.to_string(), plain);
        assert_eq!(plain.parse(), Ok(parsed));
        for wrong in [
            "",
            &plain[1..],
            &format!("{plain}0"),
            &plain.replace('0', "g"),
        ] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(InvalidFingerprint));
        }
    }
}
