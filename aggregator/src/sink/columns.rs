//! The columns of clicks and impressions.

use super::decode::DecodedRow;
use super::native;
use bytes::Bytes;
use std::net::Ipv6Addr;
use tracking_events::SUB_COUNT;

/// Decimal(18, 6) has 18 digits.
const LARGEST_DECIMAL: i64 = 999_999_999_999_999_999;

/// The rows of one table, encoded; may be sent repeatedly.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The number of rows.
    pub rows: usize,
    /// The Native block, in consecutive pieces.
    pub parts: Vec<Bytes>,
}

/// The columns of `rows`; `None` without rows.
pub(super) fn build(rows: &[DecodedRow<'_>]) -> Option<Columns> {
    if rows.is_empty() {
        return None;
    }
    Some(Columns {
        rows: rows.len(),
        parts: block().write(rows),
    })
}

fn block<'r>() -> native::NativeBlock<'r, DecodedRow<'r>> {
    let mut block = native::NativeBlock::new();
    block.made_text("id", |row: &DecodedRow<'_>| row.visit.id.to_text());
    block.fixed("time", "DateTime64(6, 'UTC')", |row| {
        row.visit.time.0.to_le_bytes()
    });
    block.fixed("link_id", "UInt32", |row| row.visit.link.id.0.to_le_bytes());
    block.text("link", |row| row.visit.link.slug);
    block.text("offer", |row| row.visit.link.offer);
    block.text("campaign", |row| row.visit.link.campaign);
    block.text("affiliate", |row| row.visit.link.affiliate);
    block.fixed("visitor", "UInt64", |row| row.visit.visitor.0.to_le_bytes());
    block.fixed("flags", "UInt32", |row| row.visit.flags.0.to_le_bytes());
    block.fixed("status", "UInt16", |row| row.visit.status.to_le_bytes());
    block.fixed("ip", "IPv6", |row| {
        Ipv6Addr::from(row.visit.address).octets()
    });
    block.text("country", |row| country(&row.visit.geo.country));
    block.text("region", |row| row.visit.geo.region);
    block.fixed("asn", "UInt32", |row| row.visit.geo.asn.to_le_bytes());
    block.text("device", |row| row.visit.agent.device.as_str());
    block.text("os", |row| row.visit.agent.os);
    block.text("browser", |row| row.visit.agent.browser);
    block.text("user_agent", |row| row.visit.agent.raw);
    block.text("language", |row| row.visit.language);
    block.text("host", |row| row.visit.host);
    block.text("referrer", |row| row.visit.referrer);
    block.text("source", |row| row.visit.source);
    block.text("external_id", |row| row.visit.external_id);
    block.fixed("cost", "Decimal(18, 6)", |row| {
        let cost = row.visit.cost.0;
        // The encoding permits more digits than the column.
        cost.clamp(-LARGEST_DECIMAL, LARGEST_DECIMAL).to_le_bytes()
    });
    for index in 0..SUB_COUNT {
        block.text(&format!("sub{}", index + 1), move |row| {
            row.visit.subs[index]
        });
    }
    block.fixed("node", "UInt16", |row| row.key.node.to_le_bytes());
    block.fixed("lane", "UInt8", |row| row.key.lane.to_le_bytes());
    block.fixed("seq", "UInt64", |row| row.seq.to_le_bytes());
    block.fixed("journal", "UInt64", |row| row.key.journal.to_le_bytes());
    block
}

/// A country code of two capitals, or empty: the edge's version may be older or newer than this program's.
fn country(code: &[u8; 2]) -> &str {
    match std::str::from_utf8(code) {
        Ok(text) if code.iter().all(u8::is_ascii_uppercase) => text,
        _ => "",
    }
}
