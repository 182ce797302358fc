//! Sets of keys (RFC 7517). Keys of other types and uses are ignored, as the RFC demands.

use super::algorithm::{Algorithm, PublicKey, decode};
use serde::Deserialize;

/// Keys of a set that are read.
const MAX_KEYS: usize = 64;

/// The usable keys of a provider.
#[derive(Clone, Default)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    /// The only algorithm that the key may be used for, if the set restricts it.
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let set: RawSet = serde_json::from_slice(body).ok()?;
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let raw = keys.filter_map(|key| serde_json::from_value::<RawKey>(key).ok());
        Some(Self(raw.filter_map(usable).collect()))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys that a token may be signed with. A token without `kid` is accepted only if a single key fits.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&PublicKey> {
        let fits = |key: &&Key| {
            key.key.supports(algorithm)
                && key.algorithm.is_none_or(|only| only == algorithm)
                && id.is_none_or(|id| key.id.as_deref() == Some(id))
        };
        let found: Vec<_> = self.0.iter().filter(fits).map(|key| &key.key).collect();
        if id.is_none() && found.len() > 1 {
            return Vec::new();
        }
        found
    }
}

fn usable(raw: RawKey) -> Option<Key> {
    if raw.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    let algorithm = match raw.alg.as_deref() {
        Some(name) => Some(Algorithm::from_name(name)?),
        None => None,
    };
    let part = |part: &Option<String>| decode(part.as_deref()?);
    let key = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("RSA", _) => PublicKey::Rsa {
            n: without_zeros(part(&raw.n)?),
            e: without_zeros(part(&raw.e)?),
        },
        ("EC", Some("P-256")) => PublicKey::P256(point(&part(&raw.x)?, &part(&raw.y)?)?),
        ("OKP", Some("Ed25519")) => PublicKey::Ed25519(part(&raw.x)?),
        _ => return None,
    };
    let id = raw.kid;
    Some(Key { id, algorithm, key })
}

/// `ring` refuses leading zeros, which some providers write.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

/// SEC 1, section 2.3.3: uncompressed.
fn point(x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    (x.len() == 32 && y.len() == 32).then(|| [&[4], x, y].concat())
}
