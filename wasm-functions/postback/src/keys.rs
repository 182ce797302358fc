//! The keys that verify click ids.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use functions_shared::{Reason, Refusal};
use tracking_events::{ClickId, ClickIdError, ClickIdParts, KeyId, KeyRing, MacKey};

/// The click id keys of this deployment.
#[derive(Debug, Clone)]
pub struct Keys(KeyRing);

impl Keys {
    /// Parses `1:HEX,2:HEX`, with 64 hexadecimal digits each.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut keys = Vec::new();
        for entry in text.split(',') {
            let (id, secret) = entry.trim().split_once(':')?;
            let secret: [u8; 32] = HEX.decode(secret.as_bytes()).ok()?.try_into().ok()?;
            keys.push((KeyId::new(id.parse().ok()?).ok()?, MacKey::new(secret)));
        }
        // Verification uses all keys; the signing key does not matter.
        let any = keys.first()?.0;
        KeyRing::new(any, keys).ok().map(Self)
    }

    /// The parts of a click id, if one of the keys signed it.
    pub(crate) fn verify(&self, click: &ClickId) -> Result<ClickIdParts, Refusal> {
        self.0.verify(click).map_err(|error| match error {
            ClickIdError::UnknownKey(_) => Reason::UnknownClickKey
                .because("the click id's key is not known here; try again later")
                .recorded(error.to_string()),
            _ => Reason::ForgedClickId
                .because("the click id is not one of this fleet's")
                .recorded(error.to_string()),
        })
    }
}
