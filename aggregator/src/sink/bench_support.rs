//! Entry points for benchmarks: decoded events, and their columns. Nothing else may use it.

use super::columns;
use super::decode::DecodedRow;
use bytes::Bytes;
use event_shipping::LaneKey;
use tracking_events::Visit;

/// Decoded clicks of one lane.
#[doc(hidden)]
pub struct DecodedClicks<'a>(Vec<DecodedRow<'a>>);

impl std::fmt::Debug for DecodedClicks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DecodedClicks").field(&self.0.len()).finish()
    }
}

impl<'a> DecodedClicks<'a> {
    /// Adds a place to each click.
    #[must_use]
    pub fn new(clicks: impl IntoIterator<Item = Visit<'a>>) -> Self {
        let key = LaneKey {
            node: 1,
            lane: 0,
            journal: 1,
        };
        let row = |(seq, visit)| DecodedRow { visit, key, seq };
        Self((1..).zip(clicks).map(row).collect())
    }

    /// The clicks' block in the Native format, in pieces.
    ///
    /// # Panics
    /// Without clicks.
    #[must_use]
    pub fn block(&self) -> Vec<Bytes> {
        columns::build(&self.0).expect("at least one click").parts
    }
}
