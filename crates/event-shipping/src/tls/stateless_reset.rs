//! QUIC's stateless reset with keys derived from the private key. The keys outlive the process, so a
//! restarted aggregator can reset the connections of its killed predecessor.

use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::{CryptoError, HmacKey};
use std::sync::Arc;

const RESET_CONTEXT: &str = "fanzfiliate event-shipping 2026 stateless reset";
const ID_CONTEXT: &str = "fanzfiliate event-shipping 2026 connection ids";

struct ResetKey([u8; blake3::KEY_LEN]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = blake3::keyed_hash(&self.0, data);
        // A constant-time comparison.
        let given = <[u8; blake3::OUT_LEN]>::try_from(signature).map_err(|_| CryptoError)?;
        if expected == blake3::Hash::from_bytes(given) {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

pub(super) fn endpoint_config(secret: &[u8]) -> EndpointConfig {
    let ids = blake3::derive_key(ID_CONTEXT, secret);
    let ids = u64::from_le_bytes(*ids.first_chunk().expect("32 bytes hold 8"));
    let mut config = EndpointConfig::new(Arc::new(ResetKey(blake3::derive_key(
        RESET_CONTEXT,
        secret,
    ))));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config
}
