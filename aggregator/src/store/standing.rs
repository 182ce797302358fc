//! The list of affiliates for operators.

use super::{ConversionStore, ConversionStoreError, rfc3339};
use sql_store::{Statement, typed_row};

/// An affiliate after all messages of identity services.
#[derive(Debug, serde::Serialize)]
pub(crate) struct ListedAffiliate {
    pub(crate) affiliate: String,
    pub(crate) tier: i64,
    pub(crate) kyc_status: String,
    /// The time of the check that decided it.
    pub(crate) since: String,
    /// The maximum earnings in US cents; none without a limit.
    pub(crate) earning_limit_cents: Option<i64>,
}

typed_row! {
    struct AffiliateRow {
        name: String,
        tier: i64,
        kyc_status: String,
        kyc_happened: i64,
        earning_limit: Option<i64>,
    }
}

impl ConversionStore {
    /// The affiliates whose standing changed last, at most `limit`; only the one with this name unless it is empty.
    pub(crate) async fn affiliates(
        &self,
        name: &str,
        limit: usize,
    ) -> Result<Vec<ListedAffiliate>, ConversionStoreError> {
        let mut tx = self.begin().await?;
        let mut select = Statement::new(
            "SELECT name, tier, kyc_status, kyc_happened, earning_limit FROM affiliates",
        );
        if !name.is_empty() {
            select = select.push(" WHERE name = ").push_bind(name);
        }
        let select = select.push(" ORDER BY kyc_happened DESC LIMIT ");
        let rows: Vec<AffiliateRow> = tx.fetch_all(select.push_bind(limit)).await?;
        Ok(rows.into_iter().map(ListedAffiliate::from).collect())
    }
}

impl From<AffiliateRow> for ListedAffiliate {
    fn from(row: AffiliateRow) -> Self {
        Self {
            affiliate: row.name,
            tier: row.tier,
            kyc_status: row.kyc_status,
            since: rfc3339(row.kyc_happened),
            earning_limit_cents: row.earning_limit,
        }
    }
}
