//! Rows to the columns of a block in ClickHouse's Native format, written once into the bytes that
//! are sent.
//!
//! The wire carries plain types; ClickHouse makes LowCardinality of them where the table wants it.
//! The format: <https://clickhouse.com/docs/interfaces/formats/Native>. The client library's own
//! builder and writer keep every column apart and send each text by itself, which cost several times
//! as much.

use super::decode::Row;
use bytes::Bytes;
use std::net::Ipv6Addr;
use tracking_events::SUB_COUNT;

/// Decimal(18, 6) has 18 digits.
const LARGEST_DECIMAL: i64 = 999_999_999_999_999_999;
/// About what a row takes, so that a block is hardly ever moved while it grows.
const ROW_BYTES: usize = 512;
const COLUMNS: usize = 28 + SUB_COUNT;

/// A block of one table, ready to be sent, as often as need be.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// How many rows.
    pub(crate) rows: usize,
    /// The block in the Native format.
    pub(crate) bytes: Bytes,
}

/// The columns of `rows`; none when there are no rows.
pub(super) fn build(rows: &[Row<'_>]) -> Option<Columns> {
    if rows.is_empty() {
        return None;
    }
    let mut writer = Writer {
        out: Vec::with_capacity(rows.len() * ROW_BYTES),
        rows,
        columns: 0,
    };
    writer.length(COLUMNS);
    writer.length(rows.len());
    writer.all();
    assert_eq!(writer.columns, COLUMNS, "the block says how many there are");
    Some(Columns {
        rows: rows.len(),
        bytes: writer.out.into(),
    })
}

struct Writer<'a> {
    out: Vec<u8>,
    rows: &'a [Row<'a>],
    columns: usize,
}

impl<'a> Writer<'a> {
    fn all(&mut self) {
        self.id();
        self.fixed("time", "DateTime64(6, 'UTC')", |row| {
            row.visit.time.0.to_le_bytes()
        });
        self.fixed("link_id", "UInt32", |row| row.visit.link.id.0.to_le_bytes());
        self.text("link", |row| row.visit.link.slug);
        self.text("offer", |row| row.visit.link.offer);
        self.text("campaign", |row| row.visit.link.campaign);
        self.text("affiliate", |row| row.visit.link.affiliate);
        self.fixed("visitor", "UInt64", |row| row.visit.visitor.0.to_le_bytes());
        self.fixed("flags", "UInt32", |row| row.visit.flags.0.to_le_bytes());
        self.fixed("status", "UInt16", |row| row.visit.status.to_le_bytes());
        self.fixed("ip", "IPv6", |row| {
            Ipv6Addr::from(row.visit.address).octets()
        });
        self.text("country", |row| country(&row.visit.geo.country));
        self.text("region", |row| row.visit.geo.region);
        self.fixed("asn", "UInt32", |row| row.visit.geo.asn.to_le_bytes());
        self.text("device", |row| row.visit.agent.device.as_str());
        self.text("os", |row| row.visit.agent.os);
        self.text("browser", |row| row.visit.agent.browser);
        self.text("user_agent", |row| row.visit.agent.raw);
        self.text("language", |row| row.visit.language);
        self.text("host", |row| row.visit.host);
        self.text("referrer", |row| row.visit.referrer);
        self.text("source", |row| row.visit.source);
        self.text("external_id", |row| row.visit.external_id);
        self.fixed("cost", "Decimal(18, 6)", |row| {
            let cost = row.visit.cost.0;
            // The codec allows more digits than the column holds.
            cost.clamp(-LARGEST_DECIMAL, LARGEST_DECIMAL).to_le_bytes()
        });
        for index in 0..SUB_COUNT {
            self.text(&format!("sub{}", index + 1), |row| row.visit.subs[index]);
        }
        self.fixed("node", "UInt16", |row| row.key.node.to_le_bytes());
        self.fixed("lane", "UInt8", |row| row.key.lane.to_le_bytes());
        self.fixed("seq", "UInt64", |row| row.seq.to_le_bytes());
        self.fixed("journal", "UInt64", |row| row.key.journal.to_le_bytes());
    }

    fn id(&mut self) {
        self.head("id", "String");
        for row in self.rows {
            let text = row.visit.id.to_chars();
            self.length(text.len());
            self.out.extend_from_slice(&text);
        }
    }

    fn text(&mut self, name: &str, value: impl Fn(&'a Row<'a>) -> &'a str) {
        self.head(name, "String");
        for row in self.rows {
            self.string(value(row));
        }
    }

    fn fixed<const N: usize>(
        &mut self,
        name: &str,
        kind: &str,
        value: impl Fn(&Row<'_>) -> [u8; N],
    ) {
        self.head(name, kind);
        for row in self.rows {
            self.out.extend_from_slice(&value(row));
        }
    }

    fn head(&mut self, name: &str, kind: &str) {
        self.columns += 1;
        self.string(name);
        self.string(kind);
    }

    fn string(&mut self, text: &str) {
        self.length(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A number in seven bits a byte, the lowest first (LEB128).
    fn length(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
}

/// Two capitals or nothing: an edge may be older or newer than this program.
fn country(code: &[u8; 2]) -> &str {
    match std::str::from_utf8(code) {
        Ok(text) if code.iter().all(u8::is_ascii_uppercase) => text,
        _ => "",
    }
}
