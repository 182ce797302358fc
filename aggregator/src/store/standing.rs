//! How affiliates stand, as people are shown it.

use super::sql::{Row, Value};
use super::{ConversionStore, ConversionStoreError, rfc3339};

macro_rules! show {
    ($where:literal) => {
        concat!(
            "SELECT name, tier, kyc_status, kyc_happened, COALESCE(earning_limit, -1) FROM affiliates ",
            $where,
            "ORDER BY kyc_happened DESC LIMIT $1"
        )
    };
}
const SHOW_ALL: &str = show!("");
const SHOW_ONE: &str = show!("WHERE name = $2 ");

/// An affiliate as the identity services' messages leave it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct ShownAffiliate {
    pub(crate) affiliate: String,
    pub(crate) tier: i64,
    pub(crate) kyc_status: String,
    /// When what decided it happened.
    pub(crate) since: String,
    /// What it may earn, in US cents; none without a limit.
    pub(crate) earning_limit_cents: Option<i64>,
}

impl ConversionStore {
    /// The affiliates whose standing changed last, or the one named.
    pub(crate) async fn affiliates(
        &self,
        name: &str,
        most: usize,
    ) -> Result<Vec<ShownAffiliate>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let most = Value::Number(i64::try_from(most).unwrap_or(i64::MAX));
        let lines = match name {
            "" => tx.fetch_all(SHOW_ALL, &[most]).await?,
            name => tx.fetch_all(SHOW_ONE, &[most, Value::Text(name)]).await?,
        };
        lines.iter().map(ShownAffiliate::read).collect()
    }
}

impl ShownAffiliate {
    fn read(line: &Row) -> Result<Self, ConversionStoreError> {
        Ok(Self {
            affiliate: line.text(0)?,
            tier: line.number(1)?,
            kyc_status: line.text(2)?,
            since: rfc3339(line.number(3)?),
            earning_limit_cents: Some(line.number(4)?).filter(|limit| *limit >= 0),
        })
    }
}
