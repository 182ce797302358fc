//! What benchmarks see of the sink: decoded events, and the columns made of them. Nothing else may
//! use it.

use super::columns;
use super::decode::Row;
use bytes::Bytes;
use event_shipping::LaneKey;
use tracking_events::Visit;

/// Decoded clicks of one lane.
#[doc(hidden)]
pub struct DecodedClicks<'a>(Vec<Row<'a>>);

impl std::fmt::Debug for DecodedClicks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DecodedClicks").field(&self.0.len()).finish()
    }
}

impl<'a> DecodedClicks<'a> {
    /// Gives each click its place.
    #[must_use]
    pub fn new(clicks: impl IntoIterator<Item = Visit<'a>>) -> Self {
        let key = LaneKey {
            node: 1,
            lane: 0,
            journal: 1,
        };
        let row = |(seq, visit)| Row { visit, key, seq };
        Self((1..).zip(clicks).map(row).collect())
    }

    /// The clicks' block in the Native format, in pieces.
    ///
    /// # Panics
    /// Without clicks.
    #[must_use]
    pub fn block(&self) -> Vec<Bytes> {
        columns::build(&self.0).expect("there are clicks").parts
    }
}
