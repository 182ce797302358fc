//! Rows to the columns of a Native block. The wire carries plain types; ClickHouse makes
//! LowCardinality of them where the table wants it.

use super::decode::Row;
use clickhouse::native::builder::{BlockBuilder, BlockBuilderError, UpsertColumnError};
use clickhouse::native::encode::{Encode, ValueWriter};
use clickhouse::native::{Block, DataTypeNode};
use std::error::Error;
use std::net::Ipv6Addr;
use tracking_events::{ClickId, CostMicros, SUB_COUNT};

/// The largest number of 18 digits, as millionths.
const LARGEST_DECIMAL: i64 = 999_999_999_999_999_999;

type BoxedError = Box<dyn Error + Send + Sync>;

/// Columns that the client library refuses: the program is wrong, not the data.
#[derive(Debug, thiserror::Error)]
#[error("a block can't be built: {0}")]
pub(crate) struct ColumnsError(String);

/// Builds the block of one table; `None` without rows.
pub(super) fn build(rows: &[Row<'_>]) -> Result<Option<Block>, ColumnsError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let mut columns = Columns {
        builder: BlockBuilder::new(),
        rows,
    };
    columns.add("id", |row| Id(row.visit.id))?;
    columns.add("time", |row| Time(row.visit.time.0))?;
    columns.add("link_id", |row| row.visit.link.id.0)?;
    columns.texts()?;
    columns.add("visitor", |row| row.visit.visitor.0)?;
    columns.add("flags", |row| row.visit.flags.0)?;
    columns.add("status", |row| row.visit.status)?;
    columns.add("ip", |row| Ipv6Addr::from(row.visit.address))?;
    columns.add("asn", |row| row.visit.geo.asn)?;
    columns.add("cost", |row| Cost(row.visit.cost))?;
    columns.subs()?;
    columns.add("node", |row| row.key.node)?;
    columns.add("lane", |row| row.key.lane)?;
    columns.add("seq", |row| row.seq)?;
    columns.add("journal", |row| row.key.journal)?;
    Ok(Some(columns.builder.build()?))
}

struct Columns<'a> {
    builder: BlockBuilder,
    rows: &'a [Row<'a>],
}

impl<'a> Columns<'a> {
    fn add<T: Encode>(
        &mut self,
        name: impl Into<String>,
        value: impl Fn(&'a Row<'a>) -> T,
    ) -> Result<(), ColumnsError> {
        self.builder
            .upsert_column::<T>(name)?
            .add_all(self.rows.iter().map(value))?;
        Ok(())
    }

    fn texts(&mut self) -> Result<(), ColumnsError> {
        self.add("link", |row| row.visit.link.slug)?;
        self.add("offer", |row| row.visit.link.offer)?;
        self.add("campaign", |row| row.visit.link.campaign)?;
        self.add("affiliate", |row| row.visit.link.affiliate)?;
        self.add("country", |row| country(&row.visit.geo.country))?;
        self.add("region", |row| row.visit.geo.region)?;
        self.add("device", |row| row.visit.agent.device.as_str())?;
        self.add("os", |row| row.visit.agent.os)?;
        self.add("browser", |row| row.visit.agent.browser)?;
        self.add("user_agent", |row| row.visit.agent.raw)?;
        self.add("language", |row| row.visit.language)?;
        self.add("host", |row| row.visit.host)?;
        self.add("referrer", |row| row.visit.referrer)?;
        self.add("source", |row| row.visit.source)?;
        self.add("external_id", |row| row.visit.external_id)
    }

    fn subs(&mut self) -> Result<(), ColumnsError> {
        for index in 0..SUB_COUNT {
            self.add(format!("sub{}", index + 1), |row| row.visit.subs[index])?;
        }
        Ok(())
    }
}

/// The two letters, or nothing when unknown (two NUL bytes) or not letters at all.
fn country(code: &[u8; 2]) -> &str {
    match std::str::from_utf8(code) {
        Ok(text) if code.iter().all(u8::is_ascii_uppercase) => text,
        _ => "",
    }
}

struct Id(ClickId);

impl Encode for Id {
    fn produces() -> DataTypeNode {
        DataTypeNode::String
    }

    fn encode(&self, writer: &mut ValueWriter<'_>) -> Result<(), BoxedError> {
        Ok(writer.write_string(&self.0.to_chars())?)
    }
}

/// Microseconds since 1970.
struct Time(u64);

impl Encode for Time {
    fn produces() -> DataTypeNode {
        named("DateTime64(6, 'UTC')")
    }

    fn encode(&self, writer: &mut ValueWriter<'_>) -> Result<(), BoxedError> {
        Ok(writer.write_fixed(&i64::try_from(self.0)?.to_le_bytes())?)
    }
}

struct Cost(CostMicros);

impl Encode for Cost {
    fn produces() -> DataTypeNode {
        named("Decimal(18, 6)")
    }

    fn encode(&self, writer: &mut ValueWriter<'_>) -> Result<(), BoxedError> {
        let held = self.0.0.clamp(-LARGEST_DECIMAL, LARGEST_DECIMAL);
        Ok(writer.write_fixed(&held.to_le_bytes())?)
    }
}

fn named(name: &str) -> DataTypeNode {
    DataTypeNode::new(name).expect("the names above are of types that the client library knows")
}

impl From<UpsertColumnError> for ColumnsError {
    fn from(error: UpsertColumnError) -> Self {
        Self(error.to_string())
    }
}

impl From<BlockBuilderError> for ColumnsError {
    fn from(error: BlockBuilderError) -> Self {
        Self(error.to_string())
    }
}

impl From<BoxedError> for ColumnsError {
    fn from(error: BoxedError) -> Self {
        Self(error.to_string())
    }
}
